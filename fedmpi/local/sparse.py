"""Other forms of a column of ``float[?, d]`` tensors: rows that are mostly zeros, rows of pixels."""

from __future__ import annotations

from typing import Any, NamedTuple


class Csr(NamedTuple):
    """Rows of ``width`` numbers of which only those that are not zero are stored.

    Row i has the numbers ``values[offsets[i] : offsets[i + 1]]`` in the columns ``columns[…]`` (int32, ascending).
    ``values`` is float32 or float64; ``offsets``, int64[rows + 1], need not begin at 0: a batch is a slice of them.
    """

    values: Any
    columns: Any
    offsets: Any
    width: int


class Pixels(NamedTuple):
    """Rows of pixels: ``data``, uint8[rows, width], C-contiguous, stands for ``data / 255.0`` as floats."""

    data: Any
