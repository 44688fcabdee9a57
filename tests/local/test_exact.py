"""Sums without rounding errors, against `math.fsum` and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.local.exact import PLANES, add_terms, reach, round_sums


def exact_sum(rows):
    """Return the sums over axis 0 of float64[rows, n], by the accumulator."""
    low, high = PLANES, -1
    for row in rows:
        least, most, special = reach(row)
        assert special == (not np.all(np.isfinite(row)))
        low, high = min(low, least), max(high, most)
    if high < 0:
        low, high = 0, 0
    limbs = np.zeros((rows.shape[1], high - low + 1), np.int64)
    for row in rows:
        add_terms(limbs, low, row)
    out = np.empty(rows.shape[1])
    round_sums(limbs, low, out)
    return out


def nearest(terms):
    """Return the float64 nearest to the true sum."""
    total = sum(map(Fraction, terms), Fraction(0))
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1, max_size=30))
@settings(max_examples=400, deadline=None)
def test_any_finite_terms(terms):
    assert exact_sum(np.array(terms)[:, None])[0] == nearest(terms)


@given(st.lists(st.tuples(st.integers(-(2**53), 2**53), st.integers(-1074, 900)), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_mantissas_at_any_scale(pairs):
    with np.errstate(all="ignore"):
        terms = [math.ldexp(m, e) for m, e in pairs if abs(m) == 0 or e < 900]
    if terms:
        assert exact_sum(np.array(terms)[:, None])[0] == nearest(terms)


@given(st.lists(FINITE, min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_cannot_matter(terms, random):
    shuffled = list(terms)
    random.shuffle(shuffled)
    a, b = exact_sum(np.array(terms)[:, None]), exact_sum(np.array(shuffled)[:, None])
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    ("terms", "total"),
    [
        ([1e30, 1.0, -1e30], 1.0),
        ([1.0, 2.0**-53], 1.0),  # a tie goes to even
        ([1.0, 2.0**-53, 2.0**-1074], 1.0 + 2.0**-52),  # what is far below breaks it
        ([1.0 + 2.0**-52, 2.0**-53], 1.0 + 2.0**-51),
        ([-0.0, -0.0], 0.0),
        ([2.0**-1074] * 3, 3 * 2.0**-1074),
        ([1.7976931348623157e308, 1e292], math.inf),
        ([1.7976931348623157e308, -1.7976931348623157e308, 5.0], 5.0),
        ([-1.0, 2.0**-60, -(2.0**-60)], -1.0),
    ],
)
def test_known_sums(terms, total):
    got = exact_sum(np.array(terms)[:, None])[0]
    assert got == total
    assert math.copysign(1, got) == math.copysign(1, total)


def test_what_is_not_finite_is_left_out_and_reported():
    row = np.array([1.0, np.inf, np.nan, -np.inf, 0.0])
    assert reach(row)[2]
    limbs = np.zeros((5, PLANES), np.int64)
    add_terms(limbs, 0, row)
    out = np.empty(5)
    round_sums(limbs, 0, out)
    np.testing.assert_array_equal(out, [1.0, 0.0, 0.0, 0.0, 0.0])
    assert reach(np.zeros(3)) == (PLANES, -1, False)
