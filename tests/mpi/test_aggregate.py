"""federated_aggregate on these ranks: blocks, the tree, states of any size, errors in the user's functions."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere
from tests.mpi.test_operators import F32, FUSE, I32, clients, fc, run, server
from tests.programs import assert_same

pytestmark = pytest.mark.mpi


@fm.numba_computation(F32, F32)
def decay(state, x):
    return state * np.float32(0.9) + x


@fm.numba_computation(F32, F32)
def combine(left, right):
    return left - right * np.float32(0.3)


@fm.numba_computation(F32)
def doubled(state):
    return np.float64(state) * 2


def by_hand(numbers):
    """Return what the blocks and the tree of an aggregate come to, written out once more."""
    count = min(len(numbers), 64)
    states = []
    for b in range(count):
        state = F32(0.25)
        for x in numbers[b * len(numbers) // count : (b + 1) * len(numbers) // count]:
            state = F32(F32(state * F32(0.9)) + x)
        states.append(state)
    while len(states) > 1:
        pairs = zip(states[::2], states[1::2], strict=False)
        merged = [F32(a - F32(b * F32(0.3))) for a, b in pairs]
        states = merged + states[2 * len(merged) :]
    return np.float64(states[0] if states else F32(0.25)) * 2


DECAYED = fc(lambda x: fm.federated_aggregate(x, 0.25, decay, combine, doubled), clients(F32))


@FUSE
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 63, 64, 65, 200])
def test_aggregate_folds_blocks_and_merges_in_a_tree(comm, fuse, count):
    numbers = [F32(x) for x in np.random.default_rng(count).normal(size=count)]
    want = by_hand(numbers)
    assert np.isclose(run(fuse, DECAYED, numbers), want, rtol=1e-5)
    for trains in (False, True):
        assert run(fuse, DECAYED, numbers, server_trains=trains) == run(fuse, DECAYED, numbers)


@FUSE
def test_aggregate_where_a_block_is_on_several_ranks(comm, fuse):
    numbers = [F32(x) for x in np.random.default_rng(0).normal(size=300)]
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    data = fm.client_data(numbers, F32)
    chosen = np.random.default_rng(1).permutation(300)[:150]
    program = fc(
        lambda x: fm.federated_aggregate(fm.federated_map(twice, x), 0.25, decay, combine, doubled), clients(F32)
    )
    got = fm.replicate((program(data.select(chosen)), DECAYED(data.select(chosen))))
    want = [fm.ReferenceContext().invoke(p, [numbers[i] for i in chosen]) for p in (program, DECAYED)]
    assert_same(list(got), want, bits=True)


@fm.numba_computation(F32)
def twice(x):
    return x * 2


@FUSE
def test_aggregate_of_the_mean_of_a_tutorial(comm, fuse):
    state = collections.OrderedDict(total=F32, count=I32)

    @fm.numba_computation(state, F32)
    def accumulate(s, x):
        return {"total": s.total + x, "count": s.count + 1}

    @fm.numba_computation(state, state)
    def merge(a, b):
        return {"total": a.total + b.total, "count": a.count + b.count}

    @fm.numba_computation(state)
    def report(s):
        return s.total / np.float32(s.count)

    mean = fc(
        lambda x: fm.federated_aggregate(x, collections.OrderedDict(total=0.0, count=0), accumulate, merge, report),
        clients(F32),
    )
    assert run(fuse, mean, [F32(i) for i in range(1, 8)]) == 4.0
    text = str(fm.plan(mean))
    assert ": federated_aggregate of accumulate at test_aggregate.py:" in text
    assert "Gather 8 B for each of at most 64 blocks" in text
    assert "server: merges in a tree, and report of federated_aggregate at test_aggregate.py:" in text


def test_aggregate_of_states_of_any_size(comm):
    grow = fm.to_type((I32, [None]))

    @fm.python_computation(grow, I32, result=grow)
    def longer(state, x):
        return np.append(state, np.int32(x))

    @fm.numba_computation(grow, grow, result=grow)
    def join(a, b):
        return np.concatenate((a, b))

    listed = fc(lambda x: fm.federated_aggregate(x, np.zeros(0, I32), longer, join, fc(lambda s: s)), clients(I32))
    assert run(None, listed, list(range(100, 170))).tolist() == list(range(100, 170))
    assert run(None, listed, []).tolist() == []


@FUSE
def test_aggregate_beside_sums_and_after_a_broadcast(comm, fuse):
    program = fc(
        lambda x, s: (
            fm.federated_sum(x),
            fm.federated_aggregate(
                fm.federated_map(decay, (fm.federated_broadcast(s), x)), 0.0, decay, combine, doubled
            ),
            fm.federated_aggregate(fm.federated_broadcast(s), 0.0, decay, combine, doubled),
            fm.federated_min(x),
        ),
        clients(F32),
        server(F32),
    )
    run(fuse, program, [F32(i) for i in range(11)], F32(3))


@FUSE
@pytest.mark.parametrize("at", ["accumulate", "merge", "report"])
def test_errors_in_the_functions_of_an_aggregate(comm, fuse, at):
    @fm.numba_computation(I32, I32)
    def accumulate(state, x):
        if x == 3 and at == "accumulate":
            raise ZeroDivisionError("an odd client")
        return state + x

    @fm.numba_computation(I32, I32)
    def merge(a, b):
        if a == 0 and b == 1 and at == "merge":
            raise ZeroDivisionError("an odd pair")
        return a + b

    @fm.numba_computation(I32)
    def report(state):
        if state == 28 and at == "report":
            raise ZeroDivisionError("an odd state")
        return state

    total = fc(lambda x: fm.federated_aggregate(x, 0, accumulate, merge, report), clients(I32))
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    text = raises_everywhere(comm, ZeroDivisionError, lambda: total(list(range(8))))
    place = "" if at == "accumulate" else "the server, "
    assert f"federated_aggregate at {place}test_aggregate.py:" in text
    assert f", in {at} (test_aggregate.py:" in text
    assert "client 3 of x (rank " in text if at == "accumulate" else "at the server" in text


@FUSE
def test_a_state_of_no_tensors(comm, fuse):
    empty = fm.to_type(())
    forget = fc(lambda s, x: s, empty, I32)
    both = fc(lambda a, b: a, empty, empty)
    program = fc(lambda x: fm.federated_aggregate(x, (), forget, both, fc(lambda s: 7, empty)), clients(I32))
    for count in (0, 1, 5):
        assert run(fuse, program, list(range(count))) == 7


ROWS = collections.OrderedDict(x=(F32, [None, 300]), y=(I32, [None]))
MODEL = collections.OrderedDict(weights=(F32, [300, 3]), bias=(F32, [3]))


@fm.numba_computation(F32, (MODEL, ROWS))
def add_loss(state, pair):
    model, rows = pair
    return state * np.float32(0.5) + fm.kernels.softmax_loss(rows.x, rows.y, model.weights, model.bias)


@fm.numba_computation(MODEL, ROWS)
def step(model, rows):
    weights, bias = fm.kernels.softmax_sgd_step(rows.x, rows.y, model.weights, model.bias, np.float32(0.1))
    return {"weights": weights, "bias": bias}


@fm.numba_computation(MODEL, MODEL)
def difference(a, b):
    return {"weights": a.weights - b.weights, "bias": a.bias - b.bias}


first_rows = fm.python_computation(lambda rows: rows.x[:1], ROWS, result=(F32, [None, 300]))
SAME_MODEL, SAME_NUMBER = fc(lambda m: m, MODEL), fc(lambda s: s, F32)
FOLDS_OF_ROWS = {
    "rows": lambda rows, model: fm.federated_aggregate(rows, model, step, difference, SAME_MODEL),
    "rows beside a model": lambda rows, model: fm.federated_aggregate(
        (fm.federated_value(model, fm.CLIENTS), rows), 0.0, add_loss, combine, SAME_NUMBER
    ),
    "beside what no loop can hold": lambda rows, model: (
        fm.federated_aggregate(rows, model, step, difference, SAME_MODEL),
        fm.federated_mean(fm.federated_map(first_rows, rows)),
    ),
}


@pytest.mark.parametrize("fold", FOLDS_OF_ROWS)
def test_sparse_rows_are_folded_alike_wherever_a_block_is(comm, fold):
    rng = np.random.default_rng(0)
    kept = rng.random((150, 4, 300)) < 0.03
    x = np.where(kept, rng.normal(size=kept.shape), 0).astype(F32)
    rows = [collections.OrderedDict(x=a, y=rng.integers(0, 3, 4).astype(I32)) for a in x]
    model = collections.OrderedDict(weights=rng.normal(size=(300, 3)).astype(F32), bias=np.zeros(3, F32))
    chosen = rng.permutation(150)[:90]
    program = fc(FOLDS_OF_ROWS[fold], clients(ROWS), MODEL)
    cohort = fm.client_data(rows, ROWS, storage="sparse").select(chosen)  # blocks on several ranks
    packed = fm.client_data([rows[i] for i in chosen], ROWS, storage="sparse")  # each block on one
    assert_same(fm.replicate(program(cohort, model)), fm.replicate(program(packed, model)), bits=True)
