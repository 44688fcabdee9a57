"""Debug mode below the runtime: bodies run as Python, so that ``print`` and debuggers work in them."""

from __future__ import annotations

import functools
import os
import pdb
import subprocess
import sys
import threading
from collections import OrderedDict

import numba
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.jit.debugging import debugging
from tests.mpijob import ROOT

F32, I32 = np.float32, np.int32
VECTOR = fm.to_type((F32, [None]))
BATCH = fm.to_type(OrderedDict(x=VECTOR, y=I32))


@pytest.fixture
def debug():
    with fm.debug():
        yield


@fm.numba_computation(F32)
def half(x):
    return x / 2


@fm.numba_computation(fm.SequenceType(BATCH))
def total(batches):
    total = 0.0
    for batch in batches:
        total += batch.x.sum() * batch["y"]
    return np.float32(total)


BATCHES = [{"x": np.arange(3, dtype=F32), "y": 2}, {"x": np.ones(1, F32), "y": -1}]


# --- where it holds --------------------------------------------------------------------------------------------------


def test_blocks():
    seen = [debugging()]
    with fm.debug():
        seen.append(debugging())
        with fm.debug(False):
            seen.append(debugging())
        seen.append(debugging())
        with pytest.raises(ZeroDivisionError), fm.debug(False):
            1 / 0  # noqa: B018
        seen.append(debugging())
    assert [*seen, debugging()] == [False, True, False, True, True, False]


def test_another_thread_is_not_in_the_block(debug):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(debugging()))
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize(("value", "expected"), [("1", "True"), ("0", "False"), ("", "False"), (None, "False")])
def test_the_environment(value, expected):
    env = {name: text for name, text in os.environ.items() if name != "FEDMPI_DEBUG"}
    env |= {"FEDMPI_DEBUG": value} if value is not None else {}
    code = "from fedmpi.local.jit.debugging import debugging; print(debugging())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.strip() == expected


# --- bodies as Python ------------------------------------------------------------------------------------------------


def test_print_is_seen_once_for_each_call(capsys):
    @fm.numba_computation(F32)
    def shown(x):
        print("x is", x)
        return x

    assert capsys.readouterr().out == ""  # probes print nothing
    with fm.debug():
        shown(1.5)
        shown(2.5)
    assert capsys.readouterr().out == "x is 1.5\nx is 2.5\n"


def test_nothing_is_compiled(debug, monkeypatch):
    from fedmpi.local.loops import compiled

    monkeypatch.setattr(compiled, "compile_entry", None)

    @fm.numba_computation(F32)
    def triple(x):
        return x * 3

    def reduced(batches, start):
        step = fm.federated_computation(lambda state, batch: triple(state), F32, BATCH)
        return fm.sequence_reduce(batches, start, step)

    assert fm.federated_computation(reduced, fm.SequenceType(BATCH), F32)(BATCHES, 1.0) == F32(9.0)


def test_breakpoints_stop_in_calls_and_not_in_probes(debug, monkeypatch):
    stops = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1).f_locals["x"]))

    @fm.numba_computation(F32)
    def stopped(x):
        breakpoint()
        return x

    assert stopped(4.0) == 4.0
    assert stops == [4.0]


def test_pdb(debug, monkeypatch):
    frames = []
    monkeypatch.setattr(pdb, "set_trace", lambda: frames.append(sys._getframe(1)))

    @fm.numba_computation(F32)
    def stopped(x):
        pdb.set_trace()
        return x + np.float32(1)

    assert stopped(4.0) == 5.0
    (frame,) = frames
    assert frame.f_code.co_name == "stopped"
    assert frame.f_code.co_filename == __file__
    assert frame.f_locals == {"x": F32(4.0)}


def test_what_numba_cannot_compile_is_refused_when_debug_mode_has_ended(monkeypatch):
    monkeypatch.setattr(sys, "breakpointhook", lambda: None)
    with fm.debug():

        @fm.numba_computation(F32, result=F32)
        def odd(x):
            breakpoint()
            return x

        assert odd(1.5) == F32(1.5)
    with pytest.raises(TypeError, match="odd: Numba cannot compile this"):
        odd(1.5)


def test_defined_in_debug_mode_and_used_outside():
    with fm.debug():

        @fm.numba_computation(F32, F32)
        def plus(x, y):
            return x + y

        assert plus(1.0, 2.0) == 3.0
    assert plus(1.0, 2.0) == 3.0
    assert "compiled" in vars(plus.expression.impl)


@numba.njit
def factorial(n):
    trace.append(n)
    return 1 if n <= 1 else n * factorial(n - 1)


trace: list[int] = []


def test_helpers_run_as_python_too(debug):
    """Under Numba's decorator as well, and those that call themselves."""
    trace.clear()

    @fm.numba_computation(I32, result=I32)
    def product(n):
        return factorial(n)

    assert product(4) == 24
    assert trace == [4, 3, 2, 1]


def test_other_computations_in_a_body(debug, capsys):
    @fm.numba_computation(BATCH)
    def inner(batch):
        print("inner", type(batch).__name__)
        return {"mean": batch.x.mean(), "y": batch.y}

    @fm.numba_computation(BATCH)
    def outer(batch):
        made = inner(batch)
        return made.mean + made["y"]

    capsys.readouterr()
    got = outer(BATCHES[0])
    assert type(got) is type(F32(0) + I32(0))
    assert got == 3.0
    assert capsys.readouterr().out == "inner struct<x,y>\n"


def test_constants_of_partial(debug):
    def scaled(by, x, shift):
        return x * by + shift

    assert fm.numba_computation(functools.partial(scaled, F32(2.0), shift=F32(1.0)), F32)(3.0) == 7.0


@pytest.mark.parametrize(
    ("computation", "arguments"),
    [
        (half, (3.0,)),
        (total, (BATCHES,)),
        (total, ([],)),
        (fm.numba_computation(lambda x: x / np.float32(0.0), F32), (0.0,)),
        (fm.numba_computation(lambda x: (x, {"a": x.sum()}), VECTOR), (np.ones(3, F32),)),
        (fm.numba_computation(lambda x, y: x + y, BATCH["x"], F32, result=VECTOR), (np.ones(3, F32), 2.0)),
    ],
)
def test_the_same_values_and_types(computation, arguments):
    want = computation(*arguments)
    with fm.debug():
        got = computation(*arguments)
    assert repr(got) == repr(want)
    assert type(got) is type(want)


def test_kernels_run_as_their_twins(monkeypatch):
    rng = np.random.default_rng(7)
    x, y = rng.random((5, 8), F32), rng.integers(0, 3, 5).astype(I32)
    weights, bias = rng.random((8, 3), F32), np.zeros(3, F32)

    def train(x, y, weights, bias):
        return fm.kernels.softmax_sgd_step(x, y, weights, bias, np.float32(0.1))

    types = [(F32, [None, 8]), (I32, [None]), (F32, [8, 3]), (F32, [3])]
    compiled = fm.numba_computation(train, *types)
    want = compiled(x, y, weights, bias)
    kernel = fm.kernels.softmax_sgd_step
    monkeypatch.setitem(vars(kernel), "entry", None)
    with fm.debug():
        got = compiled(x, y, weights, bias)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        assert a.dtype == b.dtype


def test_arguments_stay_read_only(debug):
    @fm.numba_computation(VECTOR, result=VECTOR)
    def write(x):
        x[0] = 2
        return x

    with pytest.raises(ValueError, match="read-only"):
        write(np.ones(2, F32))


def test_wrong_results(debug):
    """Compiled code is refused at its definition; Python is checked when it has run."""

    @fm.numba_computation(F32, result=(F32, [2]))
    def wide(x):
        return np.full(3, x)

    with pytest.raises(
        TypeError, match=r"wide: result: expected float32\[2\], found float32\[3\]\n  at test_debug\.py:"
    ):
        wide(1.0)


def test_errors_name_the_batch(debug):
    @fm.numba_computation(F32, BATCH, result=F32)
    def step(state, batch):
        if batch.y < 0:
            raise ValueError("a negative y")
        return state

    program = fm.federated_computation(lambda b: fm.sequence_reduce(b, 0.0, step), fm.SequenceType(BATCH))
    with pytest.raises(ValueError, match=r"lambda, batch 1, in step \(test_debug\.py:\d+\): a negative y"):
        program(BATCHES)


def test_numba_switched_off_is_one_error(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(RuntimeError, match=r"NUMBA_DISABLE_JIT is set.*: unset it"):
        fm.federated_computation(lambda x: fm.sequence_sum(x), fm.SequenceType(F32))([1.0])
    with pytest.raises(TypeError, match=r"<lambda>: Numba cannot compile this: NUMBA_DISABLE_JIT .*\n  at test_debug"):
        fm.numba_computation(lambda x: x + F32(3), F32)
    with fm.debug():
        assert fm.numba_computation(lambda x: x + F32(3), F32)(1.0) == 4


SWITCHED_OFF = """
import sys
import fedmpi as fm
for words in (["info"], ["tutorial"]):
    from fedmpi.cli.main import main
    print(main(words))
try:
    fm.kernels
except RuntimeError as error:
    print(error)
"""


def test_numba_switched_off_for_commands_and_kernels():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", SWITCHED_OFF], env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert any(line.startswith("threads") and "NUMBA_DISABLE_JIT" in line for line in lines)
    assert lines[-3] == "0", done.stderr
    assert lines[-2] == "1"
    assert lines[-1].startswith("NUMBA_DISABLE_JIT is set")
    assert done.stderr.startswith("fedmpi tutorial: NUMBA_DISABLE_JIT is set")
    assert done.stderr.count("\n") == 1
