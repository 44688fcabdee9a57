"""Other forms of a column of ``float[?, d]`` tensors: rows that are mostly zeros, rows of pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
_CHUNK = 1 << 20  # numbers looked at at a time


class Csr(NamedTuple):
    """Rows of ``width`` numbers of which only those that are not zero are stored.

    Row i has the numbers ``values[offsets[i] : offsets[i + 1]]`` in the columns ``columns[…]`` (int32, ascending).
    ``values`` is a float32 or float64 array; ``offsets`` int64[rows + 1] need not begin at 0: a batch is a slice of it.
    """

    values: Any
    columns: Any
    offsets: Any
    width: int


class Pixels(NamedTuple):
    """Rows of pixels: ``data``, uint8[rows, width], C-contiguous, stands for ``data / 255.0`` as floats."""

    data: Any


def _bits(rows: Array) -> Array:
    return rows.view(np.dtype(f"u{rows.itemsize}"))


def count_stored(rows: Array) -> int:
    """Return how many numbers of a float array a `Csr` would store: all but +0.0 (-0.0 is one of them)."""
    flat = _bits(rows.reshape(-1))
    return sum(int(np.count_nonzero(flat[at : at + _CHUNK])) for at in range(0, flat.size, _CHUNK))


def compressed(rows: Array) -> Csr:
    """Return dense rows, float32 or float64[n, d], as a `Csr`; every number but +0.0 is stored."""
    count, width = rows.shape
    stored = count_stored(rows)
    values, columns = np.empty(stored, rows.dtype), np.empty(stored, np.int32)
    offsets = np.zeros(count + 1, dtype=np.int64)
    at, step = 0, max(1, _CHUNK // max(width, 1))
    for start in range(0, count, step):
        piece = rows[start : start + step]
        row, column = np.nonzero(_bits(piece))
        values[at : at + len(row)], columns[at : at + len(row)] = piece[row, column], column
        offsets[start + 1 : start + 1 + len(piece)] = np.bincount(row, minlength=len(piece))
        at += len(row)
    np.cumsum(offsets, out=offsets)
    return frozen(Csr(values, columns, offsets, width))


def expanded(rows: Csr, start: int, stop: int) -> Array:
    """Return the rows ``start`` to ``stop`` as a dense array, read-only."""
    dense = np.zeros((stop - start, rows.width), dtype=rows.values.dtype)
    first, last = int(rows.offsets[start]), int(rows.offsets[stop])
    row = np.repeat(np.arange(stop - start), np.diff(rows.offsets[start : stop + 1]))
    dense[row, rows.columns[first:last]] = rows.values[first:last]
    dense.flags.writeable = False
    return dense


def frozen(rows: Csr) -> Csr:
    """Make the arrays of a `Csr` read-only and return it."""
    for array in rows[:3]:
        array.flags.writeable = False
    return rows
