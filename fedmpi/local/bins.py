"""Sums of float64 terms without a rounding error, at the speed of vector instructions.

The range from 2^-160 to 2^160 is cut into 8 *planes* of 40 bits.  Plane p holds, for each element of a vector, an
integer multiple of its quantum 2^(120 - 40p) as a float64.  A term t is cut at the quantum of a plane by adding and
subtracting 1.5 · 2^52 quanta: ``h = (t + c) - c`` is the multiple nearest to t, and ``t - h`` is exact and goes to the
next plane (S. M. Rump, T. Ogita and S. Oishi, "Accurate floating-point summation part I: faithful rounding", SIAM J.
Sci. Comput. 31, 2008; J. Demmel and H. D. Nguyen, "Parallel reproducible summation", IEEE Trans. Comput. 64, 2015).
One term adds at most 2^40 quanta to a plane, and a float64 counts 2^53 of them: the terms of `CLIENTS` clients fit,
then `carry` moves what exceeds a plane's 40 bits to the plane above.  So *every addition is exact*: neither the order of
the terms, nor the ranks on which they are added, nor the way in which MPI_Reduce adds the ranks' planes can change a bit.

Only planes that terms reach are touched: an ordinary float32 model has its bits in two or three.  What is outside of
all planes goes to the *wide* store: the digits of `fedmpi.local.exact`, 67 of 32 bits, for those elements alone that
have such terms.  Infinities and NaN are counted there too.

The accumulator's arrays: ``planes float64[8, n]``; ``slots int32[n]``, 1 + the row of an element in the wide store, or
0; ``keys int64[capacity]`` and ``digits int64[capacity, 70]``, the wide store, which grows; ``notes int64[7]``, see below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fedmpi.local import exact

PLANES = 8
WIDTH = 40
TOP = 120  # exponent of the quantum of plane 0
CLIENTS = 1 << 11  # that are added before a `carry`, of up to two terms an element
BLOCK = 512  # terms that are cut at a time: they stay in the first-level cache
WIDE = exact.PLANES + 3  # digits, then the numbers of NaN, of +inf and of -inf

# Places in `notes`: the first and the last plane in use, rows in the wide store, terms that are not finite, and of the
# first of those the client (a position), the element (-1 - it for a plain sum), and which it is (0 nan, 1 inf, 2 -inf).
FIRST, LAST, ROWS, SPECIALS, CLIENT, ELEMENT, KIND = range(7)

_JIT = {"cache": True, "error_model": "numpy", "boundscheck": False}
_CUT = np.array([1.5 * 2.0 ** (52 + TOP - WIDTH * p) for p in range(PLANES)])
_BEYOND = np.int64((1023 + TOP + WIDTH) << 52)  # the bits of 2^160


EMPTY = np.array([PLANES, -1, 0, 0, -1, -1, 0], dtype=np.int64)  # the notes of an empty accumulator


def new_notes() -> Any:
    """Return the notes of an empty accumulator."""
    return EMPTY.copy()


def new_wide() -> tuple[Any, Any]:
    """Return the keys and digits of an empty wide store."""
    return np.zeros(0, np.int64), np.zeros((0, WIDE), np.int64)


@njit(**_JIT)
def add_block(planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, at: Any, terms: Any, client: Any) -> Any:
    """Add ``terms`` float64[m], m <= BLOCK, which are destroyed, to the elements from ``at`` on.

    ``client`` is for the notes.  Returns keys and digits, which may have grown.
    """
    m = terms.size
    bits = terms.view(np.int64)
    most: Any = np.int64(0)
    for i in range(m):
        most = max(most, bits[i] & 0x7FFFFFFFFFFFFFFF)
    if most >= _BEYOND:
        for i in range(m):
            if bits[i] & 0x7FFFFFFFFFFFFFFF >= _BEYOND:
                keys, digits = _widen(slots, keys, digits, notes, at + i, terms[i], client)
                terms[i] = 0.0
        most = np.int64(0)
        for i in range(m):
            most = max(most, bits[i] & 0x7FFFFFFFFFFFFFFF)
    if most == 0:
        return keys, digits
    # The first plane whose quantum is at most twice the largest term: those above would get zeros.
    exponent = (most >> 52) - 1023
    p = min(max((TOP + WIDTH - 2 - exponent) // WIDTH, 0), PLANES - 1)
    notes[FIRST] = min(notes[FIRST], p)
    rest = True
    while rest and p < PLANES:
        rest = _cut(planes[p, at : at + m], terms, _CUT[p])
        p += 1
    notes[LAST] = max(notes[LAST], p - 1)
    if rest:  # bits below the last plane
        for i in range(m):
            if terms[i] != 0.0:
                keys, digits = _widen(slots, keys, digits, notes, at + i, terms[i], client)
    return keys, digits


@njit(**_JIT)
def _cut(plane: Any, terms: Any, constant: Any) -> Any:
    """Move the multiples of a plane's quantum from the terms to the plane; tell whether anything is left."""
    rest = False
    for i in range(terms.size):
        high = (terms[i] + constant) - constant
        plane[i] += high
        terms[i] -= high
        rest |= terms[i] != 0.0
    return rest


@njit(**_JIT)
def _widen(slots: Any, keys: Any, digits: Any, notes: Any, element: Any, term: Any, client: Any) -> Any:
    """Add a term of any size, or note that it is not finite, in the wide store; return keys and digits."""
    row = np.int64(slots[element]) - 1
    if row < 0:
        row = notes[ROWS]
        notes[ROWS] += 1
        slots[element] = notes[ROWS]
        if row == keys.size:
            keys, digits = _grown(keys, digits)
        keys[row] = element
    if np.isfinite(term):
        exact.add_term(digits[row], 0, term)
        return keys, digits
    kind = 0 if np.isnan(term) else 1 if term > 0 else 2
    digits[row, exact.PLANES + kind] += 1
    if notes[SPECIALS] == 0:
        notes[CLIENT], notes[ELEMENT], notes[KIND] = client, element, kind
    notes[SPECIALS] += 1
    return keys, digits


@njit(**_JIT)
def _grown(keys: Any, digits: Any) -> Any:
    size = max(2 * keys.size, 16)
    more_keys, more_digits = np.zeros(size, np.int64), np.zeros((size, digits.shape[1]), np.int64)
    more_keys[: keys.size] = keys
    more_digits[: keys.size] = digits
    return more_keys, more_digits


@njit(**_JIT)
def carry(planes: Any, slots: Any, keys: Any, digits: Any, notes: Any) -> Any:
    """Move what exceeds a plane's bits to the plane above, and what exceeds the first plane's to the wide store."""
    for p in range(notes[LAST], max(notes[FIRST], 1) - 1, -1):
        if _carry(planes[p], planes[p - 1], _CUT[p - 1]):
            notes[FIRST] = min(notes[FIRST], p - 1)
    if notes[FIRST] == 0:
        limit = 2.0 ** (TOP + WIDTH)
        for i in range(planes.shape[1]):
            if abs(planes[0, i]) >= limit:
                keys, digits = _widen(slots, keys, digits, notes, i, planes[0, i], -1)
                planes[0, i] = 0.0
    return keys, digits


@njit(**_JIT)
def _carry(plane: Any, above: Any, constant: Any) -> Any:
    moved = False
    for i in range(plane.size):
        high = (plane[i] + constant) - constant
        plane[i] -= high
        above[i] += high
        moved |= high != 0.0
    return moved


# --- terms of clients: x is a flat contiguous array, weight a float64 ---


@njit(**_JIT)
def add_floats(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, weight: Any, client: Any
) -> Any:
    """Add ``weight · x[i]``, rounded to float64, to the elements from ``at`` on; ``room`` float64[BLOCK] is scratch."""
    for start in range(0, x.size, BLOCK):
        terms = room[: min(BLOCK, x.size - start)]
        for i in range(terms.size):
            terms[i] = np.float64(x[start + i]) * weight
        keys, digits = add_block(planes, slots, keys, digits, notes, at + start, terms, client)
    return keys, digits


@njit(**_JIT)
def add_integers(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, client: Any
) -> Any:
    """Add integers x[i] to the elements from ``at`` on: those of 64 bits as two terms, each of them exact."""
    for start in range(0, x.size, BLOCK):
        terms = room[: min(BLOCK, x.size - start)]
        for i in range(terms.size):
            terms[i] = np.float64(x[start + i] >> 32) * 4294967296.0 if x.itemsize == 8 else np.float64(x[start + i])
        keys, digits = add_block(planes, slots, keys, digits, notes, at + start, terms, client)
        if x.itemsize == 8:
            for i in range(terms.size):
                terms[i] = np.float64(x[start + i] & 0xFFFFFFFF)
            keys, digits = add_block(planes, slots, keys, digits, notes, at + start, terms, client)
    return keys, digits


@njit(**_JIT)
def add_float(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, weight: Any, client: Any
) -> Any:
    """Add ``weight · x`` to element ``at``."""
    room[0] = np.float64(x) * weight
    return add_block(planes, slots, keys, digits, notes, at, room[:1], client)


@njit(**_JIT)
def add_integer(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, client: Any
) -> Any:
    """Add an integer to element ``at``."""
    room[0] = np.float64(x >> 32) * 4294967296.0
    keys, digits = add_block(planes, slots, keys, digits, notes, at, room[:1], client)
    room[0] = np.float64(x & 0xFFFFFFFF)
    return add_block(planes, slots, keys, digits, notes, at, room[:1], client)


@njit(**_JIT)
def add_plain(sums: Any, notes: Any, at: Any, x: Any, weight: Any, client: Any) -> None:
    """Add ``weight · x[i]`` to sums[at + i] in the dtype of the sums, rounding each time."""
    w = sums.dtype.type(weight)
    special = False
    for i in range(x.size):
        term = sums.dtype.type(x[i]) * w
        sums[at + i] += term
        special |= term - term != 0
    if special:
        for i in range(x.size):
            term = np.float64(sums.dtype.type(x[i]) * w)
            if not np.isfinite(term):
                _note_plain(notes, at + i, term, client)


@njit(**_JIT)
def add_plain_float(sums: Any, notes: Any, at: Any, x: Any, weight: Any, client: Any) -> None:
    """Add ``weight · x`` to sums[at]; see `add_plain`."""
    term = sums.dtype.type(x) * sums.dtype.type(weight)
    sums[at] += term
    if term - term != 0:
        _note_plain(notes, at, np.float64(term), client)


@njit(**_JIT)
def _note_plain(notes: Any, at: Any, term: Any, client: Any) -> None:
    """Note a term that is not finite."""
    if notes[SPECIALS] == 0:
        notes[CLIENT], notes[ELEMENT] = client, -1 - at
        notes[KIND] = 0 if np.isnan(term) else 1 if term > 0 else 2
    notes[SPECIALS] += 1


# --- the rounded sums ---


@njit(**_JIT)
def round_planes(planes: Any, first: Any, last: Any, at: Any, out: Any, odd: Any, hard: Any) -> Any:
    """Write the float64 nearest to the sum over planes ``first`` to ``last`` of elements ``at``, … into out float64[n].

    With ``odd``, a sum that is no float64 is rounded to the neighbour with an odd last bit instead: rounding that once
    more, to a shorter format, is then the same as rounding the sum once (S. Boldo and G. Melquiond, "Emulation of FMA
    and correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Comput. 57, 2008).  Elements whose
    rounding is too close to call are written into ``hard`` int64[n], counted from ``at``; returns how many.

    From the lowest plane up, each addition gives the sum rounded and what that lost, exactly (D. E. Knuth's TwoSum).
    The losses are added the same way; if they round the sum the same way at both ends of what they lost in turn, that
    is it.
    """
    count = 0
    bits = out.view(np.int64)
    for start in range(0, out.size, BLOCK):
        stop = min(start + BLOCK, out.size)
        if _round_block(planes[:, at + start : at + stop], first, last, out[start:stop], bits[start:stop], odd):
            for i in range(start, stop):
                if np.isnan(out[i]):
                    hard[count] = i
                    count += 1
    return count


@njit(**_JIT)
def _round_block(planes: Any, first: Any, last: Any, out: Any, bits: Any, odd: Any) -> Any:
    """Round one block; what is too close to call becomes NaN, and the result tells whether there is any."""
    m = out.size
    lost, doubt, unsure = np.zeros(m), np.zeros(m), False
    out[:] = planes[last]
    for p in range(last - 1, first - 1, -1):
        plane = planes[p]
        for i in range(m):
            total = plane[i] + out[i]
            other = total - plane[i]
            error = (plane[i] - (total - other)) + (out[i] - other)
            out[i] = total
            total = lost[i] + error
            other = total - lost[i]
            doubt[i] += abs((lost[i] - (total - other)) + (error - other))
            lost[i] = total
    for i in range(m):
        total, most = out[i], doubt[i] * 1.5
        rounded = total + lost[i]
        rest = lost[i] - (rounded - total)  # exact, for |lost| <= |total|
        close = (total + (lost[i] - most) != total + (lost[i] + most)) | (abs(lost[i]) > abs(total))
        close |= odd & (most != 0.0) & (abs(rest) <= most)
        out[i] = np.nan if close else rounded + 0.0  # never -0.0
        lost[i] = 0.0 if close else rest
        unsure |= close
    if odd:
        for i in range(m):
            if lost[i] != 0.0:
                bits[i] = _odd(bits[i], out[i], lost[i])
    return unsure


@njit(**_JIT)
def _odd(bits: Any, value: Any, rest: Any) -> Any:
    """Return the bits of a sum rounded to odd: ``value``, with these bits, is that sum but for ``rest``."""
    if rest == 0.0 or bits & 1 or not np.isfinite(value):
        return bits
    # One unit towards the rest: away from zero if both have one sign.
    return bits + 1 if (rest > 0.0) == (value > 0.0) else bits - 1


@njit(**_JIT)
def round_wide(planes: Any, first: Any, last: Any, elements: Any, digits: Any, out: Any, odd: Any) -> None:
    """Write the rounded sums of some ``elements`` int64[k], wide digits int64[k, WIDE] and planes, into out float64[k].

    As `round_planes` in meaning, for sums of any size and with infinities and NaN; ``digits`` is destroyed.
    """
    k = elements.size
    sums = digits[:, : exact.PLANES]
    for j in range(k):
        for p in range(first, last + 1):
            exact.add_term(sums[j], 0, planes[p, elements[j]])
    again = sums.copy()
    exact.round_sums(sums, 0, out)
    if odd:
        for j in range(k):
            if np.isfinite(out[j]):
                exact.add_term(again[j], 0, -out[j])
        rest = np.empty(k)
        exact.round_sums(again, 0, rest)
        bits = out.view(np.int64)
        for j in range(k):
            bits[j] = _odd(bits[j], out[j], rest[j])
    for j in range(k):
        nans, highs, lows = digits[j, exact.PLANES], digits[j, exact.PLANES + 1], digits[j, exact.PLANES + 2]
        if nans or (highs and lows):
            out[j] = np.nan
        elif highs or lows:
            out[j] = np.inf if highs else -np.inf


@njit(**_JIT)
def divided(sums: Any, divisor: Any, out: Any) -> None:
    """Write sums[n] / divisor into out[n] in its dtype; zeros are +0.0 and every NaN the quiet one."""
    for i in range(out.size):
        value = out.dtype.type(np.float64(sums[i]) / divisor) + out.dtype.type(0.0)
        out[i] = out.dtype.type(np.nan) if np.isnan(value) else value
