"""The accumulator of a stage: any split of the clients over ranks gives the same bits, those of the true sum."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.local.sums import bins, terms
from fedmpi.runtime import reference_sums
from fedmpi.runtime.plan.reduction import Layout, Reduction
from fedmpi.runtime.stage.accumulator import Accumulator
from tests import oracle

F32 = np.float32


class Taking:
    """Stands for the communicator: only keeps what would be sent."""

    def __init__(self):
        self.messages = []

    def reduce(self, message, by="SUM"):
        self.messages.append((message, by))


class Ranks:
    """As many accumulators as ranks, whose sums come together on rank 0 as the executor and MPI_Reduce bring them."""

    def __init__(self, reductions, ranks, mode="exact"):
        layout = Layout(reductions, mode)
        self.accumulators = [Accumulator(layout) for _ in range(ranks)]
        self.owned = [[] for _ in range(ranks)]

    def add(self, client, members):
        rank = hash((client, len(self.owned))) % len(self.owned)
        self.accumulators[rank].add(members, len(self.owned[rank]))
        self.owned[rank].append(client)

    def reduce(self):
        """Bring the sums together; return what was not finite."""
        clients = sum(map(len, self.owned))
        words = np.min([a.words(clients) for a in self.accumulators], axis=0)
        messages = []
        for accumulator in self.accumulators:
            comm = Taking()
            accumulator.reduce(comm, words)
            messages.append(comm.messages)
        first, *others = messages
        for message in others[::-1]:
            for (mine, by), (theirs, _) in zip(first, message, strict=True):
                (np.add if by == "SUM" else np.maximum)(mine, theirs, out=mine)
        if not words[2]:
            return None
        parts = [a.wide(np.array(mine, np.int64)) for a, mine in zip(self.accumulators, self.owned, strict=True)]
        return self.accumulators[0].merge(parts)

    def results(self):
        clients = sum(map(len, self.owned))
        return [self.accumulators[0].result(i, clients) for i in range(len(self.accumulators[0].layout.reductions))]


def reduced(reductions, members, ranks, mode="exact"):
    """Return the results of members dealt to some ranks."""
    job = Ranks(reductions, ranks, mode)
    for client, member in enumerate(members):
        job.add(client, member)
    job.reduce()
    return job.results()


def reduction(dtype, shape=(), *, mean=False, weight=None):
    op = "federated_mean" if mean else "federated_sum"
    return Reduction(op, fm.to_type((dtype, list(shape))), None if weight is None else fm.to_type(weight))


def of_bits(dtype):
    """Give numbers with any bits, and more often ordinary ones."""
    size = np.dtype(dtype).itemsize
    any_ = st.integers(0, 2 ** (8 * size) - 1).map(lambda n: np.frombuffer(n.to_bytes(size, "little"), dtype)[0])
    return st.one_of(any_, st.floats(-100, 100, width=min(32, 8 * size)).map(dtype))


FLOATS = [np.float16, np.float32, np.float64]


@given(st.data(), st.sampled_from(FLOATS), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_sums_and_means_of_any_numbers(data, dtype, ranks, others):
    numbers = data.draw(st.lists(of_bits(dtype), min_size=1, max_size=12))
    reductions = [reduction(dtype), reduction(dtype, mean=True)]
    members = [[(x, None)] * 2 for x in numbers]
    total, mean = reduced(reductions, members, ranks)
    assert list(map(oracle.bits, (total, mean))) == list(map(oracle.bits, reduced(reductions, members[::-1], others)))
    with np.errstate(all="ignore"):
        true = [oracle.total(numbers, dtype), (oracle.total(numbers) / len(numbers)).astype(dtype) + dtype(0)]
    for got, want, named in zip((total, mean), true, (reference_sums.total, reference_sums.mean), strict=True):
        want = np.dtype(dtype).type(np.nan) if np.isnan(want) else want
        assert oracle.bits(got) == oracle.bits(want)
        weights = [[1] * len(numbers)] if named is reference_sums.mean else []
        assert oracle.bits(named(numbers, *weights, fm.to_type(dtype))) == oracle.bits(want)


def weights(dtype):
    return of_bits(dtype).map(abs).filter(np.isfinite)


WEIGHTS = {
    np.int32: st.integers(0, 1000),
    np.uint64: st.integers(0, 2**64 - 1),
    np.int64: st.integers(0, 2**63 - 1),
    np.float32: weights(np.float32),
    np.float64: weights(np.float64),
}


@given(st.data(), st.sampled_from([*FLOATS, np.complex64]), st.sampled_from(list(WEIGHTS)), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_weighted_means_are_those_of_the_reference(data, dtype, weight, ranks):
    part = np.float32 if dtype is np.complex64 else dtype
    pairs = data.draw(st.lists(st.tuples(of_bits(part), of_bits(part), WEIGHTS[weight]), min_size=1, max_size=8))
    members = [
        np.array([x, y], part).view(dtype) if dtype is np.complex64 else np.array([x, y], dtype) for x, y, _ in pairs
    ]
    weights = [weight(w) for _, _, w in pairs]
    shape = members[0].shape
    (got,) = reduced(
        [reduction(dtype, shape, mean=True, weight=weight)],
        [[(m, w)] for m, w in zip(members, weights, strict=True)],
        ranks,
    )
    want = reference_sums.mean(members, weights, fm.to_type((dtype, list(shape))))
    assert got.dtype == want.dtype
    assert oracle.bits(got) == oracle.bits(want)


def test_a_float32_sum_is_rounded_once():
    """Through float64 the sum would be a tie, which what breaks it is too small to leave in float64."""
    for small, want in ((2.0**-80, 1 + 2.0**-23), (-(2.0**-80), 1.0)):
        members = [[(np.float32(x), None)] for x in (1.0, 2.0**-24, small)]
        assert np.float32(math.fsum([1.0, 2.0**-24, small])) == 1.0
        for ranks in (1, 2, 3):
            assert reduced([reduction(np.float32)], members, ranks) == [np.float32(want)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_are_exact_and_overflow_is_an_error(dtype):
    info = np.iinfo(dtype)
    one = reduction(dtype, (2,))
    members = [[(np.array([info.max, info.min], dtype), None)], [(np.array([0, info.max], dtype), None)]]
    for ranks in (1, 2, 3):
        (total,) = reduced([one], members, ranks)
        assert total.dtype == dtype
        assert [int(v) for v in total] == [info.max, info.min + info.max]
        text = f"the sum does not fit {np.dtype(dtype).name}: it is {info.max + 1}"
        with pytest.raises(OverflowError, match=text):
            reduced([one], [*members, [(np.array([1, 0], dtype), None)]], ranks)
        if info.min:
            with pytest.raises(OverflowError, match=f"it is {info.min - 1}"):
                reduced([one], [[(np.array([0, info.min], dtype), None)], [(np.array([0, -1], dtype), None)]], ranks)


@pytest.mark.parametrize("ranks", [1, 3])
def test_more_clients_than_fit_without_a_carry(ranks):
    """Every 500th client is far off; the rest fills the planes up."""
    count, rng = 2 * terms.CLIENTS + 101, np.random.default_rng(4)
    values = rng.uniform(0.9, 1, (count, 3)) * [2.0**159, 2.0**119, -1.0]
    values[::500] *= 1e-40
    values[7::500] *= 1e90
    weights = rng.integers(1, 3, count)
    weights[::100] = 0
    reductions = [reduction(np.float64, (3,)), reduction(np.float64, (3,), mean=True, weight=np.int64)]
    members = [[(v, None), (v, w)] for v, w in zip(values, weights, strict=True)]
    total, mean = reduced(reductions, members, ranks)
    assert oracle.bits(total) == oracle.bits([oracle.total(values[:, i]) for i in range(3)])
    weighted = [oracle.total(values[:, i] * weights) / np.float64(weights.sum()) for i in range(3)]
    assert oracle.bits(mean) == oracle.bits(weighted)


def test_structs_of_everything():
    type_ = fm.to_type({"a": np.int32, "b": (np.complex64, [1]), "c": (np.float64, [2, 2]), "d": [], "e": (F32, [0])})
    value = (np.int32(2), np.array([1 + 2j], np.complex64), np.full((2, 2), 0.1), (), np.zeros(0, F32))
    (total,) = reduced([Reduction("federated_sum", type_)], [[(value, None)]] * 10, 3)
    assert total[0] == 20
    assert total[1] == np.complex64(10 + 20j)
    np.testing.assert_array_equal(total[2], np.full((2, 2), math.fsum([0.1] * 10)))
    assert total[3] == ()
    assert total[4].shape == (0,)
    assert total[4].dtype == F32


def test_structs_of_nothing():
    empty = fm.to_type([])
    reductions = [
        Reduction("federated_sum", empty),
        Reduction("federated_mean", empty),
        Reduction("federated_mean", empty, fm.to_type(F32)),
    ]
    assert reduced(reductions, [[((), None), ((), None), ((), F32(2))]] * 3, 2) == [(), (), ()]


def test_large_and_small_integers_side_by_side():
    """NumPy makes floats of a list of 2^63 and 2^53 + 1."""
    values = np.array([2**63, 2**53 + 1, 2**53 - 1, 0], np.uint64)
    (total,) = reduced([reduction(np.uint64, (4,))], [[(values, None)]], 1)
    assert oracle.bits(total) == oracle.bits(values)


def test_nobody_has_a_term():
    assert reduced([reduction(F32)], [], 2) == [0.0]
    (zero,) = reduced([reduction(F32)], [[(F32(-0.0), None)]], 2)
    assert oracle.bits(zero) == oracle.bits(F32(0.0))


@pytest.mark.parametrize("mode", ["exact", "float64", "fast"])
def test_what_is_not_finite_is_named(mode):
    reductions = [reduction(F32, (2,)), Reduction("federated_mean", fm.to_type({"a": F32, "b": F32}), fm.to_type(F32))]
    job = Ranks(reductions, 3, mode)
    for client in range(9):
        bad = {3: np.nan, 5: np.nan, 7: -np.inf}.get(client, 1.0)
        weight = F32(client != 3)  # of weight 0: not looked at
        job.add(client, [(np.array([1, 2], F32), None), ((F32(1), F32(bad)), weight)])
    found = job.reduce()
    assert found.first() == "client 5 has nan in b times its weight"
    assert found.count == 2
    total, mean = job.results()
    np.testing.assert_array_equal(total, [9.0, 18.0])
    assert mean[0] == 1
    assert oracle.bits(mean[1]) == oracle.bits(F32(np.nan))


@pytest.mark.parametrize("mode", ["exact", "float64", "fast"])
def test_the_first_of_a_clients_leaves_is_named(mode):
    """Whichever is added first: a compiled loop adds arrays and scalars in another order."""
    layout = Layout([reduction(F32, (2,)), reduction(F32), reduction(F32, (2,))], mode)
    accumulator = Accumulator(layout)
    bad = [np.array([1, np.inf], F32), F32(np.nan), np.array([-np.inf, 1], F32)]
    for index in (2, 1, 0):
        (leaf,) = layout.leaves[index]
        accumulator._add(leaf, np.asarray(bad[index]), 1.0, 4)
    accumulator._add(layout.leaves[0][0], np.array([np.inf, np.nan], F32), 1.0, 5)
    found = accumulator.not_finite(accumulator.notes)
    assert (found.count, found.client, found.reduction, found.kind) == (5, 4, 0, "inf")


@pytest.mark.parametrize("mode", ["float64", "fast"])
def test_the_other_modes_add_rounded_numbers_but_integers_and_weights_exactly(mode):
    dtype = np.float64 if mode == "float64" else F32
    rng = np.random.default_rng(5)
    values, weights = rng.normal(size=(20, 40)).astype(F32), rng.integers(2**60, 2**62, 20)
    reductions = [reduction(F32, (40,), mean=True, weight=np.int64), reduction(np.int64)]
    members = [[(v, w), (w // 32, None)] for v, w in zip(values, weights, strict=True)]
    mean, total = reduced(reductions, members, 1, mode)
    sums = np.zeros(40, dtype)
    for v, w in zip(values, weights, strict=True):
        sums += v.astype(dtype) * dtype(w)
    expected = sums.astype(np.float64) / float(sum(map(int, weights)))
    np.testing.assert_array_equal(mean, expected.astype(F32))
    assert total == sum(int(w) // 32 for w in weights)


def test_an_accumulator_that_failed_in_the_middle_is_empty_again():
    """Compiled code that raises leaves elements pointing at rows of a wide store that it did not return."""
    job = Ranks([reduction(np.float64, (3,))], 1)
    (accumulator,) = job.accumulators
    lost = bins.add_floats(*accumulator.state[:6], 0, np.array([1e300, 2.0, 1e-300]), 1.0, 0)
    assert len(lost[0])
    accumulator.reset()
    assert not accumulator.slots.any()
    job.add(0, [(np.array([1e300, 1.0, 2.0]), None)])
    job.reduce()
    np.testing.assert_array_equal(job.results(), [[1e300, 1.0, 2.0]])


def test_bfloat16_sums_are_rounded_once():
    """NumPy casts float64 to bfloat16 by way of float32, which rounds twice."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for small, want in ((2.0**-40, 1 + 2.0**-7), (-(2.0**-40), 1.0), (0.0, 1.0)):
        members = [bfloat16(x) for x in (1.0, 2.0**-8, small)]
        (total,) = reduced([reduction(bfloat16)], [[(m, None)] for m in members], 2)
        assert oracle.bits(total) == oracle.bits(bfloat16(want))
        assert oracle.bits(reference_sums.total(members, fm.to_type(bfloat16))) == oracle.bits(total)
    (infinite,) = reduced([reduction(bfloat16)], [[(bfloat16(3e38), None)]] * 2, 2)
    assert infinite == np.inf


def test_the_oracle_rounds_as_the_machine_does():
    rng = np.random.default_rng(6)
    numbers = rng.integers(0, 2**64, 2000, np.uint64).view(np.float64)
    for dtype in FLOATS:
        with np.errstate(all="ignore"):
            for x in [*numbers[np.isfinite(numbers)][:300].tolist(), 1e-7, 6e-8, 2.9e-8, 65519.0, 65520.0]:
                assert oracle.nearest(Fraction(x), dtype) == dtype(x)
