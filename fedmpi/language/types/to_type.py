"""Types from what users write (dtypes, pairs of dtype and shape, Python containers, classes), and of Python values."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ForwardRef

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.errors import TypingError, UnsupportedValueError, reporting
from fedmpi.language.source import stack_is_deep
from fedmpi.language.types.classes import (
    FederatedType,
    StructType,
    StructWithPythonType,
    TensorType,
    Type,
    TypeSpec,
    is_named,
    struct_items,
)
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.placements import CLIENTS, SERVER

_PYTHON_SCALARS = (bool, int, float, complex, str, bytes)


def to_type(spec: TypeSpec) -> Type:
    """Return the type that ``spec`` stands for; raise `TypingError` for what stands for none.

    ``np.int32`` is a scalar, ``(np.float32, [784, 10])`` a tensor, ``(np.float32, None)`` one of unknown rank, not
    a pair.  Structs are ``[("a", T), ("b", U)]``, mappings, lists, tuples, and classes and instances of named tuples
    and dataclasses.
    """
    with reporting("to_type"):
        return read_type(spec)


def read_type(spec: TypeSpec) -> Type:
    """Do what `to_type` does; an error is reported by the caller."""
    try:
        return _read(spec)
    except RecursionError:
        if stack_is_deep():
            raise  # of the body around it
        raise TypingError("the type is nested too deeply, or holds itself") from None


def _read(spec: TypeSpec) -> Type:
    match spec:
        case Type():
            return spec
        case np.dtype():
            return TensorType(spec)
        case type():
            return _class_type(spec)
        case (dtype, shape) if type(spec) is tuple and _is_dtype(dtype) and _is_shape(shape):
            return TensorType(dtype, shape)
        case list() | tuple() if any(is_named(element) and element[0] is not None for element in spec):
            return StructType._of(struct_items(spec))
        case list() | tuple() if not hasattr(spec, "_fields"):
            return StructWithPythonType._of(struct_items(spec), type(spec))
    parts = unpack(spec)
    if parts is None:
        raise TypingError(f"a type must be given, found {spec!r}", _type_hint(spec))
    return StructWithPythonType._of(struct_items(parts), type(spec))


def _type_hint(spec: Any) -> str:
    if isinstance(spec, str | int | float | complex | bytes) or (isinstance(spec, type) and spec in _PYTHON_SCALARS):
        return "give np.int32, np.float32, …, or a pair of dtype and shape such as (np.float32, [784, 10])"
    if isinstance(spec, np.ndarray | np.generic):
        return "fm.infer_type(value) gives the type of a value"
    return ""


def _is_dtype(spec: Any) -> bool:
    return isinstance(spec, np.dtype) or (isinstance(spec, type) and issubclass(spec, np.generic))


def _is_shape(spec: Any) -> bool:
    if spec is None:
        return True
    return (
        isinstance(spec, Sequence)
        and not isinstance(spec, str)
        and all(size is None or (isinstance(size, int | np.integer) and not isinstance(size, bool)) for size in spec)
    )


def _class_type(cls: type) -> Type:
    """The type of a scalar class of NumPy, or of the annotations of a NamedTuple or a dataclass."""
    if issubclass(cls, np.generic):
        return TensorType(cls)
    if dataclasses.is_dataclass(cls):
        names: Sequence[str] = [field.name for field in dataclasses.fields(cls)]
    elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
        names = cls._fields
    else:
        fields = issubclass(cls, Mapping) or hasattr(cls, "__attrs_attrs__")
        hint = f"give an instance whose elements are types: {cls.__name__}(name=T, …)" if fields else _type_hint(cls)
        raise TypingError(f"a type must be given, found the class {cls.__name__}", hint)
    annotations = _annotations(cls)
    if missing := [name for name in names if name not in annotations]:
        raise TypingError(
            f"{cls.__name__} says nothing about the type of {', '.join(missing)}",
            f"use typing.NamedTuple or a dataclass, or an instance of types: {cls.__name__}(np.float32, …)",
        )
    items = [(name, _annotation_type(annotations[name])) for name in names]
    return StructWithPythonType._of(struct_items(items), cls)


def _annotations(cls: type) -> dict[str, Any]:
    """The annotations of a class and its bases.  Not `typing.get_type_hints`: that refuses ``(np.float32, [10])``."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in inspect.get_annotations(base).items():
            text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
            try:
                module = vars(sys.modules[base.__module__])
                found[name] = eval(text, module, dict(vars(base))) if isinstance(text, str) else annotation
            except Exception as error:
                raise TypingError(f"the annotation of {name} in {cls.__name__} cannot be read: {error}") from None
    return found


def _annotation_type(annotation: Any) -> Type:
    return TensorType(np.dtype(annotation)) if annotation in _PYTHON_SCALARS else read_type(annotation)


def infer_type(value: Any) -> Type | None:
    """Return the type of a Python value, None for None; raise `UnsupportedValueError` for what cannot be a value.

    Python numbers are int32 (int64 if it takes that; more is a `TypingError`), float32 and complex128.
    """
    with reporting("infer_type"):
        return type_of(value)


def type_of(value: Any) -> Type | None:
    """Do what `infer_type` does; an error is reported by the caller."""
    try:
        return _type_of(value)
    except RecursionError:
        if stack_is_deep():
            raise  # of the body around it
        raise TypingError("the value is nested too deeply, or holds itself") from None


def _type_of(value: Any) -> Type | None:
    if value is None:
        return None
    if isinstance(typed := getattr(value, "type_signature", None), Type):
        return typed
    if (more := beyond_numbers(value)) is not None:
        raise UnsupportedValueError(f"a value must be given, found {more[0]}", more[1])
    if isinstance(value, np.generic | np.ndarray):
        return TensorType(value.dtype, value.shape)
    match value:
        case bool():
            return TensorType(np.bool_)
        case int():
            return TensorType(_int_dtype(value))
        case float():
            return TensorType(np.float32)
        case complex():
            return TensorType(np.complex128)
        case str() | bytes():
            return TensorType(np.str_)
    parts = None if isinstance(value, type) else unpack(value)
    if parts is None:
        raise UnsupportedValueError(f"a value must be given, found {value!r} of class {type(value).__name__}")
    items = [(name, _type_of(element)) for name, element in parts]
    if any(element is None for _, element in items):
        raise UnsupportedValueError(f"all elements must be values, found None in {value!r}")
    return StructWithPythonType(items, type(value))


def _int_dtype(value: int) -> type[np.generic]:
    for dtype in (np.int32, np.int64):
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            return dtype
    raise TypingError(f"an integer must fit int64, found {value}")


def type_at_server(member: TypeSpec) -> FederatedType:
    """Return ``T@SERVER``."""
    return FederatedType(member, SERVER)


def type_at_clients(member: TypeSpec, all_equal: bool = False) -> FederatedType:
    """Return ``{T}@CLIENTS``, or ``T@CLIENTS`` for a value that is the same at every client."""
    return FederatedType(member, CLIENTS, all_equal)
