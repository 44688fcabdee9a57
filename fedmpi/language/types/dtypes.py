"""The dtypes and shapes of tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from fedmpi.language.errors import TypingError, UnsupportedValueError

Shape = tuple[int | None, ...]

_INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64", "bfloat16")
_ABSTRACT = (
    *(np.generic, np.number, np.integer, np.signedinteger, np.unsignedinteger),
    *(np.inexact, np.floating, np.complexfloating, np.flexible, np.character),
)
DTYPES = ("bool", *_INTS, *_FLOATS, "complex64", "complex128", "str")


def to_dtype(spec: Any) -> np.dtype[Any]:
    """Return the dtype of the language for a NumPy dtype or scalar class; any text and bytes are ``str``.

    Raises `UnsupportedValueError` for what the language does not have.
    """
    if not isinstance(spec, np.dtype) and not (isinstance(spec, type) and issubclass(spec, np.generic)):
        raise UnsupportedValueError(f"the dtype must be one of NumPy's, found {spec!r}", "give np.int32, np.float32, …")
    if spec in _ABSTRACT:
        raise UnsupportedValueError(f"the dtype must be a concrete one, found {spec!r}", "give np.int32, np.float32, …")
    dtype = np.dtype(spec)
    if dtype.kind in "US":
        return np.dtype(np.str_)
    if dtype.name not in DTYPES:
        raise UnsupportedValueError(f"the dtype must be one of {', '.join(DTYPES)}, found {dtype.name}")
    native: np.dtype[Any] = dtype if dtype.name == "bfloat16" else np.dtype(dtype.name)  # by name: in native byte order
    return native


def to_shape(shape: Iterable[int | None]) -> Shape:
    """Return a shape as a tuple; raise `TypingError` for what is none."""
    sizes = None if isinstance(shape, str) or not isinstance(shape, Iterable) else tuple(shape)
    if sizes is None or not all(size is None or hasattr(size, "__index__") for size in sizes):
        raise TypingError(f"the shape must be a sequence of sizes, each an int or None, found {shape!r}")
    return tuple(None if size is None else operator.index(size) for size in sizes)


def kind(dtype: np.dtype[Any]) -> str:
    """Return "bool", "int" (signed or not), "float", "complex" or "str"."""
    if dtype.name == "bfloat16":
        return "float"
    kinds = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex", "U": "str"}
    return kinds[str(dtype.kind)]
