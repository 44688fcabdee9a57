"""Debug mode at run time: types are checked again, ranks compare what they have in common."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.computations.bodies import PythonBody
from fedmpi.runtime.executor import Execution
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.stage.program import check
from tests import needs
from tests.mpijob import TIMED_OUT, run_job

JOB = Path(__file__).with_name("disagree_job.py")
F32, I32 = np.float32, np.int32
AT_CLIENTS, AT_SERVER = fm.type_at_clients, fm.type_at_server
SEQUENCE = fm.SequenceType(F32)


@pytest.fixture(autouse=True)
def _debug():
    fm.set_default_context(fm.MpiContext())
    with fm.debug():
        yield
    fm.set_default_context(None)


def sequence(type_, values):
    return PackedSequence(pack(type_, values), 0, len(values))


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (F32, F32(1.5)),
        ((F32, [None, 2]), np.ones((3, 2), F32)),
        (fm.TensorType(F32, None), np.ones((3, 2), F32)),
        (np.str_, "text"),
        ((np.str_, [2]), np.array(["a", "b"], object)),
        (fm.StructType([("a", F32), I32]), (F32(1), I32(2))),
        ([], ()),
        (SEQUENCE, sequence(fm.to_type(F32), [F32(1), F32(2)])),
    ],
)
def test_right_values(type_, value):
    check(Node("federated_map", AT_SERVER(type_)), value)


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (F32, np.float64(1.5), "expected float32, found float64 1.5"),
        (F32, 1.5, "expected float32, found float 1.5"),
        (F32, np.ones(2, F32), r"expected float32, found float32\[2\]"),
        ((F32, [None, 2]), np.ones((3, 3), F32), r"expected float32\[\?,2\], found float32\[3,3\]"),
        (np.str_, np.array("text"), "expected str, found str"),
        (np.str_, 3, "expected str, found int 3"),
        ([F32, [I32, ("a", I32)]], (F32(1), (I32(1), F32(1))), "element 1, a: expected int32, found float32 1.0"),
        ([F32, F32], [F32(1), F32(1)], "expected <float32,float32>, 2 elements, found a list of 2"),
        ([F32, F32], (F32(1),), "expected <float32,float32>, 2 elements, found a tuple of 1"),
        (SEQUENCE, [F32(1)], r"expected float32\*, found a list of 1"),
        (SEQUENCE, sequence(fm.to_type(I32), [I32(1)]), "element 0: expected float32, found int32 1"),
    ],
)
def test_wrong_values(type_, value, said):
    node = Node("federated_map", AT_SERVER(type_))
    with pytest.raises(TypeError, match=f"debug mode: a value does not have the type .*@SERVER: {said}"):
        check(node, value)


@fm.python_computation(F32, result=F32)
def broken(x):
    return x


@fm.federated_computation(AT_CLIENTS(F32))
def at_clients(values):
    return fm.federated_sum(fm.federated_map(broken, values))


@fm.federated_computation(AT_SERVER(F32))
def at_server(value):
    return fm.federated_broadcast(fm.federated_map(broken, value))


def test_a_wrong_result_of_the_users():
    wrong = fm.python_computation(lambda x: [x, x], F32, result=F32)
    program = fm.federated_computation(lambda v: fm.federated_map(wrong, v), AT_CLIENTS(F32))
    with pytest.raises(TypeError) as caught:
        program([1.0])
    text = str(caught.value)
    assert "federated_map at test_debugging.py:" in text
    assert "client 0" in text
    assert "<lambda>: result: expected float32, found float32[2]\n  at test_debugging.py:" in text


def test_a_wrong_value_of_ours(monkeypatch):
    """What no boundary before has refused, is refused where it is made, with operator, client and place."""
    monkeypatch.setattr(PythonBody, "__call__", lambda self, x: np.float64(x) if x == 2.0 else x)
    with pytest.raises(TypeError) as caught:
        at_clients([1.0, 2.0])
    assert re.fullmatch(
        r"at_clients: federated_map at test_debugging\.py:\d+: client 1 of values \(rank 0\): debug mode: what a "
        r"function returned does not have its type: expected float32, found float64 2\.0",
        str(caught.value),
    )
    with pytest.raises(TypeError, match=r"at the server, test_debugging.py:\d+: debug mode: what a function"):
        at_server(2.0)
    with fm.debug(False):
        assert at_clients([1.0, 1.0]) == 2.0


def test_a_wrong_sum_of_ours(monkeypatch):
    from fedmpi.runtime.stage.accumulator import Accumulator

    monkeypatch.setattr(Accumulator, "result", lambda self, index, clients: np.float64(3.0))
    with pytest.raises(
        TypeError, match=r"at_clients: federated_sum at test_debugging\.py:\d+: debug mode: .*float64 3.0"
    ):
        at_clients([1.0])


def test_a_wrong_broadcast_of_ours(monkeypatch):
    """What is no function's result is checked too."""
    monkeypatch.setattr(Execution, "server_value", lambda self, node: np.float64(2.0))
    with pytest.raises(TypeError, match=r"debug mode: a value does not have the type float32@SERVER: expected float32"):
        at_server(2.0)


def aggregate(zero, merge):
    add = fm.federated_computation(lambda s, x: s + x, F32, F32)
    same = fm.federated_computation(lambda s: s, F32)
    return fm.federated_computation(
        lambda v: fm.federated_aggregate(v, zero, add, fm.federated_computation(merge, F32, F32), same), AT_CLIENTS(F32)
    )


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_zero_must_be_neutral(context):
    """Else the result would depend on the number of blocks, that is of clients."""
    fm.set_default_context(context())
    assert aggregate(0.0, lambda s, t: s + t)([1.0, float("nan")]) != 0.0
    assert aggregate(0.0, lambda s, t: s + t)([]) == 0.0
    wrong = aggregate(1.0, lambda s, t: s + t)
    with pytest.raises(ValueError, match="debug mode: zero must be neutral for merge") as caught:
        wrong([1.0, 2.0])
    told = r"merge\(zero, state\) is np.float32\(3.0\) for the state np.float32\(2.0\) of block 0"
    assert re.search(told, str(caught.value))
    if context is fm.MpiContext:
        assert re.search(r"federated_aggregate at the server, test_debugging\.py:\d+: debug mode", str(caught.value))
    with pytest.raises(ValueError, match=r"merge\(state, zero\) is np.float32\(0.0\) for the state np.float32\(5.0\)"):
        aggregate(0.0, lambda s, t: t)([5.0])
    with fm.debug(False):
        assert wrong([1.0, 2.0]) == 5.0


def test_no_loops():
    assert "clients, client by client, for debug mode:" in str(fm.plan(at_clients))
    with fm.debug(False):
        assert "debug mode" not in str(fm.plan(at_clients))


# --- ranks -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize(
    ("way", "env", "said"),
    [
        ("debug mode", "0", ["they run different programs", "  rank 0 calls mean", "  rank 1 calls [debug] mean"]),
        ("unplaced call", "1", ["the result of call at disagree_job.py:", "  in call ", "before stage 0"]),
        ("broadcast", "1", ["the result of federated_broadcast at disagree_job.py:", "before stage 1"]),
        ("fingerprint", "1", ["the program is not on rank 1 what it is on rank 0", "before stage 1"]),
    ],
)
def test_ranks_that_disagree(way, env, said):
    result = run_job(3, [JOB, way], timeout=60, env={"FEDMPI_DEBUG": env})
    assert result.returncode not in (0, TIMED_OUT), result
    text = "\n".join(line for line in result.stderr.splitlines() if line.startswith("[rank 1]"))
    assert f"the ranks disagree: {said[0]}" in text, result
    for line in said:
        assert line in text, result


@pytest.mark.slow
@needs.mpi_jobs
def test_whole_lists_are_compared_in_debug_mode_alone():
    for env, code in (("0", 0), ("1", 1)):
        result = run_job(3, [JOB, "list"], timeout=60, env={"FEDMPI_DEBUG": env})
        assert result.returncode == code, result
        assert (
            "the ranks differ in parameter values, client 998: 3.0 on rank 0, 4.0 on rank 1" in result.stderr
        ) == code


@pytest.mark.slow
@needs.mpi_jobs
def test_ranks_that_agree():
    result = run_job(3, [JOB, "nothing"], timeout=60, env={"FEDMPI_DEBUG": "1"})
    assert result.returncode == 0, result
    assert result.stdout.count("agreed") == 3
