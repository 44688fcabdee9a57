"""Sums of float64 terms without a rounding error, at the speed of vector instructions.

The range from 2^-160 to 2^160 is cut into 8 *planes* of 40 bits.  Plane p holds, for each element of a vector, an
integer multiple of its quantum 2^(120 - 40p) as a float64.  A term t is cut at the quantum of a plane by adding and
subtracting 1.5 · 2^52 quanta: ``h = (t + c) - c`` is the multiple nearest to t, and ``t - h`` is exact and goes to the
next plane (S. M. Rump, T. Ogita and S. Oishi, "Accurate floating-point summation part I: faithful rounding", SIAM J.
Sci. Comput. 31, 2008; J. Demmel and H. D. Nguyen, "Parallel reproducible summation", IEEE Trans. Comput. 64, 2015).
One term adds at most 2^40 quanta to a plane, and a float64 counts 2^53 of them: the terms of `CLIENTS` clients fit,
then `carry` moves what exceeds a plane's 40 bits to the plane above.  So *every addition is exact*: neither the order
of the terms, nor the ranks on which they are added, nor the way in which MPI_Reduce adds the ranks' planes can change a
bit.  (docs/sums.md has the proof, and what it costs.)

Only planes that terms reach are touched: an ordinary float32 model has its bits in two or three.  What is outside of
all planes goes to the *wide* store: the digits of `fedmpi.local.sums.exact`, 67 of 32 bits, for those elements alone
that have such terms.  Infinities and NaN are counted there too.

The accumulator's arrays: ``planes float64[8, n]``; ``slots int32[n]``, 1 + the row of an element in the wide store, or
0; ``keys int64[capacity]`` and ``digits int64[capacity, 70]``, the wide store, which grows; ``notes int64[7]``, see
below.  `fedmpi.local.sums.rounding` makes numbers of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit
from fedmpi.local.sums import exact
from fedmpi.local.sums.terms import PLANES
from fedmpi.local.sums.weights import WeightError

WIDTH = 40
TOP = 120  # exponent of the quantum of plane 0
BLOCK = 1 << 10  # terms that are cut at a time: with their planes they stay in the first-level cache
WIDE = exact.DIGITS + 3  # digits, then the numbers of NaN, of +inf and of -inf

# Places in `notes`: the first and the last plane in use, rows in the wide store, terms that are not finite, and of the
# first of those the client (a position), the element (-1 - it for a plain sum), and which it is (0 nan, 1 inf, 2 -inf).
FIRST, LAST, ROWS, SPECIALS, CLIENT, ELEMENT, KIND = range(7)

_CUT = np.array([1.5 * 2.0 ** (52 + TOP - WIDTH * p) for p in range(PLANES)])
NOBODY = np.int64(-1)  # in place of a client; no literal, of which Numba would compile a form of its own
_BEYOND = np.int64((1023 + TOP + WIDTH) << 52)  # the bits of 2^160

EMPTY = np.array([PLANES, -1, 0, 0, -1, -1, 0], dtype=np.int64)  # the notes of an empty accumulator


def new_notes() -> Any:
    """Return the notes of an empty accumulator."""
    return EMPTY.copy()


def new_wide() -> tuple[Any, Any]:
    """Return the keys and digits of an empty wide store."""
    return np.zeros(0, np.int64), np.zeros((0, WIDE), np.int64)


@jit
def add_block(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, at: Any, terms: Any, most: Any, client: Any
) -> Any:
    """Add ``terms`` float64[m], m <= BLOCK, which are destroyed, to the elements from ``at`` on.

    ``most`` are the bits of the largest magnitude in them; ``client`` is for the notes.  Returns keys and digits, which
    may have grown.
    """
    m = terms.size
    if most >= _BEYOND:
        keys, digits = _widen(slots, keys, digits, notes, at, terms, _BEYOND, client)
        most = np.int64(0)
        for i in range(m):
            most = max(most, _magnitude(terms[i]))
    if most == 0:
        return keys, digits
    # The first plane whose quantum is at most twice the largest term: those above would get zeros.
    exponent = (most >> 52) - 1023
    p = min(max((TOP + WIDTH - 2 - exponent) // WIDTH, 0), PLANES - 2)
    notes[FIRST] = min(notes[FIRST], p)
    some, rest = True, True
    while rest and p < PLANES:
        p = min(p, PLANES - 2)  # to cut at a plane again adds what is left, or nothing
        some, rest = _cut(planes[p, at : at + m], planes[p + 1, at : at + m], terms, _CUT[p], _CUT[p + 1])
        p += 2
    notes[LAST] = max(notes[LAST], p - 1 if some else p - 2)
    if rest:  # bits below the last plane
        keys, digits = _widen(slots, keys, digits, notes, at, terms, 1, client)
    return keys, digits


@jit
def _magnitude(term: Any) -> Any:
    """Return the bits of |term|: they order as the magnitudes do, infinity and NaN last."""
    return np.float64(term).view(np.int64) & np.int64(0x7FFFFFFFFFFFFFFF)


@jit
def _cut(plane: Any, below: Any, terms: Any, constant: Any, constant_below: Any) -> Any:
    """Move the multiples of two planes' quanta from the terms to the planes; tell what each of them left: anything?

    Two at a time, for that halves the traffic of the terms.
    """
    some, rest = False, False
    for i in range(terms.size):
        term = terms[i]
        high = (term + constant) - constant
        plane[i] += high
        term -= high
        some |= term != 0.0
        high = (term + constant_below) - constant_below
        below[i] += high
        term -= high
        rest |= term != 0.0
        terms[i] = term
    return some, rest


@jit
def _widen(slots: Any, keys: Any, digits: Any, notes: Any, at: Any, terms: Any, least: Any, client: Any) -> Any:
    """Move the terms from a magnitude on (``least`` are its bits), infinities and NaN too, to the wide store.

    Returns keys and digits.
    """
    rows = notes[ROWS]
    for i in range(terms.size):
        if slots[at + i] == 0 and _magnitude(terms[i]) >= least:
            rows += 1
    if rows > keys.size:
        keys, digits = _grown(keys, digits, rows)
    for i in range(terms.size):
        if _magnitude(terms[i]) >= least:
            _add_wide(slots, keys, digits, notes, at + i, terms[i], client)
            terms[i] = 0.0
    return keys, digits


@jit
def _grown(keys: Any, digits: Any, rows: Any) -> Any:
    """Return keys and digits with room for ``rows`` rows and as many again."""
    more_keys, more_digits = np.zeros(2 * rows, np.int64), np.zeros((2 * rows, WIDE), np.int64)
    for row in range(keys.size):  # assigning slices would compile, and format, an error of unequal shapes: seconds
        more_keys[row] = keys[row]
        for k in range(WIDE):
            more_digits[row, k] = digits[row, k]
    return more_keys, more_digits


@jit
def _add_wide(slots: Any, keys: Any, digits: Any, notes: Any, element: Any, term: Any, client: Any) -> None:
    """Add a term of any size to the wide store, which has room for it, or note that it is not finite."""
    row = np.int64(slots[element]) - 1
    if row < 0:
        row = notes[ROWS]
        notes[ROWS] += 1
        slots[element] = notes[ROWS]
        keys[row] = element
    if np.isfinite(term):
        exact.add_term(digits[row], term)
        return
    digits[row, exact.DIGITS + _note(notes, element, term, client)] += 1


@jit
def carry(planes: Any, slots: Any, keys: Any, digits: Any, notes: Any) -> Any:
    """Move what exceeds a plane's bits to the plane above, and what exceeds the first plane's to the wide store."""
    for p in range(notes[LAST], max(notes[FIRST], 1) - 1, -1):
        if _carry(planes[p], planes[p - 1], _CUT[p - 1]):
            notes[FIRST] = min(notes[FIRST], p - 1)
    if notes[FIRST] == 0:
        keys, digits = _widen(slots, keys, digits, notes, np.int64(0), planes[0], _BEYOND, NOBODY)
    return keys, digits


@jit
def _carry(plane: Any, above: Any, constant: Any) -> Any:
    moved = False
    for i in range(plane.size):
        high = (plane[i] + constant) - constant
        plane[i] -= high
        above[i] += high
        moved |= high != 0.0
    return moved


# --- terms of clients: x is a flat contiguous array; of weight 0, a float64, nothing is added, whatever x is ---


@jit
def checked_weight(weight: Any) -> Any:
    """Return a weight as float64; raise `ValueError` unless it is finite and not negative."""
    number = np.float64(weight)
    if not 0.0 <= number < np.inf:
        raise WeightError(weight)
    return number


@jit
def add_floats(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, weight: Any, client: Any
) -> Any:
    """Add ``weight · x[i]``, rounded to float64, to the elements from ``at`` on; ``room`` float64[BLOCK] is scratch."""
    if weight == 0.0:
        return keys, digits
    for start in range(0, x.size, BLOCK):
        part = x[start : start + BLOCK]
        terms = room[: part.size]
        most: Any = np.int64(0)
        for i in range(part.size):
            term = np.float64(part[i]) * weight
            terms[i] = term
            most = max(most, _magnitude(term))
        keys, digits = add_block(planes, slots, keys, digits, notes, at + start, terms, most, client)
    return keys, digits


@jit
def add_integers(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, client: Any
) -> Any:
    """Add integers x[i] to the elements from ``at`` on: those of 64 bits as two terms, each of them exact."""
    for start in range(0, x.size, BLOCK):
        part = x[start : start + BLOCK]
        terms = room[: part.size]
        for half in range(2 if x.itemsize == 8 else 1):
            most: Any = np.int64(0)
            for i in range(part.size):
                term = _half(part[i], half) if x.itemsize == 8 else np.float64(part[i])
                terms[i] = term
                most = max(most, _magnitude(term))
            keys, digits = add_block(planes, slots, keys, digits, notes, at + start, terms, most, client)
    return keys, digits


@jit
def _half(x: Any, half: Any) -> Any:
    """Return one of two terms whose sum is the integer x."""
    return np.float64(x >> 32) * 4294967296.0 if half == 0 else np.float64(x & 0xFFFFFFFF)


@jit
def add_float(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, weight: Any, client: Any
) -> Any:
    """Add ``weight · x`` to element ``at``."""
    if weight == 0.0:
        return keys, digits
    room[0] = np.float64(x) * weight
    return add_block(planes, slots, keys, digits, notes, at, room[:1], _magnitude(room[0]), client)


@jit
def add_integer(
    planes: Any, slots: Any, keys: Any, digits: Any, notes: Any, room: Any, at: Any, x: Any, client: Any
) -> Any:
    """Add an integer to element ``at``."""
    for half in range(2):
        room[0] = _half(x, half)
        keys, digits = add_block(planes, slots, keys, digits, notes, at, room[:1], _magnitude(room[0]), client)
    return keys, digits


@jit
def add_plain(sums: Any, notes: Any, at: Any, x: Any, weight: Any, client: Any) -> None:
    """Add ``weight · x[i]`` to sums[at + i] in the dtype of the sums, rounding each time."""
    if weight == 0.0:
        return
    w = sums.dtype.type(weight)
    part = sums[at : at + x.size]
    special = False
    for i in range(part.size):
        term = part.dtype.type(x[i]) * w
        part[i] += term
        special |= term - term != 0
    if special:
        for i in range(x.size):
            term = np.float64(sums.dtype.type(x[i]) * w)
            if not np.isfinite(term):
                _note(notes, -1 - (at + i), term, client)


@jit
def add_plain_float(sums: Any, notes: Any, at: Any, x: Any, weight: Any, client: Any) -> None:
    """Add ``weight · x`` to sums[at]; see `add_plain`."""
    if weight == 0.0:
        return
    term = sums.dtype.type(x) * sums.dtype.type(weight)
    sums[at] += term
    if term - term != 0:
        _note(notes, -1 - at, np.float64(term), client)


@jit
def _note(notes: Any, element: Any, term: Any, client: Any) -> Any:
    """Note a term that is not finite; return its kind.  Of the first client's the first element has the say."""
    kind = 0 if np.isnan(term) else 1 if term > 0 else 2
    known = notes[ELEMENT]
    before = element < known if element >= 0 else element > known  # a stage has them all in planes, or none
    if notes[SPECIALS] == 0 or (client == notes[CLIENT] and before):
        notes[CLIENT], notes[ELEMENT], notes[KIND] = client, element, kind
    notes[SPECIALS] += 1
    return kind
