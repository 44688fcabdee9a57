"""Columns as bytes: what travels between ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, Type
from fedmpi.local.columns.column import Column, is_fixed, pack, slot_formats
from fedmpi.local.columns.flat import Format, value_of, write
from fedmpi.local.columns.sparse import Csr, frozen

Array = np.ndarray[Any, Any]
_ALIGN = 64  # of each array in a message: a view of the received bytes is then as good as an array of its own
_PLAIN, _BYTES = -1, -2  # the second word of an array; of a `Csr` it is the number of its values


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


def to_bytes(*columns: Column) -> Array:
    """Return columns of as many values as one array of bytes.

    Their count comes first, then two words for each array, then the arrays, each aligned.  The words are the array's
    length (of a `Csr`, of its offsets) and its form: -1 as the type says, -2 bytes of u / 255.0, else a `Csr` of so
    many values.
    """
    words, pieces = [columns[0].count], []
    slots = [slot for column in columns for slot in column.arrays]
    for slot, (dtype, _) in zip(slots, _formats([column.type for column in columns]), strict=True):
        if isinstance(slot, Csr):
            first, last = int(slot.offsets[0]), int(slot.offsets[-1])
            words += [len(slot.offsets), last - first]
            pieces += [slot.values[first:last], slot.columns[first:last], slot.offsets - first]
        else:
            words += [len(slot), _PLAIN if slot.dtype == dtype else _BYTES]
            pieces.append(slot)
    pieces.insert(0, np.array(words, dtype=np.int64))
    message = np.zeros(sum(_padded(p.nbytes) for p in pieces), dtype=np.uint8)
    at = 0
    for piece in pieces:
        message[at : at + piece.nbytes] = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
        at += _padded(piece.nbytes)
    return message


def _formats(types: Sequence[Type]) -> tuple[Format, ...]:
    return tuple(format_ for type_ in types for format_ in slot_formats(type_))


def from_bytes(type_: Type, message: Array) -> Column:
    """Return the column that `to_bytes` wrote; its arrays are views of ``message``."""
    (column,) = columns_of([type_], message)
    return column


def columns_of(types: Sequence[Type], message: Array) -> list[Column]:
    """Return the columns that `to_bytes` wrote; their arrays are views of ``message``."""
    formats = _formats(types)
    head = message[: 8 * (1 + 2 * len(formats))].view(np.int64)
    at = _padded(head.nbytes)

    def array(length: int, dtype: Any, inner: tuple[int, ...] = ()) -> Array:
        nonlocal at
        shape = (length, *inner)
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        piece: Array = message[at : at + nbytes].view(dtype).reshape(shape)
        piece.flags.writeable = False
        at += _padded(nbytes)
        return piece

    slots: list[Any] = []
    for i, (dtype, inner) in enumerate(formats):
        length, kind = int(head[1 + 2 * i]), int(head[2 + 2 * i])
        if kind >= 0:
            slots.append(frozen(Csr(array(kind, dtype), array(kind, np.int32), array(length, np.int64), inner[0])))
        else:
            slots.append(array(length, dtype if kind == _PLAIN else np.uint8, inner))
    rest = iter(slots)
    return [Column(t, int(head[0]), tuple(itertools.islice(rest, len(slot_formats(t))))) for t in types]


class Parcel:
    """Values of some types as one piece of bytes, for `MPI_Bcast`.

    Where all tensors have known shapes, its size and places are known before any value is; otherwise it is the column
    of the one struct of the values.
    """

    def __init__(self, types: Sequence[Type]) -> None:
        self._types, self._struct = tuple(types), StructType(list(types))
        self.fixed = all(map(is_fixed, types))
        self._formats = _formats(types) if self.fixed else ()
        self._places: list[int] = []
        self._nbytes = 0
        for dtype, inner in self._formats:
            self._places.append(self._nbytes)
            self._nbytes += _padded(math.prod(inner) * dtype.itemsize)

    def _slots(self, message: Array) -> Iterator[Array]:
        for at, (dtype, inner) in zip(self._places, self._formats, strict=True):
            yield np.ndarray(inner, dtype, message.data, at)

    def packed(self, values: Sequence[Any]) -> Array:
        """Return normalised values as bytes."""
        if not self.fixed:
            return to_bytes(pack(self._struct, [tuple(values)]))
        message = np.empty(self._nbytes, dtype=np.uint8)
        slots = self._slots(message)
        for value, type_ in zip(values, self._types, strict=True):
            write(slots, value, type_)
        return message

    def unpacked(self, message: Array) -> Sequence[Any]:
        """Return the values; their arrays are views of ``message``."""
        values: Sequence[Any]
        if self.fixed:
            message.flags.writeable = False
            slots = (slot if slot.shape else slot[()] for slot in self._slots(message))
            values = [value_of(type_, slots) for type_ in self._types]
        else:
            values = from_bytes(self._struct, message)[0]
        return values
