"""The accumulator of a stage: any split of the clients over ranks gives the same bits, those of the true sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.runtime.reduction import Accumulator, Reduction


def reduced(reductions, members, ranks):
    """Return the results of members dealt to some ranks, as the executor and MPI_Reduce would."""
    accumulators = [Accumulator(reductions) for _ in range(ranks)]
    for client, member in enumerate(members):
        accumulators[client % ranks].add(member)
    reach = np.min([a.reach() for a in accumulators], axis=0)
    message = np.sum([a.message(reach) for a in accumulators], axis=0)
    specials = [a.special(reach) for a in accumulators]
    with np.errstate(invalid="ignore"):
        special = None if specials[0] is None else np.sum(specials, axis=0)
    return [reduction.result(parts) for reduction, parts in accumulators[0].results(reach, message, special)]


def bits(value):
    return np.asarray(value).tobytes()


NUMBERS = st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=15)


@given(NUMBERS, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_float32_sums_and_means(numbers, ranks, others):
    reductions = [Reduction(fm.to_type(np.float32), mean=mean) for mean in (False, True)]
    members = [[(np.float32(x), None)] * 2 for x in numbers]
    total, mean = reduced(reductions, members, ranks)
    assert [bits(total), bits(mean)] == [bits(v) for v in reduced(reductions, members[::-1], others)]
    with np.errstate(all="ignore"):
        if all(map(math.isfinite, numbers)):
            true = np.float64(math.fsum(numbers))
        else:
            true = np.sum(np.array(numbers, np.float64))
        assert total == np.float32(true) or (np.isnan(total) and np.isnan(true))
        expected = np.float32(true / len(numbers))
        assert mean == expected or (np.isnan(mean) and np.isnan(expected))
    if np.isnan(total):
        assert bits(total) == bits(np.float32(np.nan))


@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 1000)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_weighted_means(pairs, ranks):
    reduction = Reduction(fm.to_type((np.float32, [2])), mean=True, weight=fm.to_type(np.int32))
    members = [[(np.array([x, -x], np.float32), np.int32(w))] for x, w in pairs]
    (mean,) = reduced([reduction], members, ranks)
    with np.errstate(all="ignore"):
        true = np.float64(math.fsum(float(x) * w for x, w in pairs)) / np.float64(sum(w for _, w in pairs))
        np.testing.assert_array_equal(mean, np.array([true, -true]).astype(np.float32) + np.float32(0))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_integers_are_exact_and_overflow_is_an_error(dtype):
    info = np.iinfo(dtype)
    reduction = Reduction(fm.to_type((dtype, [2])), mean=False)
    members = [[(np.array([info.max, info.min], dtype), None)], [(np.array([0, info.max], dtype), None)]]
    for ranks in (1, 2, 3):
        (total,) = reduced([reduction], members, ranks)
        assert total.dtype == dtype
        assert [int(v) for v in total] == [info.max, info.min + info.max]
        with pytest.raises(OverflowError, match=f"the sum does not fit {np.dtype(dtype).name}"):
            reduced([reduction], [*members, [(np.array([1, 0], dtype), None)]], ranks)


def test_structs_of_everything():
    type_ = fm.to_type({"a": np.int32, "b": (np.complex64, [1]), "c": (np.float64, [2, 2]), "d": []})
    value = (np.int32(2), np.array([1 + 2j], np.complex64), np.full((2, 2), 0.1), ())
    (total,) = reduced([Reduction(type_, mean=False)], [[(value, None)]] * 10, 3)
    assert total[0] == 20
    assert total[1] == np.complex64(10 + 20j)
    np.testing.assert_array_equal(total[2], np.full((2, 2), math.fsum([0.1] * 10)))
    assert total[3] == ()


def test_nobody_has_a_term():
    assert reduced([Reduction(fm.to_type(np.float32), mean=False)], [], 2) == [0.0]
    (zero,) = reduced([Reduction(fm.to_type(np.float32), mean=False)], [[(np.float32(-0.0), None)]], 2)
    assert bits(zero) == bits(np.float32(0.0))
