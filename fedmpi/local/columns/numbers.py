"""Numbers, arrays and lists of numbers as NumPy arrays, each judged by its own class.

An element of a list is taken exactly where it is taken alone, and keeps its value: NumPy would make one dtype of all of
them first, and ``[True, 2]`` two integers.  Elements are judged class by class, so that a long list of one class costs
little.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.array_likes import beyond_numbers, is_array_like
from fedmpi.language.types import TensorType
from fedmpi.local.value_errors import ArgumentError, DoesNotFitError, describe, shown_range

Array = np.ndarray[Any, Any]
_PYTHON = (bool, int, float, complex)


def numbers(value: Any, type_: TensorType, *, safe: bool) -> Array:
    """Return numbers as an array of the type's kind, in a dtype that holds them all; its shape may be any.

    With ``safe`` a NumPy value must be of a dtype that the type's dtype holds.  Raises `ArgumentError` for all else.
    """
    if isinstance(value, list | tuple):
        return _of_list(value, type_, safe)
    refuse_more_than_numbers(value, type_)
    if is_array_like(type(value)) and not isinstance(value, np.ndarray | np.generic):
        value = _converted(value, type_)
    if not _taken(value, type_, safe):
        raise ArgumentError(str(type_), describe(value), _hint(value, type_))
    if isinstance(value, int):
        return _array(value, type_, type_.dtype)
    return np.asarray(value)


def refuse_more_than_numbers(value: Any, type_: TensorType | str) -> None:
    """Raise `ArgumentError` for a masked array and its like: see `beyond_numbers`."""
    if (more := beyond_numbers(value)) is not None:
        raise ArgumentError(str(type_), *more)


def _of_list(value: list[Any] | tuple[Any, ...], type_: TensorType, safe: bool) -> Array:
    strange = _strange(value, type_, safe)
    if strange is not None:
        place, element = strange
        hint = (beyond_numbers(element) or ("", ""))[1]
        if not hint and isinstance(element, (*_PYTHON, np.generic, np.ndarray)):
            hint = f"write np.array(value, np.{_name(type_)}) where that is meant"
        raise ArgumentError(str(type_), f"{describe(value)} with {describe(element)} at {place}", hint)
    # Floats are promoted to a float that holds them; uint64 and int64, or bfloat16 and a float, to what does not.
    dtype = {"i": type_.dtype, "V": np.float64}.get(_kind(type_.dtype))
    array = _array(value, type_, dtype)
    if not array.size:
        return array.astype(type_.dtype)  # an empty list has no dtype of its own
    if not safe and _kind(type_.dtype) == "i":  # NumPy's own integers would wrap in silence
        check_range(np.array(value, object), type_, value)
    return array


def _array(value: Any, type_: TensorType, dtype: Any) -> Array:
    """Return numbers whose classes have been judged as an array; raise what says that one is too large, or ragged."""
    try:
        return np.array(value, dtype)
    except OverflowError:
        if isinstance(value, int):
            raise DoesNotFitError(str(type_), describe(value), shown_range(type_.dtype)) from None
        check_range(np.array(value, object), type_, value)
        raise
    except (ValueError, TypeError):
        raise ArgumentError(
            str(type_), f"{describe(value)} that is no array: its rows differ in length or kind"
        ) from None


def _strange(value: list[Any] | tuple[Any, ...], type_: TensorType, safe: bool) -> tuple[str, Any] | None:
    """Return place and value of the first element that would not be taken alone; None if there is none."""
    known = {class_ for class_ in set(map(type, value)) if issubclass(class_, (*_PYTHON, np.generic))}
    taken = {class_ for class_ in known if _dtype_taken(_dtype(class_), type_, safe)}
    if taken.issuperset(map(type, value)):
        return None
    for i, element in enumerate(value):
        if isinstance(element, list | tuple):
            inside = _strange(element, type_, safe)
            if inside is not None:
                return f"[{i}]{inside[0]}", inside[1]
        elif type(element) not in taken and not _taken(element, type_, safe):
            return f"[{i}]", element
    return None


def check_range(array: Array, type_: TensorType, value: Any) -> None:
    """Raise `DoesNotFitError` if an integer of an array is none of the type's dtype; ``value`` is what was given."""
    limits = np.iinfo(type_.dtype)
    outside = array[(array < limits.min) | (array > limits.max)]
    if outside.size:
        found = describe(value) + (f" with {outside[0]}" if array.shape else "")
        raise DoesNotFitError(str(type_), found, shown_range(type_.dtype))


def _taken(value: Any, type_: TensorType, safe: bool) -> bool:
    """Tell whether a value that is no list may stand for numbers of the type."""
    if beyond_numbers(value) is not None:
        return False
    if isinstance(value, (*_PYTHON, np.generic)):
        return _dtype_taken(_dtype(type(value)), type_, safe)
    if isinstance(value, np.ndarray):
        return _dtype_taken(value.dtype, type_, safe)
    return is_array_like(type(value)) and _dtype_taken(_converted(value, type_).dtype, type_, safe)


def _converted(value: Any, type_: TensorType) -> Array:
    """Return the array of an object of any class that gives one, such as another library's tensor."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        found = f"{describe(value)}, of which no array can be made: {type(error).__name__}: {error}"
        raise ArgumentError(str(type_), found) from error


def _dtype_taken(dtype: np.dtype[Any] | type, type_: TensorType, safe: bool) -> bool:
    """Tell whether a dtype, or what class of Python numbers, may stand for the type's."""
    if isinstance(dtype, type):
        kind = {bool: "b", int: "i", float: "f", complex: "c"}[dtype]
        return kind == _kind(type_.dtype) or (kind == "f" and type_.dtype.kind == "V")  # bfloat16 is meant for floats
    return _kind(dtype) == _kind(type_.dtype) and (not safe or np.can_cast(dtype, type_.dtype, "safe"))


def _dtype(class_: type) -> np.dtype[Any] | type:
    """Return the dtype of a class of NumPy's scalars, or Python's class of numbers."""
    if issubclass(class_, np.generic):
        return np.dtype(class_)
    return next(python for python in _PYTHON if issubclass(class_, python))


def _kind(dtype: np.dtype[Any]) -> str:
    # Integers of both signs are one kind: whether a value fits is asked apart.
    return "i" if dtype.kind in "iu" else dtype.kind


def _name(type_: TensorType) -> str:
    return "bool_" if type_.dtype.kind == "b" else type_.dtype.name


def _hint(value: Any, type_: TensorType) -> str:
    """Say what to write for a number of another kind or of a wider dtype."""
    if type(value) is int and type_.dtype.kind == "f":
        return f"write {value}.0"
    if not (isinstance(value, _PYTHON) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc")):
        return ""
    what = f"np.{_name(type_)}(…)" if np.ndim(value) == 0 else f"value.astype(np.{_name(type_)})"
    return f"write {what} where that is meant"
