"""From the planes and digits of exact sums (see `fedmpi.local.sums.bins`) to numbers, each rounded once."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit
from fedmpi.local.sums import exact
from fedmpi.local.sums.bins import BLOCK

_MORE = 1.0 + 2.0**-40  # covers the rounding of a few sums of positive numbers


@jit
def round_planes(planes: Any, first: Any, last: Any, at: Any, out: Any, odd: Any, hard: Any) -> Any:
    """Write the float64 nearest to the sum over planes ``first`` to ``last`` of elements ``at``, … into out float64[n].

    With ``odd``, a sum that is no float64 is rounded to the neighbour with an odd last bit instead: rounding that once
    more, to a shorter format, is then the same as rounding the sum once (S. Boldo and G. Melquiond, "Emulation of FMA
    and correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Comput. 57, 2008).  Elements whose
    rounding is too close to call are written into ``hard`` int64[n], counted from ``at``; returns how many.
    """
    count = 0
    lost, doubt = np.empty(BLOCK, np.float64), np.empty(BLOCK, np.float64)
    for start in range(0, out.size, BLOCK):
        sums = out[start : start + BLOCK]
        if first >= last - 1 and not odd:
            _add_two(planes, first, last, at + start, sums)
            continue
        _add_planes(planes, first, last, at + start, sums, lost, doubt)
        if _round(sums, lost, doubt, odd):
            for i in range(sums.size):
                if np.isnan(sums[i]):
                    hard[count] = start + i
                    count += 1
    return count


@jit
def _add_two(planes: Any, first: Any, last: Any, at: Any, sums: Any) -> None:
    """Write the sums of one or two planes: one addition rounds them to the nearest."""
    high, low = planes[first, at : at + sums.size], planes[last, at : at + sums.size]
    if first == last:
        for i in range(sums.size):
            sums[i] = high[i] + 0.0  # never -0.0
    else:
        for i in range(sums.size):
            sums[i] = high[i] + low[i] + 0.0


@jit
def _add_planes(planes: Any, first: Any, last: Any, at: Any, sums: Any, lost: Any, doubt: Any) -> None:
    """Write sums[m], lost[m] and doubt[m] such that the true sums are sums + lost, but for at most doubt · (1 + 2^-40).

    From the lowest plane up, each addition gives the sum rounded and what that lost, exactly (D. E. Knuth's TwoSum).
    The losses are added in the same way, and the magnitudes of what that lost.
    """
    m = sums.size
    low = planes[last, at : at + m]
    for i in range(m):
        sums[i] = low[i]
        lost[i] = 0.0
        doubt[i] = 0.0
    for p in range(last - 1, first - 1, -1):
        plane = planes[p, at : at + m]
        if p == last - 1:
            for i in range(m):
                sums[i], lost[i] = _two_sum(plane[i], sums[i])
        else:
            for i in range(m):
                sums[i], error = _two_sum(plane[i], sums[i])
                lost[i], error = _two_sum(lost[i], error)
                doubt[i] += abs(error)


@jit
def _two_sum(a: Any, b: Any) -> Any:
    """Return a + b rounded, and what that lost."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


@jit
def _round(sums: Any, lost: Any, doubt: Any, odd: Any) -> Any:
    """Round what `_add_planes` gives; what is too close to call becomes NaN: tell whether there is any."""
    if odd:
        return _to_odd(sums, lost, doubt)
    return _to_nearest(sums, lost, doubt)


@jit
def _to_nearest(sums: Any, lost: Any, doubt: Any) -> Any:
    """Round to the nearest: that is certain if what it lost is less than half a unit at both ends of the doubt."""
    unsure = False
    for i in range(sums.size):
        rounded, rest = _two_sum(sums[i], lost[i])
        most = (abs(rest) + doubt[i]) * _MORE
        close = (doubt[i] != 0.0) & ((rounded + most != rounded) | (rounded - most != rounded))
        sums[i] = np.nan if close else rounded + 0.0  # never -0.0
        unsure |= close
    return unsure


@jit
def _to_odd(sums: Any, lost: Any, doubt: Any) -> Any:
    """Round to odd: that is certain if the sign of what the rounding lost is."""
    unsure = False
    for i in range(sums.size):
        rounded, rest = _two_sum(sums[i], lost[i])
        close = (doubt[i] != 0.0) & (abs(rest) <= doubt[i] * _MORE)
        odd = _odd(rounded + 0.0, rest)
        sums[i] = np.nan if close else odd
        unsure |= close
    return unsure


@jit
def _odd(value: Any, rest: Any) -> Any:
    """Return a sum rounded to odd: ``value`` is that sum but for ``rest``, less than one unit in its last place."""
    bits = np.float64(value).view(np.int64)
    step = 1 if (rest > 0.0) == (value > 0.0) else -1  # away from zero if both have one sign
    if (rest == 0.0) | (bits & 1 != 0) | (value - value != 0.0):
        step = 0
    return np.int64(bits + step).view(np.float64)


@jit
def round_wide(planes: Any, first: Any, last: Any, elements: Any, digits: Any, out: Any, odd: Any) -> None:
    """Write the rounded sums of some ``elements`` int64[k], wide digits int64[k, WIDE] and planes, into out float64[k].

    As `round_planes` in meaning, for sums of any size and with infinities and NaN; ``digits`` is destroyed.
    """
    k = elements.size
    sums = digits[:, : exact.DIGITS]
    for j in range(k):
        for p in range(first, last + 1):
            exact.add_term(sums[j], planes[p, elements[j]])
    again = sums.copy()
    exact.round_sums(sums, out)
    if odd:
        for j in range(k):
            if np.isfinite(out[j]):
                exact.add_term(again[j], -out[j])
        rest = np.empty(k)
        exact.round_sums(again, rest)
        for j in range(k):
            out[j] = _odd(out[j], rest[j])
    for j in range(k):
        nans, highs, lows = digits[j, exact.DIGITS], digits[j, exact.DIGITS + 1], digits[j, exact.DIGITS + 2]
        if nans or (highs and lows):
            out[j] = np.nan
        elif highs or lows:
            out[j] = np.inf if highs else -np.inf


@jit
def divided(sums: Any, divisor: Any, out: Any) -> None:
    """Write sums[n] / divisor into out[n] in its dtype; zeros are +0.0 and every NaN the quiet one."""
    for i in range(out.size):
        value = out.dtype.type(np.float64(sums[i]) / divisor) + out.dtype.type(0.0)
        out[i] = out.dtype.type(np.nan) if np.isnan(value) else value
