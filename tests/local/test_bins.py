"""Sums in planes: always the true sum rounded once, whatever the terms, their order and the carries between them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmpi.local.sums import bins, rounding, terms
from fedmpi.local.sums.weights import check_weight
from tests import oracle


class Sums:
    """The sums of ``n`` elements in one accumulator."""

    def __init__(self, n):
        self.planes, self.slots = np.zeros((terms.PLANES, n)), np.zeros(n, np.int32)
        self.notes, self.room = bins.new_notes(), np.zeros(bins.BLOCK)
        self.wide = bins.new_wide()

    def add(self, x, weight=1.0, at=0, client=0, function=bins.add_floats):
        weights = () if function in (bins.add_integers, bins.add_integer) else (weight,)
        self.wide = function(
            self.planes, self.slots, *self.wide, self.notes, self.room, at, x, *weights, client
        )  # fmt: skip

    def carry(self):
        self.wide = bins.carry(self.planes, self.slots, *self.wide, self.notes)

    def rounded(self, odd=False):
        """Return the sums in float64, by planes where that can be and by digits elsewhere."""
        first, last, rows = (int(n) for n in self.notes[:3])
        out, hard = np.zeros(self.slots.size), np.empty(self.slots.size, np.int64)
        count = rounding.round_planes(self.planes, first, last, 0, out, odd, hard) if first <= last else 0
        self.hard = count
        keys, digits = self.wide
        elements = np.union1d(hard[:count], keys[:rows])
        sums = np.zeros((len(elements), bins.WIDE), np.int64)
        sums[np.searchsorted(elements, keys[:rows])] = digits[:rows]
        wide = np.empty(len(elements))
        rounding.round_wide(self.planes, first, last, elements, sums, wide, odd)
        out[elements] = wide
        return out

    def to_float32(self):
        out = np.empty(self.slots.size, np.float32)
        rounding.divided(self.rounded(odd=True), 1.0, out)
        return out


def summed(rows, carries=()):
    sums = Sums(len(rows[0]))
    for client, row in enumerate(rows):
        sums.add(np.array(row, np.float64), client=client)
        if client in carries:
            sums.carry()
    return sums


def as_float(bits):
    return float(np.uint64(bits).view(np.float64))


def around(exponent):
    """Give numbers of a few bits at an exponent, and at those where they make ties and break them."""
    exponents = st.sampled_from([exponent, exponent - 1, exponent - 24, exponent - 25, exponent - 40, exponent - 52,
                                 exponent - 53, exponent - 54, exponent - 106, exponent - 107, -1074])  # fmt: skip
    return st.builds(lambda m, e: math.ldexp(m, max(e, -1074)), st.integers(-3, 3), exponents)


EDGES = [bins.TOP + bins.WIDTH - bins.WIDTH * p for p in range(terms.PLANES + 2)]
ANY = st.integers(0, 2**64 - 1).map(as_float)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NEAR = st.builds(math.ldexp, st.integers(-(2**53), 2**53), st.integers(-100, 60))
TIES = st.sampled_from([*EDGES, 0, 1, 900, -1000]).flatmap(lambda e: st.lists(around(e), min_size=1, max_size=12))
TERMS = st.one_of(
    st.lists(NEAR, min_size=1, max_size=20),
    TIES,
    st.lists(FINITE, min_size=1, max_size=12),
    st.lists(st.one_of(NEAR, ANY), min_size=1, max_size=12),
)


@given(TERMS, st.sets(st.integers(0, 11), max_size=2), st.randoms(use_true_random=False))
@settings(max_examples=600, deadline=None)
@example([1 + 2.0**-52, 2.0**-53, -(2.0**-160)], set(), None)  # what breaks the tie is far below the losses
@example([1.0, 2.0**-53, 2.0**-160], set(), None)
@example([1.0, 2.0**-24, 2.0**-160], {0, 1}, None)
def test_the_true_sum_rounded_once(terms, carries, random):
    sums = summed([[t] for t in terms], carries)
    assert oracle.bits(sums.rounded()[0]) == oracle.bits(oracle.total(terms))
    assert oracle.bits(sums.to_float32()[0]) == oracle.bits(oracle.total(terms, np.float32))
    if random is not None:
        random.shuffle(terms)
        again = summed([[t] for t in terms])
        assert oracle.bits(sums.rounded()[0]) == oracle.bits(again.rounded()[0])


@given(st.lists(st.lists(st.one_of(NEAR, ANY), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 5000))
@settings(max_examples=150, deadline=None)
def test_elements_do_not_touch_each_other(rows, at):
    """Among thousands of other elements, at any place of a block."""
    others = np.random.default_rng(at).normal(size=at + 3)
    sums = Sums(at + 3)
    sums.add(others)
    for client, row in enumerate(rows):
        sums.add(np.array(row), at=at, client=client)
    got = sums.rounded()
    np.testing.assert_array_equal(got[:at], others[:at])
    for i in range(3):
        assert oracle.bits(got[at + i]) == oracle.bits(oracle.total([others[at + i], *(row[i] for row in rows)]))


@pytest.mark.parametrize("edge", EDGES)
def test_both_sides_of_the_edge_of_a_plane(edge):
    limit = 2.0**edge
    below, above = np.nextafter(limit, 0), np.nextafter(limit, np.inf)
    for numbers in ([limit] * 3, [below] * 5, [above, -limit], [above, below, -above], [-limit, below / 2, below / 2]):
        sums = summed([[t] for t in numbers])
        assert oracle.bits(sums.rounded()[0]) == oracle.bits(oracle.total(numbers))


@pytest.mark.parametrize("exponent", [120 - 40 * p for p in range(terms.PLANES)] + [159, 500])
def test_as_many_terms_as_fit_before_a_carry(exponent):
    """The largest terms of a plane, twice as many as `CLIENTS`, on each of four accumulators that are then added."""
    largest = np.nextafter(2.0**exponent, 0)
    row = np.full((1, 2), largest) * [1, -1]
    parts = []
    for _ in range(4):
        sums = Sums(2)
        for client in range(2 * terms.CLIENTS):
            sums.add(row[0], client=client)
            if client % terms.CLIENTS == terms.CLIENTS - 1:
                assert np.all(np.abs(sums.planes) <= 2.0**52 * (bins._CUT[:, None] / (1.5 * 2.0**52)))
                sums.carry()
        parts.append(sums)
    total = Fraction(largest) * 2 * terms.CLIENTS
    for sums in parts:
        assert list(sums.rounded()) == [oracle.nearest(total), oracle.nearest(-total)]
    whole = parts[0]
    for sums in parts[1:]:
        whole.planes += sums.planes
        whole.notes[bins.FIRST] = min(whole.notes[bins.FIRST], sums.notes[bins.FIRST])
        keys, digits = sums.wide
        rows = int(sums.notes[bins.ROWS])
        assert list(keys[:rows]) == list(whole.wide[0][:rows])
        whole.wide[1][:rows] += digits[:rows]
    assert list(whole.rounded()) == [oracle.nearest(4 * total), oracle.nearest(-4 * total)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight", [1.0, 3.0, 0.1, -2.5, 1e-40, 0.0, 1e300])
def test_terms_are_products_rounded_to_float64(dtype, weight):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(7, 2500)).astype(dtype) * dtype(10) ** rng.integers(-30, 30, (7, 2500)).astype(dtype)
    sums = Sums(2500)
    for client, row in enumerate(rows):
        sums.add(row, weight, client=client)
        sums.add(row[5], weight, at=5, client=client, function=bins.add_float)
    with np.errstate(over="ignore"):
        terms = rows.astype(np.float64) * weight
    terms[:, 5] *= 2
    got = sums.rounded()
    for i in range(0, 2500, 5):
        assert oracle.bits(got[i]) == oracle.bits(oracle.total(terms[:, i]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_integers(dtype):
    info = np.iinfo(dtype)
    rng = np.random.default_rng(2)
    rows = rng.integers(info.min, info.max, (6, 1500), dtype, endpoint=True)
    rows[:, 0], rows[:, 1] = info.max, info.min
    sums = Sums(1500)
    for client, row in enumerate(rows):
        sums.add(row, client=client, function=bins.add_integers)
        sums.add(row[7], at=7, client=client, function=bins.add_integer)
    exact = rows.astype(object).sum(axis=0)
    exact[7] *= 2
    assert [sum(int(v) for v in sums.planes[:, i]) for i in range(1500)] == list(exact)
    assert list(sums.rounded()) == [oracle.nearest(Fraction(int(v))) for v in exact]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_of_weight_zero_nothing_is_added(zero):
    sums, plain = Sums(3), np.zeros(3)
    bad = np.array([np.nan, np.inf, 1.0])
    sums.add(bad, zero)
    sums.add(bad[0], zero, function=bins.add_float)
    bins.add_plain(plain, sums.notes, 0, bad, zero, 0)
    bins.add_plain_float(plain, sums.notes, 0, np.nan, zero, 0)
    np.testing.assert_array_equal(sums.notes, bins.EMPTY)
    assert not plain.any()


@pytest.mark.parametrize("weight", [np.int8(0), np.uint64(2**64 - 1), np.float32(-0.0), np.float32(1e-45), 5e-324])
def test_weights(weight):
    assert bins.checked_weight(weight) == float(weight)
    check_weight(np.asarray(weight)[()])


@pytest.mark.parametrize(
    ("weight", "text"),
    [(np.int8(-1), "-1"), (np.int64(-(2**63)), str(-(2**63))), (np.float32(-0.1), "-0.1"), (-5e-324, "-4.94066e-324")]
    + [(np.float32(bad), str(bad)) for bad in (np.nan, np.inf, -np.inf)],
)
def test_what_is_no_weight(weight, text):
    for check in (bins.checked_weight, check_weight):
        with pytest.raises(ValueError, match=f"weight must be finite and not negative, found {text}$"):
            check(np.asarray(weight)[()])


def test_what_is_not_finite_is_counted_and_the_first_is_named():
    sums = Sums(4)
    sums.add(np.array([1.0, 2.0, 3.0, 4.0]), client=0)
    sums.add(np.array([1.0, np.inf, -np.inf, 1e200]), client=1)
    sums.add(np.array([1.0, -np.inf, -np.inf, np.nan]), client=2)
    assert sums.notes[bins.SPECIALS] == 5
    assert list(sums.notes[[bins.CLIENT, bins.ELEMENT, bins.KIND]]) == [1, 1, 1]
    np.testing.assert_array_equal(sums.rounded(), [3.0, np.nan, -np.inf, np.nan])
    out = np.empty(4)
    rounding.divided(sums.rounded(), -0.0, out)
    assert out.tobytes() == np.array([-np.inf, np.nan, np.inf, np.nan]).tobytes()


def test_planes_alone_suffice_for_an_ordinary_model():
    rng = np.random.default_rng(3)
    sums = Sums(7850)
    for client in range(20):
        sums.add(
            rng.normal(size=7850).astype(np.float32) * np.float32(0.05), float(rng.integers(1, 500)), client=client
        )
    for odd in (False, True):
        sums.rounded(odd)
        assert sums.hard == 0
    assert sums.notes[bins.ROWS] == 0
    assert sums.notes[bins.LAST] - sums.notes[bins.FIRST] <= 2


def test_plain_sums_note_what_is_not_finite():
    for dtype in (np.float32, np.float64):
        sums, notes = np.zeros(5, dtype), bins.new_notes()
        bins.add_plain(sums, notes, 1, np.array([1.0, 0.1, 3.0], np.float32), 0.1, 0)
        np.testing.assert_array_equal(sums[1:4], np.array([1.0, 0.1, 3.0], np.float32).astype(dtype) * dtype(0.1))
        assert not notes[bins.SPECIALS]
        bins.add_plain(sums, notes, 1, np.array([1.0, np.nan, -np.inf]), 1.0, 3)
        bins.add_plain_float(sums, notes, 0, np.inf, 1.0, 4)
        assert list(notes[bins.SPECIALS :]) == [3, 3, -3, 0]
