"""Sums, differences and products of integers of one dtype that raise where that does not hold the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.errors import Report

SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*"}
Array = np.ndarray[Any, Any]


class ResultDoesNotFit(OverflowError):  # it makes another error: see __new__
    """Makes the OverflowError in Python: to put numbers into its text would take Numba a second of compile time."""

    def __new__(cls, op: str, left: int, right: int, dtype: str, where: str) -> Any:
        a, b = int(left), int(right)
        found = {"add": a + b, "subtract": a - b, "multiply": a * b}[op]
        limits = np.iinfo(dtype)
        shown = f"({b})" if b < 0 else str(b)
        text = f"{a} {SYMBOLS[op]} {shown} is {found}, which does not fit {dtype} ({limits.min} to {limits.max})"
        return OverflowError(str(Report(text, op, where)))


def computed(op: str, left: Any, right: Any, dtype: np.dtype[Any], where: str = "") -> Any:
    """Return ``left op right`` in the dtype of both, of an array and a scalar too; raise `OverflowError` beyond it.

    ``where`` is the place in the program that the error names.
    """
    with np.errstate(all="ignore"):
        result = getattr(np, op)(left, right, dtype=dtype)
        wrong = np.flatnonzero(_overflowed(op, *map(np.asarray, (left, right, result))))
    if wrong.size:
        a, b = (np.broadcast_to(side, np.shape(result)).reshape(-1)[wrong[0]] for side in (left, right))
        raise ResultDoesNotFit(op, a, b, dtype.name, where)
    return result


def _overflowed(op: str, left: Array, right: Array, result: Array) -> Any:
    if op == "multiply":
        return _product_overflowed(left, right, result)
    if result.dtype.kind == "u":
        return result < left if op == "add" else left < right
    alike = (left < 0) == (right < 0)
    return (alike if op == "add" else ~alike) & ((result < 0) != (left < 0))


def _product_overflowed(left: Array, right: Array, result: Array) -> Any:
    if result.dtype.itemsize < 8:
        wide = np.int64 if result.dtype.kind == "i" else np.uint64
        return np.multiply(left, right, dtype=wide) != result
    divisor = np.where(right == 0, 1, right).astype(result.dtype)
    wrong = (right != 0) & (result // divisor != left)
    if result.dtype.kind == "i":  # the least by -1 is itself once more
        wrong |= (right == -1) & (left == np.iinfo(result.dtype).min)
    return wrong
