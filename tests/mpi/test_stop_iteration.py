"""`StopIteration` of a user's function is an error like others: no generator of ours takes it for its own end."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere

pytestmark = pytest.mark.mpi
F32, I32 = np.float32, np.int32
S = fm.SequenceType(F32)
fc, clients, server, python = fm.federated_computation, fm.type_at_clients, fm.type_at_server, fm.python_computation
ERRORS = {"stop": StopIteration, "async stop": StopAsyncIteration, "exit": GeneratorExit}
raised: dict[str, type[BaseException]] = {"class": StopIteration}


def fail_at(x, wanted):
    if x == wanted:
        raise raised["class"]("mine")
    return x


@python(F32, result=F32)
def fails(x):
    return fail_at(x, 5)


@python(F32, F32, result=F32)
def fails_in_pairs(x, y):
    return fail_at(y, 5) + x


@python(F32, I32, result=F32)
def fails_at_a_key(x, key):
    return fail_at(F32(key), 2)


@python(result=F32)
def fails_always():
    return fail_at(5, 5)


@fm.numba_computation(F32)
def compiled(x):
    if x == 5:
        raise StopIteration("mine")
    return x


plain = python(lambda x: x, F32, result=F32)
added = python(lambda x, y: x + y, F32, F32, result=F32)
AT, AT_S = clients(F32), clients(S)
VALUES, SEQUENCES = [1.0, 5.0, 2.0], [[1.0], [1.0, 5.0], []]
AT_CLIENTS = {
    "map": (fc(lambda x: fm.federated_sum(fm.federated_map(fails, x)), AT), VALUES),
    "kept": (fc(lambda x: fm.federated_map(fails, x), AT), VALUES),
    "inside": (fc(lambda x: fm.federated_map(fc(lambda y: (y, fails(y)), F32), x), AT), VALUES),
    "eval": (fc(lambda x: (x, fm.federated_eval(fails_always, fm.CLIENTS)), AT), VALUES),
    "sequence_map": (fc(lambda x: fm.federated_sum(fm.sequence_sum(fm.sequence_map(fails, x))), AT_S), SEQUENCES),
    "sequence_reduce": (fc(lambda x: fm.federated_sum(fm.sequence_reduce(x, 0.0, fails_in_pairs)), AT_S), SEQUENCES),
    "accumulate": (fc(lambda x: fm.federated_aggregate(x, 0.0, fails_in_pairs, added, plain), AT), VALUES),
    "select": (
        fc(lambda k, v: fm.federated_select(k, fm.federated_value(3, fm.SERVER), v, fails_at_a_key),
           clients((I32, [1])), server(F32)),
        [np.array([i], I32) for i in (1, 2, 3)], F32(0),
    ),
}  # fmt: skip
AT_SERVER = {
    "map": (fc(lambda x: fm.federated_map(fails, x), server(F32)), F32(5)),
    "merge": (fc(lambda x: fm.federated_aggregate(x, 0.0, added, fails_in_pairs, plain), AT), VALUES),
    "report": (fc(lambda x: fm.federated_aggregate(x, 0.0, added, added, fails), AT), [2.0, 3.0]),
    "unplaced": (fc(lambda x: (x, fails(F32(5))), AT), VALUES),
}


@pytest.fixture(params=["mpi", "fused", "reference", "debug"])
def context(request, comm):
    made = fm.ReferenceContext() if request.param == "reference" else fm.MpiContext(fuse=request.param == "fused")
    fm.set_default_context(made)
    with fm.debug() if request.param == "debug" else contextlib.nullcontext():
        yield


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", AT_CLIENTS)
def test_of_a_client(comm, context, name, kind, monkeypatch):
    program, *arguments = AT_CLIENTS[name]
    monkeypatch.setitem(raised, "class", ERRORS[kind])
    wanted = RuntimeError if kind == "exit" else ERRORS[kind]  # no error to Python, but one to the ranks
    text = raises_everywhere(comm, wanted, lambda: program(*arguments))
    assert f": client {0 if name == 'eval' else 1}" in text
    assert " at test_stop_iteration.py:" in text
    assert text.endswith("GeneratorExit: mine" if kind == "exit" else "mine")
    assert ("batch 1" in text) == name.startswith("sequence")


def test_of_compiled_code(comm, context):
    program = fc(lambda x: fm.federated_sum(fm.federated_map(compiled, x)), AT)
    text = raises_everywhere(comm, StopIteration, lambda: program(VALUES))
    assert ": client 1 of x (rank " in text
    assert "in compiled (test_stop_iteration.py:" in text


@pytest.mark.parametrize("name", AT_SERVER)
def test_at_the_server_or_nowhere(comm, context, name):
    program, *arguments = AT_SERVER[name]
    text = raises_everywhere(comm, StopIteration, lambda: program(*arguments))
    assert ("at the server, test_stop_iteration.py:" in text) == (name != "unplaced")
    assert text.endswith("mine")


def test_while_a_program_is_defined(comm):
    def stops(x):
        raise StopIteration("mine")

    with pytest.raises(StopIteration, match="mine"):
        fc(stops, AT)
    with pytest.raises(StopIteration, match="mine"):
        fails(5.0)


class Odd:
    """An argument whose elements cannot be read."""

    def __array__(self, dtype=None, copy=None):
        raise StopIteration("mine")


@pytest.mark.parametrize("value", [Odd(), (1.0, Odd())], ids=["tensor", "struct"])
def test_of_an_argument(comm, context, value):
    type_ = fm.to_type(F32) if isinstance(value, Odd) else fm.to_type((F32, F32))
    with pytest.raises(StopIteration, match="mine"):
        fc(lambda x: x, type_)(value)
    raises_everywhere(comm, StopIteration, lambda: fc(lambda x: x, clients(type_))([value]))


def test_awaited(comm):
    """A coroutine that raised it would have ended: for those who wait it is a `RuntimeError` that names it."""
    program, *arguments = AT_CLIENTS["map"]

    async def wait():
        with pytest.raises(RuntimeError, match=r"(?s)^StopIteration: .*client 1.*mine$"):
            await asyncio.wait_for(program(*arguments), 60)

    fm.set_default_context(fm.AsyncContext(fm.MpiContext()))
    asyncio.run(wait())
    with pytest.raises(RuntimeError, match=r"(?s)^StopIteration: .*client 1.*mine$"):
        program(*arguments).result()
