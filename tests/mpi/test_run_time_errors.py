"""What user code raises: its class, and a text with client, batch, rank and local computation, in every way it is run.

The ways are: all clients of a rank in one compiled loop, one by one, and the reference evaluator; compiled and
interpreted local computations; at the clients, at the server, without a placement.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere
from tests.programs import AT_CLIENTS, AT_SERVER, F32, I32

pytestmark = pytest.mark.mpi
fc = fm.federated_computation
FLOATS = fm.SequenceType(F32)
CONTEXTS = {
    "fused": lambda: fm.MpiContext(fuse=True),
    "one by one": lambda: fm.MpiContext(fuse=False),
    "server trains": lambda: fm.MpiContext(server_trains=True),
    "reference": fm.ReferenceContext,
}


class OwnError(Exception):
    """What the interpreted computation raises."""


@fm.python_computation(F32, result=F32)
def interpreted(x):
    if x < 0:
        raise OwnError("negative")
    return x


@fm.numba_computation(F32)
def compiled(x):
    if x < 0:
        raise ValueError("negative")
    return x


@fm.numba_computation(F32)
def more(x):
    return x + F32(1)


@fm.numba_computation(FLOATS)
def in_a_batch(readings):
    total = F32(0)
    for reading in readings:
        if reading < 0:
            raise ValueError("negative")
        total += reading
    return total


@fm.numba_computation(FLOATS)
def after_all(readings):
    total = F32(0)
    for reading in readings:
        total += reading
    if total < 0:
        raise ValueError("negative")
    return total


def folding(k, accumulate=False, merge=False, report=False):
    def of(k, function):
        return k if function else fc(lambda x: x, F32)

    return fc(
        lambda v: fm.federated_aggregate(
            v,
            0.0,
            fc(lambda a, x: a + of(k, accumulate)(x), F32, F32),
            fc(lambda a, b: of(k, merge)(a + b), F32, F32),
            fc(lambda a: of(k, report)(a), F32),
        ),
        AT_CLIENTS(F32),
    )


def selecting(k):
    return fc(
        lambda keys, most, x: fm.federated_select(keys, most, x, fc(lambda x, _: k(x), F32, I32)),
        AT_CLIENTS((I32, [1])),
        AT_SERVER(I32),
        AT_SERVER(F32),
    )


def programs_of(k):
    """Return for each name a program that calls k on -1 somewhere, its arguments, and where the error says it was."""
    chain = fc(lambda x: more(k(more(x))), F32)
    reduce = fc(lambda s: fm.sequence_reduce(s, 0.0, fc(lambda t, x: t + k(x), F32, F32)), FLOATS)
    total = fc(lambda s: fm.sequence_sum(fm.sequence_map(k, s)), FLOATS)
    floats, lists = [1.0, 2.0, -1.0], [[1.0], [], [1.0, -1.0]]
    at, at_server = r"lambda: {} at test_run_time_errors\.py:\d+: ", r"lambda: {} at the server, test_run_\w+\.py:\d+"
    mapped, selected, folded = (at.format(f"federated_{op}") for op in ("map", "select", "aggregate"))
    return {
        "map": (
            fc(lambda v: fm.federated_sum(fm.federated_map(k, v)), AT_CLIENTS(F32)),
            (floats,),
            mapped + r"client 2 of v \(rank \d\)",
        ),
        "map, gathered": (
            fc(lambda v: fm.federated_map(k, v), AT_CLIENTS(F32)),
            (floats,),
            mapped + r"client 2 of v \(rank \d\)",
        ),
        "one of several": (
            fc(lambda v: fm.federated_sum(fm.federated_map(chain, v)), AT_CLIENTS(F32)),
            ([1.0, -3.0],),
            mapped + r"client 1 of v \(rank \d\)",
        ),
        "sequence_reduce": (
            fc(lambda v: fm.federated_sum(fm.federated_map(reduce, v)), AT_CLIENTS(FLOATS)),
            (lists,),
            mapped + r"client 2 of v, batch 1 \(rank \d\)",
        ),
        "sequence_map": (
            fc(lambda v: fm.federated_sum(fm.federated_map(total, v)), AT_CLIENTS(FLOATS)),
            (lists,),
            mapped + r"client 2 of v, batch 1 \(rank \d\)",
        ),
        "federated sequence": (
            fc(lambda v: fm.sequence_map(k, v), AT_CLIENTS(FLOATS)),
            (lists,),
            mapped + r"client 2 of v, batch 1 \(rank \d\)",
        ),
        "eval": (
            fc(lambda v: (fm.federated_eval(fc(lambda: k(-1.0)), fm.CLIENTS), v), AT_CLIENTS(F32)),
            (floats,),
            at.format("federated_eval") + r"client 0 of v \(rank \d\)",
        ),
        "select": (selecting(k), ([[0], [1]], 3, -1.0), selected + r"client 0 of keys \(rank \d\)"),
        "accumulate": (folding(k, accumulate=True), (floats,), folded + r"client 2 of v \(rank \d\)"),
        "merge": (folding(k, merge=True), ([1.0, -2.0],), at_server.format("federated_aggregate")),
        "report": (folding(k, report=True), ([1.0, -2.0],), at_server.format("federated_aggregate")),
        "server": (fc(lambda v: fm.federated_map(k, v), AT_SERVER(F32)), (-1.0,), at_server.format("federated_map")),
        "eval at the server": (
            fc(lambda: fm.federated_eval(fc(lambda: k(-1.0)), fm.SERVER)),
            (),
            at_server.format("federated_eval"),
        ),
        "server, sequence_reduce": (
            fc(lambda v: fm.federated_map(reduce, v), AT_SERVER(FLOATS)),
            ([1.0, -1.0],),
            at_server.format("federated_map") + ", batch 1",
        ),
        "server, sequence_map": (
            fc(lambda v: fm.federated_map(total, v), AT_SERVER(FLOATS)),
            ([1.0, -1.0],),
            at_server.format("federated_map") + ", batch 1",
        ),
        "beside placed values": (fc(lambda x, v: (k(x), v), F32, AT_CLIENTS(F32)), (-1.0, floats), "lambda"),
        "no placement": (chain, (-3.0,), "lambda"),
        "no placement, sequence": (reduce, ([1.0, -1.0],), "lambda, batch 1"),
    }


def mapped(kernel, member):
    return fc(lambda v: fm.federated_sum(fm.federated_map(kernel, v)), AT_CLIENTS(member))


PROGRAMS = {interpreted: programs_of(interpreted), compiled: programs_of(compiled)}


@pytest.mark.parametrize("name", PROGRAMS[compiled])
@pytest.mark.parametrize("kernel", PROGRAMS, ids=lambda k: k.name)
def test_where_it_was_raised(comm, kernel, name):
    program, arguments, where = PROGRAMS[kernel][name]
    kind = OwnError if kernel is interpreted else ValueError
    pattern = rf"{where}, in {kernel.name} \(test_run_time_errors\.py:\d+\): negative"
    for make in CONTEXTS.values():
        fm.set_default_context(make())
        if make is not fm.ReferenceContext:
            text = raises_everywhere(comm, kind, lambda: program(*arguments))
        else:
            with pytest.raises(kind) as caught:
                program(*arguments)
            text = str(caught.value)
        assert re.fullmatch(pattern, text), text


@pytest.mark.parametrize("context", CONTEXTS)
def test_loops_of_a_local_computation(comm, context):
    fm.set_default_context(CONTEXTS[context]())
    for kernel, where in (
        (in_a_batch, r"client 1 of v, batch 2 \(rank \d\)"),
        (after_all, r"client 1 of v \(rank \d\)"),
    ):
        program = mapped(kernel, FLOATS)
        with pytest.raises(ValueError, match=rf"{where}, in {kernel.name} \(.*\): negative"):
            program([[1.0], [1.0, 2.0, -9.0]])


@pytest.mark.parametrize("kernel", [interpreted, compiled, in_a_batch], ids=lambda k: k.name)
def test_a_local_computation_that_the_program_calls(comm, kernel):
    argument, note = ([1.0, -1.0], ", batch 1") if kernel is in_a_batch else (-1.0, "")
    for make in (fm.MpiContext, fm.ReferenceContext):
        fm.set_default_context(make())
        with pytest.raises((OwnError, ValueError), match=r"^negative") as caught:
            kernel(argument)
        assert str(caught.value) == "negative"
        (found,) = caught.value.__notes__
        assert re.fullmatch(rf"in {kernel.name} \(test_run_time_errors\.py:\d+\){note}", found)


def test_an_error_object_that_is_raised_again(comm):
    error = OwnError("kept")

    @fm.python_computation(F32, result=F32)
    def first(x):
        raise error

    @fm.python_computation(F32, result=F32)
    def second(x):
        raise error

    for kernel in (first, second):
        program = mapped(kernel, F32)
        text = raises_everywhere(comm, OwnError, lambda program=program: program([1.0, 2.0]))
        assert f", in {kernel.name} (" in text
    assert not hasattr(error, "fedmpi_body")


def test_selection_of_a_key_that_is_not_there(comm):
    program = selecting(compiled)
    for make in CONTEXTS.values():
        fm.set_default_context(make())
        with pytest.raises(
            ValueError, match=r"client 1 of keys \(rank \d\): a key is not in 0 to max_key: 5 is not in 0 … 3"
        ):
            program([[0], [5]], np.int32(3), 1.0)
