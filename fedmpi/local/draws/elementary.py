"""Logarithm, exponential, sine and cosine of basic float64 operations alone.

The elementary functions of NumPy, of Numba and of a machine's C library differ in their last bits.  Sums, products,
quotients and roots of IEEE 754 do not: these are polynomials, evaluated in one order, without fused operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # the first has 32 bits: times an exponent exact
_ROOT2 = 1.4142135623730951
_ANGLE = 6.283185307179586 / 2.0**53  # of 2 pi / 2^53
BITS = 53  # of a uniform number


@jit
def log_of_mantissa(number: Any, exponent: Any) -> Any:
    """Return the logarithm of number * 2^exponent, 1 <= number < 2."""
    if number > _ROOT2:
        number, exponent = number * 0.5, exponent + 1
    s = (number - 1.0) / (number + 1.0)
    z = s * s
    sum_ = 1.0 / 23.0
    for n in range(21, 0, -2):
        sum_ = sum_ * z + 1.0 / n
    scale = np.float64(exponent)
    return scale * _LN2_HIGH + (2.0 * s * sum_ + scale * _LN2_LOW)


@jit
def log_of_unit(number: Any) -> Any:
    """Return the logarithm of number / 2^53, for a uint64 from 1 to 2^53."""
    rest, length = number, np.int64(0)
    for step in (32, 16, 8, 4, 2, 1):
        high = rest >> np.uint64(step)
        if high:
            rest, length = high, length + step
    mantissa = np.float64(number << np.uint64(BITS - length)) / 2.0**BITS
    return log_of_mantissa(mantissa, length - BITS)


@jit
def log_of(number: Any) -> Any:
    """Return the logarithm of a positive float64 of ordinary size."""
    exponent = np.int64(0)
    while number >= 2.0:
        number, exponent = number * 0.5, exponent + 1
    while number < 1.0:
        number, exponent = number * 2.0, exponent - 1
    return log_of_mantissa(number, exponent)


@jit
def exp_of(number: Any) -> Any:
    """Return the exponential of a float64 from -1e4 to 700; what is too small for a float64 is 0."""
    turns = np.floor(number / 0.6931471805599453 + 0.5)
    rest = (number - turns * _LN2_HIGH) - turns * _LN2_LOW
    sum_ = 1.0
    for n in range(16, 0, -1):
        sum_ = sum_ * rest / n + 1.0
    for _ in range(int(abs(turns))):
        sum_ *= 2.0 if turns > 0 else 0.5
    return sum_


@jit
def cosine_and_sine(number: Any) -> Any:
    """Return cosine and sine of 2 pi number / 2^53, for a uint64 below 2^53."""
    quarter = number >> np.uint64(BITS - 2)
    rest = number & np.uint64((1 << (BITS - 2)) - 1)
    mirrored = rest > np.uint64(1 << (BITS - 3))
    if mirrored:
        rest = np.uint64(1 << (BITS - 2)) - rest
    x = np.float64(rest) * _ANGLE
    z = x * x
    sine, cosine = 1.0, 1.0
    for n in range(18, 0, -2):
        sine = 1.0 - sine * z / (n * (n + 1.0))
        cosine = 1.0 - cosine * z / (n * (n - 1.0))
    sine *= x
    if mirrored:
        sine, cosine = cosine, sine
    if quarter == np.uint64(0):
        return cosine, sine
    if quarter == np.uint64(1):
        return -sine, cosine
    if quarter == np.uint64(2):
        return -cosine, -sine
    return sine, -cosine
