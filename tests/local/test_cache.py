"""Compiled code on disk: found again, never stale, and no run fails for the folder's sake."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.jit import cache

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


def entries(folder, suffix=".nbc", kind="entry"):
    """Return the files of what Python calls; of the kind "core", of what is translated at a definition."""
    return list(folder.glob(f"*/*.{kind}-*{suffix}"))


def start(script, folder, *words, **environment):
    environment = {**os.environ, "FEDMPI_CACHE_DIR": str(folder), "NUMBA_DEBUG_CACHE": "1", **environment}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(fm.__file__).parents[1]), environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(script), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    saved = re.findall(r"data saved to '.*[/\\](\w+\.(?:core|entry))-", output)
    loaded = re.findall(r"data loaded from '.*[/\\](\w+\.(?:core|entry))-", output)
    return output.splitlines()[-1], saved, loaded


def test_a_second_process_compiles_nothing_and_four_at_once_compile_once(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    together = [finish(p) for p in [start(script, tmp_path / "cache") for _ in range(4)]]
    saved = [name for _, names, _ in together for name in names]
    # Of three functions the core; of two that Python calls the entry.
    assert len(saved) == len(set(saved)) == 5, together
    result, saved, loaded = finish(start(script, tmp_path / "cache"))
    assert not saved
    assert len(loaded) == 5
    assert {line for line, _, _ in together} == {result} == {"6.0 2.0 5.0"}
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    script.write_text(PROGRAM.replace("SCALE = 3.0", "SCALE = 4.0"))
    result, saved, loaded = finish(start(script, tmp_path / "cache"))
    assert result == "8.0 2.0 5.0"
    assert (len(saved), len(loaded)) == (2, 3)


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
    assert len(entries(folder)) == len(CHANGES)
    defined(BODY)  # the same again: no new file
    defined("# moved\n\n" + BODY)  # nor for other line numbers
    assert len(entries(folder)) == len(CHANGES)
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
    assert not entries(folder)
    with pytest.raises(cache.Uncacheable):
        cache.fingerprint(lambda: ufunc)
    with pytest.raises(cache.Uncacheable):
        cache.fingerprint(object())


@pytest.mark.parametrize("kind", ["core", "entry"])
@pytest.mark.parametrize("suffix", [".nbc", ".lock"])
@pytest.mark.parametrize("damage", [b"", b"\x80\x05garbage", None, "folder"])
def test_a_damaged_file_is_survived_and_replaced(folder, suffix, damage, kind):
    def define():
        computation = fm.numba_computation(lambda x: x * 7 + 1, F32)
        assert computation(2.0) == 15
        return entries(folder, suffix, kind)

    (path,) = define()
    whole = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    define()  # survives
    (path,) = define()  # and what is there now is good again
    if suffix == ".nbc" and damage != "folder":
        assert len(path.read_bytes()) >= len(whole) // 2


def test_code_with_one_wrong_bit_is_not_run(folder):
    """Code that can be unpickled may still be wrong."""

    def define():
        assert fm.numba_computation(lambda x: x * 7 + 2, F32)(2.0) == 16
        return entries(folder)[0]

    path = define()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    path.write_bytes(damaged)
    assert define().read_bytes() != bytes(damaged)


def test_files_that_others_may_have_written_are_not_read(folder):
    def define():
        assert fm.numba_computation(lambda x: x * 7 + 3, F32)(2.0) == 17
        return entries(folder)[0]

    before = define()
    number = before.stat().st_ino
    before.chmod(0o666)
    assert define().stat().st_ino != number
    assert stat.S_IMODE(before.stat().st_mode) == 0o600


def test_a_run_without_a_folder_compiles(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDMPI_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    cache.folder.cache_clear()
    with pytest.warns(RuntimeWarning, match="FEDMPI_CACHE_DIR: compiled code is not kept: .*file"):
        assert fm.numba_computation(lambda x: x * 11, F32)(2.0) == 22
    cache.folder.cache_clear()


def test_a_folder_that_vanishes_is_survived(folder):
    assert fm.numba_computation(lambda x: x * 12, F32)(2.0) == 24
    shutil.rmtree(folder)
    assert fm.numba_computation(lambda x: x * 12 + 1, F32)(2.0) == 25


@pytest.mark.parametrize("call", ["mkstemp", "replace"])
def test_a_full_disk_is_survived(folder, monkeypatch, call):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((tempfile, "mkstemp") if call == "mkstemp" else (os, "replace")), full)
    assert fm.numba_computation(lambda x: x * 13, F32)(2.0) == 26
    assert not [path for path in folder.rglob("*") if path.suffix == ".nbc" or path.name.startswith(".new")]


def test_the_key_covers_sources_and_numbas_settings(tmp_path, monkeypatch):
    keys = [cache.conditions()]
    for name, value in [
        ("OPT", 0),
        ("BOUNDSCHECK", 1),
        ("CPU_NAME", "generic"),
        ("ENABLE_AVX", 0),
        ("SLP_VECTORIZE", 1),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, name, value)
            keys.append(cache.conditions())
    assert cache.conditions() == keys[0]
    cache.versions.cache_clear()
    (tmp_path / "local" / "kernels").mkdir(parents=True)
    for name, text in (("tiles", "a = 1"), ("tiles", "a = 2"), ("kernels/dense", "a = 1"), ("kernels/dense", "a = 2")):
        (tmp_path / "local" / f"{name}.py").write_text(text)
        monkeypatch.setattr(cache, "PACKAGE", str(tmp_path))
        cache.versions.cache_clear()
        keys.append(cache.conditions())
    cache.versions.cache_clear()
    assert len(set(keys)) == len(keys)


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


def test_what_is_damaged_heals_kernels_too(folder, tmp_path):
    script = tmp_path / "raising.py"
    script.write_text(RAISING)
    assert "data saved" in start(script, folder).communicate(timeout=100)[0]
    for number, path in enumerate(folder.rglob("*.nbc")):
        whole = path.read_bytes()
        path.write_bytes([b"", whole[:100], os.urandom(3000), whole[:-1] + b"?"][number % 4])
    for saves in (True, False):
        said, _ = start(script, folder).communicate(timeout=100)
        assert said.endswith("{'softmax: label 2 in row 2 is outside 0..1'}\n")
        assert ("data saved" in said) == saves


MEAN = """
import os
import numpy as np
import fedmpi as fm
assert fm.__file__.startswith(os.getcwd())
f = fm.numba_computation(lambda x: x + np.float32(1), np.float32)
mean = fm.federated_computation(lambda x: fm.federated_mean(fm.federated_map(f, x)), fm.type_at_clients(np.float32))
print(mean([1.0, 3.0]))
"""


@pytest.mark.parametrize("named", [False, True])
def test_an_installation_that_cannot_be_written(tmp_path, named):
    """A folder whose __pycache__ is a file takes no cache, whoever runs this; nor does a home that is a file."""
    shutil.copytree(Path(fm.__file__).parent, tmp_path / "fedmpi", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "fedmpi" / "local" / "__pycache__", tmp_path / "home"):
        path.write_text("")
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    environment |= {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment["FEDMPI_CACHE_DIR"] = str(tmp_path / "cache") if named else ""
    done = subprocess.run(
        [sys.executable, "-c", MEAN], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.stdout == "3.0\n", done.stderr
    assert bool(list((tmp_path / "cache").rglob("*.nbc"))) == named
    left = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("ompi."))  # Open MPI's own
    assert left == [*(["cache"] if named else []), "fedmpi", "home"]


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


WORKERS = """
import math, os, sys
import fedmpi as fm
import numba
import numpy as np

HOW, KS = sys.argv[1], [int(k) for k in sys.argv[2:]]

def make(k):
    line = "    y = math.sin(y * {0}.5) + math.cos(x + {0}.25) * K\\n    if y > 1e9: y = y / {0}.5"
    lines = [line.format(i) for i in range(1, 40)]  # so many that it is not inlined
    scope = {"math": math, "K": float(k), "__name__": __name__}
    exec("\\n".join(["def big(x):", "    y = x", *lines, "    return y * 0.0 + K"]), scope)
    big = numba.njit(scope["big"]) if HOW in ("njit", "early") else scope["big"]
    if HOW == "early" and len(KS) == 1:
        big(1.0)
    return fm.numba_computation(lambda x: big(x) + big(x + 1.0) + big(x - 1.0), np.float64)

def report(k):
    if make(k)(10.0) != 3 * k:
        print("wrong", k)

def child(function, *arguments):
    pid = os.fork()
    if pid == 0:
        function(*arguments)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)

if HOW.startswith("fork"):
    fm.numba_computation(lambda x: x + 1.0, np.float64)(1.0)
for k in KS:
    if HOW == "fork":
        child(report, k)
    elif HOW == "fork of fork":
        child(child, report, k)
    else:
        report(k)
"""


@pytest.mark.parametrize("how", ["fork", "fork of fork", "njit", "early"])
def test_what_several_processes_stored_is_each_ones_own(folder, tmp_path, how):
    """Two functions of one name, by Numba's numbers the same: forked; or compiled before fedmpi was there."""
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)

    def run(*words):
        process = start(script, folder, *words, NUMBA_DEBUG_CACHE="0")
        assert "wrong" not in process.communicate(timeout=100)[0]
        assert process.returncode == 0

    for ks in (["2", "3"],) if how.startswith("fork") else (["2"], ["3"]):
        run(how, *ks)
    for kind in ("core", "entry"):
        assert len(entries(folder, kind=kind)) == {"fork": 3, "fork of fork": 3, "njit": 2, "early": 2}[how]
    run("njit" if how in ("njit", "early") else "load", "2", "3")


NUMBERED_EARLY = """
import numba
import numpy as np
numba.njit(lambda a: np.median(a))(np.ones(3))
import fedmpi as fm
print(fm.numba_computation(lambda a: np.median(a), fm.TensorType(np.float64, [3]))([1.0, 2.0, 4.0]))
"""


def test_what_numba_numbered_before_is_not_stored(folder, tmp_path):
    script = tmp_path / "early.py"
    script.write_text(NUMBERED_EARLY)
    result, saved, _ = finish(start(script, folder))
    assert (result, saved) == ("2.0", [])
    script.write_text(NUMBERED_EARLY.replace("numba.njit(", "# "))
    result, saved, _ = finish(start(script, folder))
    assert (result, len(saved)) == ("2.0", 2)


UNTRIED = """
import numba

numba.version_info = (0, 1, 0)
import numpy as np
import fedmpi as fm
from fedmpi.local.jit import callee

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
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.stdout == "False 0.6931472 0.6931471824645996\n", done.stderr


STORED = """
import numpy as np
import fedmpi as fm
from numba.core import event

BATCH = fm.to_type({"x": (np.float32, [None, 3])})

@fm.numba_computation(np.float32, BATCH)
def step(total, batch):
    return total + batch.x.sum()

@fm.federated_computation(fm.FederatedType(fm.SequenceType(BATCH), fm.CLIENTS))
def totals(data):
    def total(batches):
        return fm.sequence_reduce(batches, np.float32(0), step)
    return fm.federated_sum(fm.federated_map(fm.federated_computation(total, fm.SequenceType(BATCH)), data))

pixels = fm.client_data([[{"x": np.ones((2, 3), np.float32)}]] * 4, fm.SequenceType(BATCH))
with event.install_recorder("numba:compile") as recorded:
    print(totals(pixels), end=" ")
print(sum(e.is_start for _, e in recorded.buffer))
"""


def test_a_body_that_reads_stored_rows_as_arrays_is_tried_once(folder, tmp_path):
    """The second process neither compiles nor infers types; what others wrote there in bad faith is not believed."""
    script = tmp_path / "stored.py"
    script.write_text(STORED)
    (first, _, _), (second, saved, _) = finish(start(script, folder)), finish(start(script, folder))
    assert first.startswith("24.0 ")
    assert (second, saved) == ("24.0 0", [])
    (refused,) = entries(folder, ".refused")
    refused.chmod(0o666)
    third, saved, _ = finish(start(script, folder))
    assert third.startswith("24.0 ")
    assert int(third.split()[1]) > 0
