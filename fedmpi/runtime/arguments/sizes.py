"""How much work a client's value is, told from the raw Python value without checking or converting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type


def works(values: Sequence[Any], type_: Type) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return `work` of each value, int64[values]."""
    if isinstance(type_, TensorType):
        return np.ones(len(values), dtype=np.int64)
    return np.fromiter((work(value, type_) for value in values), dtype=np.int64, count=len(values))


def work(value: Any, type_: Type) -> int:
    """Return the number of examples in a value: the rows of a sequence's elements, 1 for anything else.

    Never raises: a malformed value is refused by the rank that owns it.
    """
    try:
        return _work(value, type_)
    except Exception:
        return 1


def _work(value: Any, type_: Type) -> int:
    match type_:
        case SequenceType(element):
            return sum(_rows(member, element) for member in value)
        case StructType():
            parts = list(value.values()) if isinstance(value, Mapping) else list(value)
            return sum(_work(part, t) for part, t in zip(parts, type_, strict=False))
    return 1


def _rows(value: Any, type_: Type) -> int:
    if isinstance(type_, StructType) and len(type_):
        first = next(iter(value.values())) if isinstance(value, Mapping) else value[0]
        return _rows(first, next(iter(type_)))
    shape = getattr(value, "shape", ())
    return int(shape[0]) if shape else 1
