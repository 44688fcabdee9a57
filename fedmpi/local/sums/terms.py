"""What the text of a loop says of sums: known without compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

PLANES = 8  # of the accumulator, float64 each: see `bins`
CLIENTS = 1 << 11  # that are added before a `bins.carry`, of up to two terms an element
SIGN = np.uint64(1 << 63)
ALL = np.uint64((1 << 64) - 1)


def turn_of(dtype: np.dtype[Any], *, least: bool) -> np.uint64:
    """Return the bits in which the key of a dtype differs from its plain form (see `extremes`)."""
    sign = np.uint64(0) if dtype.kind == "u" else SIGN
    return sign ^ (ALL if least else np.uint64(0))
