"""Columns as bytes: what travels between ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.types import Type
from fedmpi.local.columns import Column, leaf_formats
from fedmpi.local.sparse import Csr, frozen

Array = np.ndarray[Any, Any]
_ALIGN = 64  # of each array in a message: a view of the received bytes is then as good as an array of its own
_PLAIN, _BYTES = -1, -2  # the second word of an array; of a `Csr` it is the number of its values


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGN) * _ALIGN


def to_bytes(column: Column) -> Array:
    """Return the column as one array of bytes: its count, two words for each array, then the arrays, each aligned.

    The words are the array's length (of a `Csr`, of its offsets) and its form: -1 as the type says, -2 bytes of
    u / 255.0, else a `Csr` of so many values.
    """
    words, pieces = [column.count], []
    for slot, (dtype, _) in zip(column.arrays, leaf_formats(column.type), strict=True):
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


def from_bytes(type_: Type, message: Array) -> Column:
    """Return the column that `to_bytes` wrote; its arrays are views of ``message``."""
    formats = leaf_formats(type_)
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
    return Column(type_, int(head[0]), tuple(slots))
