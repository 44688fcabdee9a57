"""Columns of some values of a column, and of the values of several: array by array, each leaf in its form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import Array, Column, Slot, arity, form, layout, leaves, offsets_of
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.columns.pixels import widen
from fedmpi.local.columns.sparse import Csr, expanded, frozen


def take(column: Column, indices: Sequence[int] | Array) -> Column:
    """Return a new column of the values at ``indices``, in that order."""
    index = np.asarray(indices, dtype=np.int64)
    return Column(column.type, len(index), tuple(_Taking(column.arrays).take(column.type, 0, index)))


def joined(type_: Type, columns: Sequence[Column]) -> Column:
    """Return one column of the values of several, each of which ends where its offsets end; a copy, but of one alone.

    Columns without values do not count.
    """
    columns = [column for column in columns if column.count] or columns[:1]
    if len(columns) == 1:
        return columns[0]
    return Column(type_, sum(map(len, columns)), tuple(_Joining([c.arrays for c in columns]).join(type_, 0)))


def _readonly(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _ranges(starts: Array, stops: Array) -> Array:
    """Return the indices start, …, stop - 1 of all pieces, one after the other."""
    lengths = stops - starts
    index = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    index += np.arange(len(index))
    return index


class _Taking:
    """One selection; leaves that share their offsets before share them after."""

    def __init__(self, arrays: tuple[Slot, ...]) -> None:
        self.arrays = arrays
        self._pieces: dict[tuple[int, int], tuple[Array, Array, Array]] = {}

    def pieces(self, at: int, index: Array) -> tuple[Array, Array]:
        """Return the rows that the offsets at ``at`` give the values at ``index``, and these values' new offsets."""
        offsets = self.arrays[at]
        key = id(offsets), id(index)
        if key not in self._pieces:
            starts, stops = offsets[index], offsets[index + 1]
            self._pieces[key] = _ranges(starts, stops), offsets_of(stops - starts), index  # kept: its id is the key
        return self._pieces[key][:2]

    def take(self, type_: Type, at: int, index: Array) -> list[Slot]:
        match type_:
            case TensorType():
                kind = layout(type_)
                if kind == "fixed":
                    return [_taken(self.arrays[at], index)]
                rows, offsets = self.pieces(at + 1, index)
                shapes = [_taken(self.arrays[at + 2], index)] if kind == "open" else []
                return [_taken(self.arrays[at], rows), offsets, *shapes]
            case StructType() if (flat := flat_layout(type_)) is not None:
                return [_taken(self.arrays[at + k], index) for k in range(len(flat.formats))]
            case StructType():
                out = []
                for part in type_:
                    out += self.take(part, at, index)
                    at += arity(part)
                return out
            case SequenceType(element):
                members, offsets = self.pieces(at, index)
                return [offsets, *self.take(element, at + 1, members)]
        raise TypeError(f"a column cannot hold values of type {type_}")


def _taken(slot: Slot, rows: Array) -> Slot:
    if not isinstance(slot, Csr):
        return _readonly(slot[rows])
    starts, stops = slot.offsets[rows], slot.offsets[rows + 1]
    stored = _ranges(starts, stops)
    return frozen(Csr(slot.values[stored], slot.columns[stored], offsets_of(stops - starts), slot.width))


class _Joining:
    """One concatenation; leaves that share their offsets before share them after."""

    def __init__(self, arrays: Sequence[tuple[Slot, ...]]) -> None:
        self.arrays = arrays
        self._offsets: dict[tuple[int, ...], Array] = {}

    def offsets(self, at: int) -> Array:
        each = [arrays[at] for arrays in self.arrays]
        key = tuple(map(id, each))
        if key not in self._offsets:
            self._offsets[key] = _joined_offsets(each)
        return self._offsets[key]

    def join(self, type_: Type, at: int) -> list[Slot]:
        match type_:
            case TensorType():
                kind = layout(type_)
                data = _joined_data([arrays[at] for arrays in self.arrays], type_)
                shapes = [np.concatenate([arrays[at + 2] for arrays in self.arrays])] if kind == "open" else []
                return [data, *([self.offsets(at + 1)] if kind != "fixed" else []), *map(_readonly, shapes)]
            case StructType() if flat_layout(type_) is not None:
                vectors = leaves(type_)
                return [_joined_data([arrays[at + leaf.at] for arrays in self.arrays], leaf.type) for leaf in vectors]
            case StructType():
                out = []
                for part in type_:
                    out += self.join(part, at)
                    at += arity(part)
                return out
            case SequenceType(element):
                return [self.offsets(at), *self.join(element, at + 1)]
        raise TypeError(f"a column cannot hold values of type {type_}")


def _joined_offsets(each: Sequence[Array]) -> Array:
    return offsets_of(np.concatenate([np.diff(offsets) for offsets in each]))


def _joined_data(slots: list[Slot], tensor: TensorType) -> Slot:
    forms = {form(slot, tensor) for slot in slots}
    if len(forms) > 1:
        slots = [_dense(slot, tensor) for slot in slots]
    if forms != {"sparse"}:
        return _readonly(np.concatenate(slots))
    values, columns = (np.concatenate([slot[i] for slot in slots]) for i in (0, 1))
    return frozen(Csr(values, columns, _joined_offsets([slot.offsets for slot in slots]), slots[0].width))


def _dense(slot: Slot, tensor: TensorType) -> Any:
    if isinstance(slot, Csr):
        return expanded(slot, 0, len(slot.offsets) - 1)
    return widen(slot, tensor.dtype) if form(slot, tensor) == "bytes" else slot
