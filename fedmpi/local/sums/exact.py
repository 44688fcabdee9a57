"""The true sum of float64 numbers of any size: the slow, wide path of exact sums.

Every finite float64 is an integer multiple of 2^-1074.  A sum is such a multiple in `DIGITS` digits of 32 bits, the
lowest first, each in an int64: the headroom lets 2^30 numbers be added without a carry.  All additions are integer
additions, so neither their order nor the rank on which they happen can change a bit.  One rounding at the end gives the
float64 nearest to the true sum.

(The idea is Kulisch's long accumulator: U. Kulisch and W. Miranker, "The arithmetic of the digital computer: a new
approach", SIAM Review 28, 1986.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

BITS = 32
BIAS = 1074  # the exponent of the least subnormal: digit 0 begins at 2^-1074
DIGITS = (BIAS + 1024) // BITS + 2  # all that a sum of 2^30 finite terms can reach


@jit
def add_term(digits: Any, term: Any) -> None:
    """Add a finite float64 to digits int64[DIGITS]."""
    if term == 0.0:
        return
    bits = np.float64(term).view(np.int64)
    mask = np.uint64(0xFFFFFFFF)
    exponent = (bits >> 52) & 0x7FF
    mantissa = np.uint64(bits & 0xFFFFFFFFFFFFF)
    if exponent > 0:
        mantissa |= np.uint64(1) << np.uint64(52)
        position = exponent - 1
    else:
        position = np.int64(0)
    place = position >> 5
    shift = np.uint64(position & 31)
    below = (mantissa & mask) << shift  # at most 63 bits
    above = (mantissa >> np.uint64(32)) << shift  # at most 52 bits
    first = np.int64(below & mask)
    second = np.int64(below >> np.uint64(32)) + np.int64(above & mask)
    third = np.int64(above >> np.uint64(32))
    sign = bits >> 63  # 0 or -1: (x ^ sign) - sign is x or -x
    digits[place] += (first ^ sign) - sign
    digits[place + 1] += (second ^ sign) - sign
    digits[place + 2] += (third ^ sign) - sign


@jit
def round_sums(sums: Any, out: Any) -> None:
    """Write into out float64[n] the float64 nearest to each sum (ties to even; beyond the range: infinity).

    ``sums`` int64[n, DIGITS] are their digits, which are destroyed.
    """
    mask = np.int64(0xFFFFFFFF)
    for i in range(sums.shape[0]):
        row = sums[i]
        carry = np.int64(0)
        for k in range(row.size):
            value = row[k] + carry
            row[k] = value & mask
            carry = value >> 32
        negative = carry < 0
        if negative:  # the magnitude: the digits' complement plus one
            borrow = np.int64(1)
            for k in range(row.size):
                value = (row[k] ^ mask) + borrow
                row[k] = value & mask
                borrow = value >> 32
            carry = -carry - 1 + borrow
        out[i] = _nearest(row, carry)
        if negative:
            out[i] = -out[i]


@jit
def _nearest(digits: Any, head: Any) -> Any:
    """Return the float64 nearest to head · 2^(32·size) + Σ digits[k] · 2^(32·k), times 2^-1074."""
    top = digits.size - 1
    if head != 0:
        high, top = np.uint64(head), digits.size
    else:
        while top >= 0 and digits[top] == 0:
            top -= 1
        if top < 0:
            return 0.0
        high = np.uint64(digits[top])
    # 96 bits from the first digit that is not zero hold 65 or more significant ones; what is below only breaks ties.
    middle = np.uint64(digits[top - 1]) if top >= 1 else np.uint64(0)
    least = np.uint64(digits[top - 2]) if top >= 2 else np.uint64(0)
    sticky = np.uint64(0)
    for k in range(top - 2):
        if digits[k] != 0:
            sticky = np.uint64(1)
    width = 0
    while width < 32 and (high >> np.uint64(width)) != 0:
        width += 1
    # The 64 leading bits, the last of them sticky.
    lead = (high << np.uint64(64 - width)) if width < 64 else np.uint64(0)
    rest = (middle << np.uint64(32)) | least
    lead |= rest >> np.uint64(width)
    if (rest & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))) != 0 or sticky != 0:
        lead |= np.uint64(1)
    scale = 32 * top + width - 64 - BIAS  # the weight of the last bit of ``lead`` is 2^scale
    return _scaled(lead, scale)


@jit
def _scaled(lead: Any, scale: Any) -> Any:
    """Return lead · 2^scale rounded once; ``lead`` has its highest bit set, its last bit is sticky."""
    exponent = scale + 63  # of the leading bit
    keep = 53 if exponent >= -1022 else 53 - (-1022 - exponent)
    if keep < 0:
        return 0.0
    drop = np.uint64(64 - keep)
    if keep == 0:
        kept, half, tail = np.uint64(0), np.uint64(1), lead & np.uint64(0x7FFFFFFFFFFFFFFF)
    else:
        kept = lead >> drop
        half = (lead >> (drop - np.uint64(1))) & np.uint64(1)
        tail = lead & ((np.uint64(1) << (drop - np.uint64(1))) - np.uint64(1))
    if half == 1 and (tail != 0 or (kept & np.uint64(1)) == 1):
        kept += np.uint64(1)
    return _ldexp(np.float64(kept), scale + 64 - keep)


@jit
def _ldexp(value: Any, power: Any) -> Any:
    """Return value · 2^power, exact or infinite: two steps, because 2^power alone may be out of range."""
    half = power // 2
    return value * 2.0**half * 2.0 ** (power - half)
