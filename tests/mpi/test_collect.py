"""federated_collect on these ranks: the clients' values in their order, of every type, whoever hosts whom."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere
from tests.mpi.test_operators import F32, FUSE, I32, clients, fc, run, server

pytestmark = pytest.mark.mpi

STRUCT = [("a", (F32, [2])), ("b", [I32, np.bool_])]


@FUSE
@pytest.mark.parametrize("count", [0, 1, 2, 7, 130])
@pytest.mark.parametrize("trains", [False, True])
def test_structs_in_the_order_of_the_clients(comm, fuse, count, trains):
    values = [{"a": np.array([i, -i], F32), "b": [i, i % 2 == 0]} for i in range(count)]
    got = run(fuse, fc(fm.federated_collect, clients(STRUCT)), values, server_trains=trains)
    assert [(part["a"].tolist(), part["b"][0]) for part in got] == [([i, -i], i) for i in range(count)]


@pytest.mark.parametrize("type_", [np.float16, np.uint64, np.complex64, np.bool_])
def test_dtypes(comm, type_):
    got = run(None, fc(fm.federated_collect, clients(type_)), [np.dtype(type_).type(i) for i in range(5)])
    assert [x.item() for x in got] == [np.dtype(type_).type(i).item() for i in range(5)]


def test_sizes_that_the_type_leaves_open_and_texts(comm):
    ragged = fc(fm.federated_collect, clients((F32, [None, 2])))
    got = run(None, ragged, [np.full((i, 2), i, F32) for i in (3, 0, 1)])
    assert [x.shape for x in got] == [(3, 2), (0, 2), (1, 2)]
    assert run(None, fc(fm.federated_collect, clients(np.str_)), ["one", "two", ""]) == ["one", "two", ""]


@FUSE
def test_what_a_function_gave_beside_sums_and_folds(comm, fuse):
    add = fc(lambda s, x: s + x, F32, F32)
    doubled = fm.numba_computation(lambda x: x * F32(2), F32)

    def body(v):
        y = fm.federated_map(doubled, v)
        folded = fm.federated_aggregate(y, 0.0, add, add, fc(lambda s: s, F32))
        return fm.federated_collect(y), fm.federated_sum(y), folded, fm.federated_collect((v, y))

    got, total, folded, both = run(fuse, fc(body, clients(F32)), [F32(i) for i in range(9)])
    assert (got, total, folded) == ([2.0 * i for i in range(9)], 72.0, 72.0)
    assert both == [(i, 2.0 * i) for i in range(9)]


@FUSE
def test_the_server_goes_on_with_it_and_sends_what_comes_of_it(comm, fuse):
    """Median of three, by a sequence_reduce at the server, back to the clients."""
    least = fm.numba_computation(lambda s, x: np.minimum(s, x), F32, F32)
    minus = fm.numba_computation(lambda pair: pair[0] - pair[1], (F32, F32))

    def body(v):
        lowest = fm.sequence_reduce(fm.federated_collect(v), fm.federated_value(100.0, fm.SERVER), least)
        return fm.federated_map(minus, (v, fm.federated_broadcast(lowest)))

    assert run(fuse, fc(body, clients(F32)), [F32(5), F32(3), F32(4)]) == [2.0, 0.0, 1.0]


def test_a_value_that_is_the_same_at_all_clients(comm):
    program = fc(lambda v, s: fm.federated_collect((v, fm.federated_broadcast(s))), clients(I32), server(I32))
    assert run(None, program, [1, 2, 3], 7) == [(1, 7), (2, 7), (3, 7)]
    alone = fc(lambda v, s: (fm.federated_collect(fm.federated_broadcast(s)), v), clients(I32), server(I32))
    assert run(None, alone, [1, 2, 3], 7)[0] == [7, 7, 7]


def test_cohorts_of_packed_data(comm):
    data = fm.client_data([F32(i) / F32(255) for i in range(20)], F32)
    program = fc(fm.federated_collect, clients(F32))
    assert fm.replicate(program(data)) == [F32(i) / F32(255) for i in range(20)]
    picked = [17, 3, 4, 12]
    assert fm.replicate(program(data.select(picked))) == [F32(i) / F32(255) for i in picked]


def test_images_that_are_kept_as_bytes(comm):
    images = [(np.arange(6, dtype=F32).reshape(2, 3) + i) / F32(255) for i in range(5)]
    data = fm.client_data(images, (F32, [None, 3]))
    got = fm.replicate(fc(fm.federated_collect, clients((F32, [None, 3])))(data))
    assert [x.tobytes() for x in got] == [x.tobytes() for x in images]


def test_a_client_that_fails_is_named(comm):
    def refuse(x):
        if x > 2:
            raise ValueError("too much")
        return x

    body = fm.python_computation(refuse, F32, result=F32)
    program = fc(lambda v: fm.federated_collect(fm.federated_map(body, v)), clients(F32))
    text = raises_everywhere(comm, ValueError, lambda: program([F32(1), F32(3), F32(4)]))
    assert "client 1 of v" in text
    assert "too much" in text


def test_what_is_refused():
    sequences = clients(fm.SequenceType(F32))
    with pytest.raises(TypeError, match=r"federated_collect: value must hold no sequence, found \{float32\*\}@CLIENTS"):
        fc(fm.federated_collect, sequences)
    with pytest.raises(TypeError, match=r"federated_collect: value must be \{T\}@CLIENTS, found float32@SERVER"):
        fc(fm.federated_collect, server(F32))


def test_the_plan_says_what_it_costs():
    plan = str(fm.plan(fc(fm.federated_collect, clients((F32, [10])))))
    assert "Gather 40 B a client to rank 0: federated_collect at" in plan
    assert "Reduce" not in plan
