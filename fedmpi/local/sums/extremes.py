"""Numbers as keys whose order is that of the numbers: what the least and the greatest values of clients are taken of.

A key is a uint64.  Integers keep their order, floats too (-0.0 before +0.0), and NaN has the greatest key; for a
minimum the keys of numbers are turned round, so that the greatest key wins always, and a NaN always.  The key 0 belongs
to nothing yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

Keys = np.ndarray[Any, np.dtype[np.uint64]]
NAN = np.uint64((1 << 64) - 1)


def keys_of(array: Any, turn: np.uint64) -> Keys:
    """Return the keys of numbers, flat."""
    flat = np.asarray(array).reshape(-1)
    if flat.dtype.kind in "iu":
        return flat.astype(np.int64).view(np.uint64) ^ turn
    floats = flat.astype(np.float64)
    bits = floats.view(np.int64)
    keys = (bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.uint64) ^ turn
    keys[np.isnan(floats)] = NAN
    return keys


def numbers_of(keys: Keys, turn: np.uint64, dtype: np.dtype[Any]) -> Any:
    """Return the numbers of a dtype that have these keys; every NaN is the quiet one."""
    bits = (keys ^ turn).view(np.int64)
    if dtype.kind in "iu":
        return bits.astype(dtype)
    floats = (bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.float64).copy()
    floats[keys == NAN] = np.nan
    return floats.astype(dtype)


@jit
def keep_integers(keys: Any, at: Any, x: Any, turn: Any) -> None:
    """Keep in ``keys`` from ``at`` on the greater key of each, for integers x[n]."""
    for i in range(x.size):
        keep_integer(keys, at + i, x[i], turn)


@jit
def keep_integer(keys: Any, at: Any, x: Any, turn: Any) -> None:
    """Keep the greater key of two."""
    key = np.uint64(np.int64(x)) ^ turn
    keys[at] = max(keys[at], key)


@jit
def keep_floats(keys: Any, at: Any, x: Any, turn: Any) -> None:
    """Keep in ``keys`` from ``at`` on the greater key of each, for floats x[n]."""
    for i in range(x.size):
        keep_float(keys, at + i, x[i], turn)


@jit
def keep_float(keys: Any, at: Any, x: Any, turn: Any) -> None:
    """Keep the greater key of two."""
    bits = np.float64(x).view(np.int64)
    key = np.uint64(bits ^ ((bits >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))) ^ turn
    if x != x:
        key = NAN
    keys[at] = max(keys[at], key)
