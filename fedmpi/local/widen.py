"""Pixels: numbers that are kept as a byte u each and stand for u / 255."""

from __future__ import annotations

from typing import Any

from fedmpi.local.kernel import jit


@jit
def widen(data: Any, out: Any) -> None:
    """Write u / 255, rounded to the dtype of ``out`` float[n], for each byte u of ``data`` uint8[n]."""
    for i in range(data.size):
        out[i] = out.dtype.type(data[i] / 255.0)
