"""True sums by fractions, rounded once by the definition of rounding: what fedmpi's sums are compared with."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def nearest(total, dtype=np.float64):
    """Return the number of a floating dtype that is nearest to a fraction, ties to even; beyond the range infinity."""
    info, scalar = np.finfo(dtype), np.dtype(dtype).type
    if total == 0:
        return scalar(0.0)
    exponent = abs(total.numerator).bit_length() - total.denominator.bit_length()
    if abs(total) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, int(info.minexp)) - int(info.nmant))
    value = round(total / unit) * unit  # to even, as Python rounds halves
    if abs(value) >= Fraction(2) ** int(info.maxexp):
        return scalar(math.inf if total > 0 else -math.inf)
    return scalar(float(value))


def total(terms, dtype=np.float64):
    """Return the sum of float64 terms, rounded once to ``dtype``; infinities and NaN as IEEE 754 adds them."""
    special = {str(float(t)) for t in terms if not math.isfinite(t)}
    if special:
        return np.dtype(dtype).type(special.pop() if len(special) == 1 else "nan")
    return nearest(sum(map(Fraction, map(float, terms)), Fraction(0)), dtype)


def bits(value):
    """Return the bytes of a value: -0.0 is not 0.0, and a NaN has one form."""
    return np.asarray(value).tobytes()
