"""Hashes of a few numbers of a few values, however large these are: for ranks to compare what all of them are given.

Equal values have equal hashes, whatever containers and dtypes they are given in, as long as they are what their type
says.  What is not in memory, such as a memory map, is not opened for this.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import Array, PackedSequence, is_text
from fedmpi.local.columns.storage import is_mapped
from fedmpi.local.columns.values import struct_parts
from fedmpi.local.jit.interrupts import is_of_handler

_SCALARS, _OTHERS = 64, 16  # members of a list that are looked at
_WHOLE, _SOME, _LAST = 1024, 64, 16  # numbers of a tensor: that many are all looked at, else some and the last ones
_TEXT = 200  # characters
_GIVEN = (list, tuple, int, float, complex, np.generic)


class _NotInMemory(Exception):
    """A value, or a part of it, that would have to be read first."""


@functools.lru_cache(maxsize=256)
def spread(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of the positions 0 to count - 1, from the first to the last."""
    if count <= most:
        return tuple(range(count))
    return tuple(i * (count - 1) // (most - 1) for i in range(most))


def looked_at(count: int, type_: Type) -> tuple[int, ...]:
    """Return the positions of those among ``count`` values of a type whose hash stands for all."""
    scalars = isinstance(type_, TensorType) and type_.shape == ()
    return spread(count, _SCALARS if scalars else _OTHERS)


def sample_hash(values: Sequence[Any], type_: Type) -> int | None:
    """Return a hash of values as they are given; None if one is not in memory, or cannot be of the type."""
    try:
        return _fed(0, values, type_)
    except Exception as error:  # a value that its owner refuses, in words
        if is_of_handler(error):
            raise
        return None


def _fed(hash_: int, values: Sequence[Any], type_: Type) -> int:
    """Return the hash of what came before and of values, part by part."""
    match type_:
        case TensorType(dtype, ()) if not is_text(type_):
            return zlib.crc32(np.array(values, dtype).tobytes(), hash_)
        case TensorType() if is_text(type_):
            return zlib.crc32(repr([_texts(value) for value in values]).encode("utf-8", "backslashreplace"), hash_)
        case TensorType():
            return _tensors(hash_, [_array(value, type_) for value in values], type_)
        case StructType():
            for parts, part in zip(zip(*(struct_parts(v, type_) for v in values), strict=True), type_, strict=False):
                hash_ = _fed(hash_, parts, part)
            return hash_
        case SequenceType(element):
            if not all(isinstance(value, list | tuple | PackedSequence) for value in values):
                raise _NotInMemory
            hash_ = zlib.crc32(np.array([len(value) for value in values], np.int64).data, hash_)
            return _fed(hash_, [value[at] for value in values for at in spread(len(value), 2)], element)
    raise TypeError(type_)


def _texts(value: Any) -> Any:
    """Return the beginnings of the texts of a tensor, nested as it is."""
    if isinstance(value, str | bytes):
        return str(value.decode() if isinstance(value, bytes) else value)[:_TEXT]
    return [_texts(part) for part in (value.tolist() if isinstance(value, np.ndarray) else value)]


def _array(value: Any, type_: TensorType) -> Array:
    """Return a tensor of numbers as an array of the type's dtype; one that has it is not copied."""
    if isinstance(value, np.ndarray):
        if value.base is not None and is_mapped(value):
            raise _NotInMemory
    elif not isinstance(value, _GIVEN) and not hasattr(value, "__dlpack__"):
        raise _NotInMemory
    return np.asarray(value, type_.dtype)


def _tensors(hash_: int, arrays: list[Array], type_: TensorType) -> int:
    if type_.shape is None or None in type_.shape:
        hash_ = zlib.crc32(repr([array.shape for array in arrays]).encode(), hash_)
    for array in arrays:
        if array.size <= _WHOLE:
            hash_ = zlib.crc32(array.tobytes(), hash_)
        else:
            flat = array.reshape(-1) if array.flags.c_contiguous else array.flat  # no copy
            some = flat[:: array.size // _SOME]
            hash_ = zlib.crc32(flat[-_LAST:].tobytes(), zlib.crc32(some.tobytes(), hash_))
    return hash_
