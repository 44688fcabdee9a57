"""Sums by digits, against fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.local.sums import exact
from tests import oracle


def exact_sum(terms):
    """Return the sum of finite terms, by digits."""
    sums = np.zeros((1, exact.DIGITS), np.int64)
    for term in terms:
        exact.add_term(sums[0], np.float64(term))
    out = np.empty(1)
    exact.round_sums(sums, out)
    return out[0]


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, min_size=1, max_size=30))
@settings(max_examples=400, deadline=None)
def test_any_finite_terms(terms):
    assert oracle.bits(exact_sum(terms)) == oracle.bits(oracle.total(terms))


@given(st.lists(st.tuples(st.integers(-(2**53), 2**53), st.integers(-1074, 900)), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_mantissas_at_any_scale(pairs):
    terms = [math.ldexp(m, e) for m, e in pairs]
    assert oracle.bits(exact_sum(terms)) == oracle.bits(oracle.total(terms))


@given(st.lists(FINITE, min_size=2, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_cannot_matter(terms, random):
    shuffled = list(terms)
    random.shuffle(shuffled)
    assert oracle.bits(exact_sum(terms)) == oracle.bits(exact_sum(shuffled))


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
    got = exact_sum(terms)
    assert got == total
    assert math.copysign(1, got) == math.copysign(1, total)
