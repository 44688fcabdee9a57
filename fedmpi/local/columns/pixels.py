"""Floats that are u / 255.0 for a byte u: how a column keeps pixels, and features of 0 and 1, in a quarter of memory.

Exact to the bit: a float32 is such a number if it has the bits of ``float32(u / 255.0)``, the division in float64; so
-0.0, NaN and infinities are none.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_PREFIX, _CHUNK = 1 << 10, 1 << 16  # numbers looked at first, and at a time: few enough to stay in the cache


@functools.cache
def table(dtype: np.dtype[Any]) -> Array:
    """Return the 256 numbers u / 255.0 in a float dtype."""
    numbers: Array = (np.arange(256) / 255.0).astype(dtype)
    numbers.flags.writeable = False
    return numbers


def first_other(array: Array) -> int:
    """Return the position in ``array.reshape(-1)`` of the first number that is no u / 255.0; -1 if there is none.

    ``array`` is a C-contiguous float32 or float64 array.
    """
    flat = array.reshape(-1)
    bits = np.dtype(f"u{array.itemsize}")
    start, step = 0, _PREFIX
    while start < flat.size:
        piece = flat[start : start + step]
        differs = widen(narrow(piece), array.dtype).view(bits) != piece.view(bits)
        found = int(np.argmax(differs))
        if differs[found]:
            return start + found
        start, step = start + step, _CHUNK
    return -1


def narrow(array: Array) -> Array:
    """Return the bytes u, uint8 of the same shape, of numbers u / 255.0 (of others, whatever comes)."""
    out = np.empty(array.shape, dtype=np.uint8)
    flat, into = array.reshape(-1), out.reshape(-1)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _CHUNK):
            scaled = np.rint(flat[start : start + _CHUNK] * array.dtype.type(255))
            into[start : start + _CHUNK] = np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)
    return out


def widen(stored: Array, dtype: np.dtype[Any]) -> Array:
    """Return the numbers u / 255.0, read-only, of bytes."""
    wide: Array = table(dtype).take(stored, mode="clip")  # no byte is out of range: three times as fast as [stored]
    wide.flags.writeable = False
    return wide
