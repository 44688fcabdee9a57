"""Python values as constants of a program: language.md, section 3.3."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.errors import TypingError, UnsupportedValueError
from fedmpi.language.tree.expressions import Literal
from fedmpi.language.types import TensorType
from fedmpi.language.types.dtypes import kind
from fedmpi.language.types.to_type import type_of

SCALARS = (bool, int, float, complex, str, bytes, np.generic, np.ndarray)


def literal(value: Any, wanted: TensorType | None, name: str) -> Literal:
    """Return a Python scalar or NumPy array as a constant, of the wanted dtype if it is of that kind and fits."""
    dtype, shape = _own_type(value, wanted, name)
    if wanted is not None and (dtype != wanted.dtype or type(value) is int):
        _check_fits(value, dtype, wanted, name)
        dtype = wanted.dtype
    if dtype.kind == "U":
        if not shape:
            return Literal(_text(value, name), TensorType(dtype))
        return Literal(tuple(_text(text, name) for text in np.ravel(value).tolist()), TensorType(dtype, shape))
    with np.errstate(over="ignore"):
        array = np.asarray(value).astype(dtype)
    if kind(dtype) in ("float", "complex") and not np.array_equal(np.isfinite(array), np.isfinite(np.asarray(value))):
        raise TypingError(f"{name} must be {dtype.name}, found {value!r}, which is too large for it")
    return Literal(array.tobytes(), TensorType(dtype, shape))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise UnsupportedValueError(f"{name} must be a text in UTF-8, found {value!r}: {error}") from None


def _own_type(value: Any, wanted: TensorType | None, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if type(value) is int and wanted is not None and kind(wanted.dtype) == "int":
        return np.dtype(np.int64), ()  # whether it fits is checked next
    try:
        own = type_of(value)
    except TypingError as error:
        raise UnsupportedValueError(f"{name} must be a value: {error.text}", error.hint) from None
    assert isinstance(own, TensorType)
    return own.dtype, np.shape(value)


def _check_fits(value: Any, dtype: np.dtype[Any], wanted: TensorType, name: str) -> None:
    """A Python number takes any dtype of its kind that holds it; a NumPy one only a wider one of its kind."""
    target = wanted.dtype
    if kind(dtype) == kind(target):
        if type(value) is int:
            limits = np.iinfo(target)
            if limits.min <= value <= limits.max:
                return
        elif type(value) in (float, complex) or np.can_cast(dtype, target, "safe"):
            return
    if kind(target) == "float" and type(value) is int:
        hint = f"write {value}.0"
    elif isinstance(value, np.generic | np.ndarray):
        hint = f"write np.{target.name}(…), or .astype(np.{target.name}) for an array"
    else:
        hint = ""
    found = (
        f"{value!r}"
        if type(value) in (bool, int, float, complex, str, bytes)
        else f"{TensorType(dtype, np.shape(value))}"
    )
    raise TypingError(f"{name} must be {target.name}, found {found}", hint)
