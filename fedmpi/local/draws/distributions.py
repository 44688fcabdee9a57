"""Distributions over the words of a key: number i of a result depends on the key and on i alone; a
permutation's on how many there are, too."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.draws.elementary import BITS, cosine_and_sine, exp_of, log_of, log_of_unit
from fedmpi.local.draws.threefry import folded, word
from fedmpi.local.jit.kernel import jit

_SHIFT = np.uint64(64 - BITS)
_U32 = np.uint64(0xFFFFFFFF)


@jit
def unit(key: Any, number: Any) -> Any:
    """Return a float64 from 0 to 1, 1 not among them: a multiple of 2^-53."""
    return np.float64(word(key, number) >> _SHIFT) / 2.0**BITS


@jit
def fill_uniform(key: Any, low: Any, high: Any, out: Any) -> None:
    """Fill a vector of float32 or float64 with numbers from ``low`` to ``high``, ``high`` not among them."""
    digits = 24 if out.itemsize == 4 else BITS
    for i in range(out.size):
        share = np.float64(word(key, i) >> np.uint64(64 - digits)) / 2.0**digits
        number = out.dtype.type(low + share * (high - low))
        out[i] = number if number < high else low


@jit
def fill_normal(key: Any, out: Any) -> None:
    """Fill a vector of float32 or float64 with standard normal numbers (G. E. P. Box, M. E. Muller, 1958)."""
    for pair in range((out.size + 1) // 2):
        radius = np.sqrt(-2.0 * log_of_unit((word(key, 2 * pair) >> _SHIFT) + np.uint64(1)))
        cosine, sine = cosine_and_sine(word(key, 2 * pair + 1) >> _SHIFT)
        out[2 * pair] = radius * cosine
        if 2 * pair + 1 < out.size:
            out[2 * pair + 1] = radius * sine


@jit
def below(bits: Any, count: Any) -> Any:
    """Return the upper 64 of the 128 bits of a product of uint64: one of ``count`` numbers, for 64 random bits.

    How often each comes differs by less than count / 2^64.
    """
    high, low = bits >> np.uint64(32), bits & _U32
    up, down = count >> np.uint64(32), count & _U32
    middle = high * down + ((low * down) >> np.uint64(32))
    other = low * up + (middle & _U32)
    return high * up + (middle >> np.uint64(32)) + (other >> np.uint64(32))


@jit
def fill_integers(key: Any, low: Any, high: Any, out: Any) -> None:
    """Fill a vector of integers with numbers from ``low`` to ``high`` - 1, both int64."""
    count = np.uint64(high) - np.uint64(low)
    for i in range(out.size):
        out[i] = np.int64(np.uint64(low) + below(word(key, i), count))


@jit
def fill_bernoulli(key: Any, p: Any, out: Any) -> None:
    """Fill a vector with True, each with probability ``p``."""
    for i in range(out.size):
        out[i] = unit(key, i) < p


@jit
def permuted(key: Any, n: Any) -> Any:
    """Return the numbers below ``n`` in a random order, int64[n] (R. A. Fisher, F. Yates, 1938)."""
    order = np.arange(n)
    for i in range(n - 1):
        j = i + np.int64(below(word(key, i), np.uint64(n - i)))
        order[i], order[j] = order[j], order[i]
    return order


@jit
def _place(keys: Any, number: Any) -> Any:
    """Return the place of a number in an open table of numbers + 1, or the free one where it belongs."""
    mask = len(keys) - 1
    at = (number * 0x9E3779B1) & mask
    while keys[at] != 0 and keys[at] != number + 1:
        at = (at + 1) & mask
    return at


@jit
def chosen(key: Any, n: Any, k: Any) -> Any:
    """Return the first ``k`` of the permutation of ``n`` numbers, in time and memory of ``k``."""
    size = 4
    while size < 4 * k:
        size *= 2
    keys, values = np.zeros(size, np.int64), np.empty(size, np.int64)  # what has been moved, and what stands there
    found = np.empty(k, np.int64)
    for i in range(k):
        j = i + np.int64(below(word(key, i), np.uint64(n - i)))
        here, there = _place(keys, i), _place(keys, j)
        own = values[here] if keys[here] else i
        found[i] = values[there] if keys[there] else j
        keys[there], values[there] = j + 1, own
    return found


@jit
def log_gamma_draw(key: Any, alpha: Any) -> Any:
    """Return the logarithm of a gamma number of shape ``alpha`` (G. Marsaglia, W. W. Tsang, 2000)."""
    boost = 0.0
    if alpha < 1.0:  # gamma(alpha) = gamma(alpha + 1) u^(1 / alpha)
        boost = log_of_unit((word(key, 0) >> _SHIFT) + np.uint64(1)) / alpha
        alpha += 1.0
    d = alpha - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    at = 1
    normal = np.empty(1)
    while True:
        fill_normal(folded(key, at), normal)
        v = 1.0 + c * normal[0]
        log_u = log_of_unit((word(key, at) >> _SHIFT) + np.uint64(1))
        at += 1
        if v > 0.0:
            v = v * v * v
            log_v = log_of(v)
            if log_u < 0.5 * normal[0] * normal[0] + d - d * v + d * log_v:
                return boost + log_of(d) + log_v


@jit
def fill_gamma(key: Any, alpha: Any, out: Any) -> None:
    """Fill a vector with gamma numbers of shape ``alpha`` and scale 1; what is too small for a float is 0."""
    for i in range(out.size):
        out[i] = exp_of(max(log_gamma_draw(folded(key, i), alpha), -10000.0))


@jit
def fill_dirichlet(key: Any, alpha: Any, out: Any) -> None:
    """Fill the rows of out[n, c] with shares that add up to 1, by the shapes alpha[c].

    By logarithms: with tiny shapes all gamma numbers of a row would be 0.
    """
    logs = np.empty(alpha.size)
    for row in range(out.shape[0]):
        own = folded(key, row)
        most = -np.inf
        for j in range(alpha.size):
            logs[j] = log_gamma_draw(folded(own, j), alpha[j])
            most = max(most, logs[j])
        total = 0.0
        for j in range(alpha.size):
            logs[j] = exp_of(max(logs[j] - most, -10000.0))
            total += logs[j]
        for j in range(alpha.size):
            out[row, j] = logs[j] / total
