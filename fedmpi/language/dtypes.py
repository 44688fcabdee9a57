"""The dtypes and shapes of tensors."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]

_INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64", "bfloat16")
DTYPES = ("bool", *_INTS, *_FLOATS, "complex64", "complex128", "str")


def to_dtype(spec: Any) -> np.dtype[Any]:
    """Return the dtype of the language for a NumPy dtype or scalar class; any text and bytes are ``str``.

    Raises `NotImplementedError` for what the language does not have.
    """
    if spec is None or (isinstance(spec, type) and not issubclass(spec, np.generic)):
        raise NotImplementedError(
            f"no dtype of the language: {spec!r}; give a NumPy dtype, such as np.int32 or np.float32"
        )
    dtype = np.dtype(spec)
    if dtype.kind in "US":
        return np.dtype(np.str_)
    if dtype.name not in DTYPES:
        raise NotImplementedError(f"no dtype of the language: {dtype}; it has {', '.join(DTYPES)}")
    native: np.dtype[Any] = dtype if dtype.name == "bfloat16" else np.dtype(dtype.name)  # by name: in native byte order
    return native


def to_shape(shape: Iterable[int | None]) -> Shape:
    """Return a shape as a tuple; raise `TypeError` for what is none."""
    if isinstance(shape, str) or not isinstance(shape, Iterable):
        raise TypeError(f"a shape must be a sequence of sizes, each an int or None, found {shape!r}")
    return tuple(None if size is None else operator.index(size) for size in shape)


def kind(dtype: np.dtype[Any]) -> str:
    """Return "bool", "int" (signed or not), "float", "complex" or "str"."""
    if dtype.name == "bfloat16":
        return "float"
    kinds = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex", "U": "str"}
    return kinds[str(dtype.kind)]
