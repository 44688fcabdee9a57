"""Arrays that are more than their numbers: masks, units, an arithmetic of their own.

What they add would be lost on the way, so they are refused with what to write instead.  A subclass of NumPy's arrays
that only stores its numbers elsewhere or has other methods, such as `np.memmap`, is taken.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

_ARITHMETIC = ("__array_ufunc__", "__array_function__", "__add__", "__mul__", "__sub__", "__truediv__", "__eq__")


def beyond_numbers(value: Any) -> tuple[str, str] | None:
    """Return what a value is besides its numbers, and what to write instead; None for all others."""
    return _of_class(type(value))  # type: ignore[arg-type]  # classes are hashable


@functools.lru_cache(maxsize=256)
def _of_class(class_: type) -> tuple[str, str] | None:
    if issubclass(class_, np.ma.MaskedArray) or (is_array_like(class_) and hasattr(class_, "filled")):
        return "a masked array", "write value.filled(…) with the number that stands for what is masked"
    if not is_array_like(class_) or class_ is np.ndarray or issubclass(class_, np.generic):
        return None
    if hasattr(class_, "unit") or hasattr(class_, "units"):
        return f"a {class_.__name__}, which has a unit", "write np.asarray(…) of it in the unit that is meant"
    own = issubclass(class_, np.ndarray) and any(getattr(class_, n) is not getattr(np.ndarray, n) for n in _ARITHMETIC)
    if own:
        return f"a {class_.__name__}, which has an arithmetic of its own", "write np.asarray(value) for its numbers"
    return None


def is_array_like(class_: type) -> bool:
    """Tell whether objects of a class give an array of their numbers."""
    return hasattr(class_, "__array__") and not hasattr(class_, "fedmpi_description")  # as a placeholder has
