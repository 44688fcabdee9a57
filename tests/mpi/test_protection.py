"""What a Python body writes into the memory of its arguments, flags or not, reaches nobody else."""

from __future__ import annotations

import contextlib
import ctypes

import numpy as np
import pytest

import fedmpi as fm

pytestmark = pytest.mark.mpi
F32, I32 = np.float32, np.int32
V = fm.to_type((F32, [2]))
V_S = fm.SequenceType(V)
ROWS = fm.to_type({"x": (F32, [None, 2]), "n": I32})
ROWS_S = fm.SequenceType(ROWS)
fc, clients, server, python = fm.federated_computation, fm.type_at_clients, fm.type_at_server, fm.python_computation

CONSTANT = np.array([10.0, 20.0], F32)
returned: list[np.ndarray] = []
given: list[np.ndarray] = []


def spoil(*arrays):
    """Write into memory as a library does that shares it."""
    for array in arrays:
        ctypes.memset(array.ctypes.data, 0x7F, array.nbytes)


def given_away(result):
    """Return a result that is changed later on: all but the last are."""
    for old in returned:
        old.fill(np.nan)
    returned.append(result)
    return result


@python(V, V, result=V)
def plus(a, b):
    total = a + b
    spoil(a, b)
    return given_away(total)


@python(V, result=V)
def same(a):
    given.append(a)
    return a


@python(ROWS_S, V, result=V)
def total_of(batches, start):
    total = start.copy()
    for batch in batches:
        total += batch.x.sum(axis=0) * F32(batch.n)
        spoil(batch.x)
    spoil(start)
    return given_away(total)


@python(V, I32, result=V)
def row(value, key):
    made = value * F32(key)
    spoil(value)
    return made


CONTEXTS = {
    "mpi": fm.MpiContext,
    "server trains": lambda: fm.MpiContext(server_trains=True),
    "reference": fm.ReferenceContext,
    "debug": fm.MpiContext,
}


@pytest.fixture(params=CONTEXTS)
def context(request, comm):
    returned.clear()
    fm.set_default_context(CONTEXTS[request.param]())
    with fm.debug() if request.param == "debug" else contextlib.nullcontext():
        yield
    assert list(CONSTANT) == [10, 20]


@fc(server(V), clients(V), V)
def steps(model, data, unplaced):
    down = fm.federated_broadcast(model)
    moved = fm.federated_map(plus, (down, data))
    again = fm.federated_map(plus, (moved, data))
    with_constant = fm.federated_map(fc(lambda x: plus(plus(x, CONSTANT), unplaced), V), again)
    at_server = fm.federated_map(plus, (model, model))
    sums = [fm.federated_sum(each) for each in (down, data, moved, again, with_constant)]
    return *sums, at_server, fm.federated_map(plus, (at_server, model))


def test_values_of_all_kinds(context):
    model, unplaced = np.array([1.0, 2.0], F32), np.array([100.0, 200.0], F32)
    data = [np.array([i, 2 * i], F32) for i in range(6)]
    got = fm.replicate(steps(model, data, unplaced))
    whole = sum(data)
    want = [6 * model, whole, 6 * model + whole, 6 * model + 2 * whole]
    want += [want[-1] + 6 * (CONSTANT + unplaced), 2 * model, 3 * model]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal([model, unplaced, data[5]], [[1, 2], [100, 200], [5, 10]])


@fc(clients(ROWS_S), server(V))
def over_batches(data, start):
    return fm.federated_sum(fm.federated_map(total_of, (data, fm.federated_broadcast(start))))


@fc(clients(V_S), V)
def folded(data, zero):
    whole = fm.federated_map(fc(lambda s: fm.sequence_reduce(s, zero, plus), V_S), data)
    mapped = fm.federated_map(fc(lambda s: fm.sequence_sum(fm.sequence_map(fc(lambda x: plus(x, x), V), s)), V_S), data)
    return fm.federated_sum(whole), fm.federated_sum(mapped)


def test_sequences(context):
    start = np.array([1.0, 1.0], F32)
    batches = [[{"x": np.full((k, 2), c, F32), "n": 2} for k in range(3)] for c in range(5)]
    want = 5 * start + 2 * 3 * sum(range(5))
    for _ in range(2):
        np.testing.assert_array_equal(fm.replicate(over_batches(batches, start)), want)
    data = fm.client_data(batches, ROWS_S)
    for _ in range(2):
        np.testing.assert_array_equal(fm.replicate(over_batches(data, start)), want)
    assert batches[4][2]["x"].tolist() == [[4, 4], [4, 4]]
    assert list(start) == [1, 1]


def test_folds(context):
    data = [[np.array([c, k], F32) for k in range(3)] for c in range(4)]
    zero = np.array([1.0, 0.0], F32)
    for values in (data, fm.client_data(data, V_S)):
        whole, mapped = fm.replicate(folded(values, zero))
        assert list(whole) == [4 + 18, 12]
        assert list(mapped) == [36, 24]
    assert list(zero) == [1, 0]
    assert list(data[3][2]) == [3, 2]


OPEN = fm.to_type({"x": (F32, [None, 2])})


@python(fm.SequenceType(OPEN), result=V)
def total_of_rows(batches):
    total = sum((batch.x.sum(axis=0) for batch in batches), np.zeros(2, F32))
    for batch in batches:
        spoil(batch.x)
    return total


@pytest.mark.parametrize("storage", ["dense", "bytes"])
def test_arrays_that_every_rank_opens(context, storage):
    rows = np.repeat(np.array([[0, 255], [255, 255], [0, 0], [255, 0]], np.float32) / F32(255), 2, axis=0)
    data = fm.client_data_from_arrays({"x": rows}, [0, 3, 3, 8], fm.SequenceType(OPEN), 2, storage=storage)
    program = fc(lambda d: fm.federated_sum(fm.federated_map(total_of_rows, d)), clients(fm.SequenceType(OPEN)))
    for _ in range(2):
        assert list(fm.replicate(program(data))) == [4, 4]
    assert rows.sum() == 8


@fc(clients(V), V)
def aggregated(data, zero):
    return fm.federated_aggregate(data, zero, plus, plus, same)


def test_states_of_an_aggregation(context):
    zero, data = np.zeros(2, F32), [np.array([i, -i], F32) for i in range(70)]
    assert list(fm.replicate(aggregated(data, zero))) == [2415, -2415]
    assert not zero.any()


def test_a_selection(context):
    keys = [np.array(k, I32) for k in ([0, 1], [1, 2], [2, 1])]

    @fc(clients((I32, [2])), server(I32), server(V))
    def selected(keys, max_key, value):
        parts = fm.federated_select(keys, max_key, value, row)
        return fm.federated_sum(fm.federated_map(fc(fm.sequence_sum, V_S), parts))

    value = np.array([1.0, 10.0], F32)
    assert list(fm.replicate(selected(keys, I32(2), value))) == [7, 70]
    assert list(value) == [1, 10]


def test_calls_of_a_body_by_itself_and_from_another(context):
    @python(V, V, result=(V, V))
    def outer(a, b):
        first = plus(a, b)
        second = plus(a, first)
        spoil(a, b)
        return first, second

    mine = np.array([1.0, 2.0], F32), np.array([3.0, 4.0], F32)
    first, second = outer(*mine)
    assert (list(first), list(second)) == ([4, 6], [5, 8])
    np.testing.assert_array_equal(mine, [[1, 2], [3, 4]])
    got = same(first)
    spoil(*given)
    assert list(got) == list(first) == [4, 6]
    assert got.flags.writeable
