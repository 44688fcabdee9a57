"""Compiled code on disk: found again, never stale, and no run fails for the folder's sake."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local import cache

pytestmark = pytest.mark.slow
F32 = np.float32

PROGRAM = """
import collections
import numpy as np
import fedmpi as fm

Model = collections.namedtuple("Model", "w b")
SCALE = 3.0

def helper(x):
    return x * SCALE

@fm.numba_computation(np.float32)
def f(x):
    return Model(helper(x), x)

@fm.federated_computation(fm.SequenceType(np.float32))
def total(values):
    return fm.sequence_sum(fm.sequence_map(fm.numba_computation(lambda x: x + 1, np.float32), values))

print(*f(2.0), total([1.0, 2.0]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a cache folder of the test's own."""
    monkeypatch.setenv("FEDMPI_CACHE_DIR", str(tmp_path / "cache"))
    cache.folder.cache_clear()
    yield tmp_path / "cache"
    cache.folder.cache_clear()


def start(script, folder, **environment):
    environment = {**os.environ, "FEDMPI_CACHE_DIR": str(folder), "NUMBA_DEBUG_CACHE": "1", **environment}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(fm.__file__).parents[1]), environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    saved = re.findall(r"data saved to '.*[/\\](entry_\w+)\.", output)
    loaded = re.findall(r"data loaded from '.*[/\\](entry_\w+)\.", output)
    return output.splitlines()[-1], saved, loaded


def test_a_second_process_compiles_nothing_and_four_at_once_compile_once(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    together = [finish(p) for p in [start(script, tmp_path / "cache") for _ in range(4)]]
    saved = [name for _, names, _ in together for name in names]
    assert len(saved) == len(set(saved)) == 3, together
    result, saved, loaded = finish(start(script, tmp_path / "cache"))
    assert not saved
    assert len(loaded) == 3
    assert {line for line, _, _ in together} == {result} == {"6.0 2.0 5.0"}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    script.write_text(PROGRAM.replace("SCALE = 3.0", "SCALE = 4.0"))
    result, saved, loaded = finish(start(script, tmp_path / "cache"))
    assert result == "8.0 2.0 5.0"
    assert (len(saved), len(loaded)) == (1, 2)


BODY = """
import numpy as np
import fedmpi as fm
CONSTANT, TABLE = 2.0, np.array([1.0, 2.0], np.float32)
class Settings:
    pass
def deep(x):
    return x + 1
def helper(x):
    return deep(x) * 2
def make(cell, extra):
    def f(x):
        inner = lambda y: y - 1
        return helper(x) * CONSTANT + TABLE[1] * cell + extra[0] + inner(x)
    return fm.numba_computation(f, np.float32)
computation = make(3.0, (4.0, 5))
"""
CHANGES = [
    ("x) * 2", "x) * 3"),
    ("x + 1", "x + 2"),
    ("CONSTANT, TABLE = 2.0", "CONSTANT, TABLE = 2.5"),
    ("[1.0, 2.0]", "[1.0, 3.0]"),
    ("make(3.0", "make(-3.0"),
    ("(4.0, 5)", "(4.5, 5)"),
    ("y - 1", "y - 2"),
    ("TABLE[1]", "TABLE[0]"),
    ("extra[0]", "extra[1]"),
    ("helper(x) * CONSTANT", "helper(x) / CONSTANT"),
    ("def f(x)", "def f(z, x=0)"),
]


def defined(source):
    scope = {"__name__": "users_module"}
    exec(source, scope)
    return scope


def test_no_change_of_a_program_meets_stale_code(folder):
    def value(x, scope, body):
        return float(body.function(F32(x))), float(scope["computation"](x))

    seen = set()
    for old, new in [("", ""), *CHANGES[:-1]]:
        scope = defined(BODY.replace(old, new) if old else BODY)
        plain, compiled = value(1.5, scope, scope["computation"].expression.impl)
        assert compiled == pytest.approx(plain, rel=1e-6), (old, new)
        seen.add(compiled)
    assert len(list(folder.glob("entry_*.py"))) == len(CHANGES)
    defined(BODY)  # the same again: no new file
    defined("# moved\n\n" + BODY)  # nor for other line numbers
    assert len(list(folder.glob("entry_*.py"))) == len(CHANGES)
    assert len(seen) == len(CHANGES)


def test_what_a_body_reads_is_fixed_at_its_definition(folder):
    source = BODY + "outer = fm.numba_computation(lambda x: computation(x) + CONSTANT, np.float32)\n"
    scope = defined(source)
    before = scope["computation"](1.5), scope["outer"](1.5)
    scope["CONSTANT"] = 100.0
    scope["TABLE"][:] = 50
    scope["deep"] = scope["helper"]
    after = eval("fm.numba_computation(lambda x: computation(x) + 0, np.float32)", scope)(1.5)
    assert (scope["computation"](1.5), scope["outer"](1.5)) == before
    assert after == before[0]


def test_modules_are_part_of_the_program(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "import numpy_helpers\nimport numpy as np\nimport fedmpi as fm\n"
    source += "c = fm.numba_computation(lambda x: numpy_helpers.inner(x) * numpy_helpers.FACTOR, np.float32)\n"
    found = []
    for factor, shift in ((2.0, 1), (3.0, 1), (3.0, 2)):
        text = f"import numba\nFACTOR = {factor}\n@numba.njit\ndef inner(x):\n    return x + {shift}\n"
        (tmp_path / "numpy_helpers.py").write_text(text)
        sys.modules.pop("numpy_helpers", None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        import importlib

        importlib.invalidate_caches()
        found.append(float(defined(source)["c"](1.0)))
    assert found == [4.0, 6.0, 9.0]


@numba.vectorize
def ufunc(x):
    return x * 2


def test_what_cannot_be_hashed_is_compiled_without_a_file(folder):
    computation = fm.numba_computation(lambda x: ufunc(x) + 1, F32)
    assert computation(2.0) == 5
    assert not list(folder.glob("entry_*.py")) if folder.exists() else True
    with pytest.raises(cache.Uncacheable):
        cache.fingerprint(lambda: ufunc)
    with pytest.raises(cache.Uncacheable):
        cache.fingerprint(object())


@pytest.mark.parametrize("suffix", [".nbi", ".nbc", ".py"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x05garbage", None])
def test_a_damaged_file_is_survived_and_replaced(folder, suffix, damage):
    def define():
        computation = fm.numba_computation(lambda x: x * 7 + 1, F32)
        assert computation(2.0) == 15
        return [p for p in folder.rglob("*") if p.suffix == suffix and not p.name.startswith(".")]

    (path,) = define()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    define()  # survives
    (path,) = define()  # and what is there now is good again
    if suffix == ".py":
        assert path.read_bytes() == whole
    else:
        assert len(path.read_bytes()) >= len(whole) // 2


def test_folders_that_are_not_safe_are_not_used(tmp_path, monkeypatch):
    def found(path):
        monkeypatch.setenv("FEDMPI_CACHE_DIR", str(path))
        cache.folder.cache_clear()
        try:
            return cache.folder()
        finally:
            cache.folder.cache_clear()

    (tmp_path / "file").write_text("")
    assert found(tmp_path / "file") is None
    assert found(tmp_path / "file" / "below") is None
    assert found(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert found(open_to_all) == open_to_all
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(open_to_all)
    assert found(tmp_path / "link") == tmp_path / "link"
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # everything is somebody else's
    assert found(open_to_all) is None


def test_a_run_without_a_folder_compiles(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDMPI_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    cache.folder.cache_clear()
    assert fm.numba_computation(lambda x: x * 11, F32)(2.0) == 22
    cache.folder.cache_clear()


def test_a_full_disk_is_survived(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    assert fm.numba_computation(lambda x: x * 13, F32)(2.0) == 26


THREADS = """
import numpy as np
import scipy.linalg
import threadpoolctl
np.ones((50, 50)) @ np.ones((50, 50))
before = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
import fedmpi as fm
f = fm.numba_computation(lambda x: np.dot(x, x), fm.TensorType(np.float64, [None]))
pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
assert pools
print(max(before), {pool["num_threads"] for pool in pools})
"""


def test_blas_runs_on_one_thread(tmp_path):
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    result, *_ = finish(start(script, tmp_path / "cache", OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2"))
    assert result == "2 {1}"


RAISING = """
import numba
import numpy as np
import fedmpi as fm

MODEL = [(np.float32, [4, 2]), (np.float32, [2])]
BATCH = [(np.float32, [None, 4]), (np.int32, [None])]

@fm.numba_computation(*MODEL, *BATCH)
def loss(w, b, x, y):
    return fm.kernels.softmax_loss(x, y, w, b)

@numba.njit
def plain(w, b, x, y):
    return fm.kernels.softmax_loss(x, y, w, b)

w, b = np.zeros((4, 2), np.float32), np.zeros(2, np.float32)
x, y = np.zeros((3, 4), np.float32), np.array([0, 1, 2], np.int32)
texts = set()
for f in (loss, plain, fm.kernels.softmax_loss):
    try:
        f(*((w, b, x, y) if f is not fm.kernels.softmax_loss else (x, y, w, b)))
    except ValueError as error:
        texts.add(str(error).splitlines()[0])
print(texts)
"""


def test_errors_with_numbers_come_from_cached_kernels(tmp_path):
    script = tmp_path / "raising.py"
    script.write_text(RAISING)
    for folder in ("a", "a", "b"):  # compiled; from the cache; compiled with kernels that come from theirs
        result, *_ = finish(start(script, tmp_path / folder))
        assert result == "{'softmax: label 2 in row 2 is outside 0..1'}"


RECURSIVE = """
import numpy as np
import fedmpi as fm

def factorial(n):
    return 1 if n <= 1 else n * factorial(n - 1)

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

f = fm.numba_computation(lambda n: factorial(n), np.int32, result=np.int32)
g = fm.numba_computation(lambda n: even(n), np.int32, result=np.bool_)
print(f(5), g(6), g(7))
"""


def test_recursive_functions_come_from_the_cache(tmp_path):
    script = tmp_path / "recursive.py"
    script.write_text(RECURSIVE)
    for _ in ("compiled", "from the cache"):
        result, *_ = finish(start(script, tmp_path / "cache"))
        assert result == "120 True False"


def test_the_same_body_in_two_modules(tmp_path):
    """Numba imports the module that compiled code came from: this ran the other module, which then waited for ever."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            f"import numpy as np\nimport fedmpi as fm\nprint('{name} runs')\n"
            "@fm.numba_computation(np.float32)\ndef half(x):\n    return x / 2\nprint(half(1.0))\n"
        )
        (tmp_path / f"use_{name}.py").write_text(f"import {name}\n")
    for name in ("one", "two", "two"):
        process = start(tmp_path / f"use_{name}.py", tmp_path / "cache", NUMBA_DEBUG_CACHE="0")
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert said.split("\n") == [f"{name} runs", "0.5", ""]


TWO_SIZES = """
import sys
import numpy as np
import fedmpi as fm

def double(size):
    @fm.numba_computation(fm.to_type((np.float32, [size])))
    def twice(x):
        return x + x
    return twice

for size in map(int, sys.argv[1:]):
    print(double(size)(np.ones(size, np.float32)).sum())
"""


def test_code_that_two_processes_compiled_meets_in_a_third(folder, tmp_path):
    """Numba's names are unique within one process: those of another must not be taken for them."""
    script = tmp_path / "sizes.py"
    script.write_text(TWO_SIZES)
    environment = {**os.environ, "FEDMPI_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(fm.__file__).parents[1])}
    for words, expected in ((["4"], "8.0\n"), (["9"], "18.0\n"), (["4", "9"], "8.0\n18.0\n")):
        done = subprocess.run(
            [sys.executable, str(script), *words], env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.stdout == expected, done.stderr


UNTRIED = """
import numba

numba.version_info = (0, 1, 0)
import numpy as np
import fedmpi as fm
from fedmpi.local import callee

BATCH = fm.to_type({"x": (np.float32, [None, 3]), "y": (np.int32, [None])})
MODEL = fm.to_type({"weights": (np.float32, [3, 2]), "bias": (np.float32, [2])})

@fm.numba_computation(MODEL, BATCH)
def loss(model, batch):
    return fm.kernels.softmax_loss(batch.x, batch.y, model.weights, model.bias)

model = {"weights": np.zeros((3, 2), np.float32), "bias": np.zeros(2, np.float32)}
batch = {"x": np.ones((4, 3), np.float32), "y": np.zeros(4, np.int32)}
print(callee.KNOWN, loss(model, batch), fm.kernels.softmax_loss(*batch.values(), *model.values()))
"""


@pytest.mark.slow
def test_a_version_of_numba_that_was_not_tried(folder, tmp_path):
    """Nothing of Numba's insides is used then; the second process loads what the first compiled."""
    script = tmp_path / "untried.py"
    script.write_text(UNTRIED)
    environment = {**os.environ, "FEDMPI_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(fm.__file__).parents[1])}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "kernels")  # those of the package may be of the other kind
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.stdout == "False 0.6931472 0.6931471824645996\n", done.stderr
