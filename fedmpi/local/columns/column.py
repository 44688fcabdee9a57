"""Columns: many values of one type in a few arrays.

A `Column` holds ``count`` values of a type without a Python object for each.  The arrays follow the type, leaf by leaf:

==============================  ==================================================================
type of the values              arrays
==============================  ==================================================================
tensor of a known shape         ``data[count, *shape]``
tensor ``dtype[?, *known]``     ``data[total, *known]``, ``offsets int64[count + 1]``
tensor with other ``?``         ``data[total]``, ``offsets``, ``shapes int64[count, rank]``
``str`` tensor                  UTF-8 JSON in ``data uint8[total]``, ``offsets``
struct                          the arrays of its elements, one after the other
sequence                        ``offsets int64[count + 1]``, then the arrays of its elements
==============================  ==================================================================

A client's data, ``<x=float32[?,784],y=int32[?]>*``, for all clients of a rank is such a column: every example's pixels
lie in one contiguous array, a batch is a view.  Values are *normalised*: a tensor is a NumPy scalar or a contiguous
array, a struct a tuple, a sequence a `PackedSequence`, a text a `str`.

A float leaf may be stored in another form, which keeps its slots: its ``data`` is then a uint8 array of the u in
u / 255.0 (`fedmpi.local.columns.pixels`) or, for ``float[?, d]``, a `Csr`.  An element is the dense array, bit for bit.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.language.types.walking import all_tensors, preorder_types
from fedmpi.local.columns.pixels import widen
from fedmpi.local.columns.sparse import Csr, expanded

Array = np.ndarray[Any, Any]
Slot = Any  # an array or, for the data of a sparse leaf, a `Csr`
Format = tuple[np.dtype[Any], tuple[int, ...]]  # the dtype of an array and its shape for one value
_OFFSETS: Format = (np.dtype(np.int64), ())


@dataclass(frozen=True)
class Column:
    """``count`` normalised values of ``type``; the arrays are read-only and shared, never copied by a view."""

    type: Type
    count: int
    arrays: tuple[Slot, ...]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return _element(self.type, self.arrays, 0, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self.count))

    @functools.cached_property
    def forms(self) -> tuple[str, ...]:
        """How each array is stored: "" as the type says, "bytes" or "sparse"."""
        return tuple(
            "sparse" if isinstance(slot, Csr) else "bytes" if slot.dtype != dtype else ""
            for slot, (dtype, _) in zip(self.arrays, leaf_formats(self.type), strict=True)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays; offsets that several leaves share count once."""
        arrays = {id(a): a for slot in self.arrays for a in (slot[:3] if isinstance(slot, Csr) else (slot,))}
        return sum(a.nbytes for a in arrays.values())


@dataclass(frozen=True)
class PackedSequence:
    """A normalised sequence: the values ``start`` to ``stop`` of a column."""

    column: Column
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[Any]:
        return (self.column[i] for i in range(self.start, self.stop))

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(f"element {index} of a sequence of {len(self)}")
        return self.column[(self.stop if index < 0 else self.start) + index]


def is_text(tensor: TensorType) -> bool:
    """Tell whether a tensor holds texts (dtype ``str``)."""
    return tensor.dtype.kind == "U"


def layout(tensor: TensorType) -> str:
    """Return how tensors of a type are stored: "fixed", "rows" (only the first dimension open), "open" or "text"."""
    if is_text(tensor):
        return "text"
    if tensor.shape is None:
        raise TypeError(f"{tensor}: a tensor of unknown rank cannot be stored in a sequence or sent; declare its rank")
    if None not in tensor.shape:
        return "fixed"
    return "rows" if None not in tensor.shape[1:] else "open"


def is_fixed(type_: Type) -> bool:
    """Tell whether a type is made of tensors of known shapes."""
    return all_tensors(type_, lambda tensor: layout(tensor) == "fixed")


def arity(type_: Type) -> int:
    """Return the number of arrays of a column."""
    return len(leaf_formats(type_))


def form(slot: Slot, tensor: TensorType) -> str:
    """Return how the data of a leaf is stored: "dense", "bytes" or "sparse"."""
    if isinstance(slot, Csr):
        return "sparse"
    return "bytes" if slot.dtype != tensor.dtype and not is_text(tensor) else "dense"


def _element(type_: Type, arrays: tuple[Slot, ...], at: int, i: int) -> Any:
    match type_:
        case TensorType(dtype):
            data = arrays[at]
            kind, stored = layout(type_), form(data, type_)
            if kind == "fixed":
                return widen(data[i], dtype) if stored == "bytes" else data[i]
            start, stop = arrays[at + 1][i], arrays[at + 1][i + 1]
            if stored == "sparse":
                return expanded(data, start, stop)
            chunk = data[start:stop]
            if stored == "bytes":
                return widen(chunk, dtype)
            if kind == "text":
                return _decode(chunk)
            return chunk if kind == "rows" else chunk.reshape(arrays[at + 2][i])
        case StructType():
            parts = []
            for part in type_:
                parts.append(_element(part, arrays, at, i))
                at += arity(part)
            return tuple(parts)
        case SequenceType(element):
            offsets = arrays[at]
            inner = Column(element, int(offsets[-1]), arrays[at + 1 : at + 1 + arity(element)])
            return PackedSequence(inner, int(offsets[i]), int(offsets[i + 1]))
    raise TypeError(f"a column cannot hold values of type {type_}")


def _decode(data: Array) -> Any:
    value = json.loads(data.tobytes().decode("utf-8"))
    if isinstance(value, str):
        return value
    shape, texts = value
    return np.array(texts, dtype=object).reshape(shape)


def _encode(value: Any) -> Array:
    text = json.dumps(value if isinstance(value, str) else [np.shape(value), np.ravel(value).tolist()])
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def offsets_of(lengths: Sequence[int] | Array) -> Array:
    """Return the offsets 0, l0, l0 + l1, … of consecutive pieces."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.asarray(lengths, dtype=np.int64), out=offsets[1:])
    return _frozen(offsets)


def _joined(chunks: Sequence[Array], dtype: Any, tail: tuple[int, ...]) -> Array:
    if not chunks:
        return _frozen(np.empty((0, *tail), dtype=dtype))
    return _frozen(np.ascontiguousarray(np.concatenate(chunks)) if len(chunks) > 1 else np.array(chunks[0], order="C"))


def pack(type_: Type, values: Sequence[Any]) -> Column:
    """Copy normalised values into a new column."""
    return Column(type_, len(values), tuple(_pack(type_, values)))


def _pack(type_: Type, values: Sequence[Any]) -> list[Array]:
    match type_:
        case TensorType(dtype, shape):
            kind = layout(type_)
            if kind == "fixed":
                data = np.empty((len(values), *(d or 0 for d in shape or ())), dtype=dtype)
                for i, value in enumerate(values):
                    data[i] = value
                return [_frozen(data)]
            chunks = [_encode(v) for v in values] if kind == "text" else list(values)
            if kind == "text":
                return [_joined(chunks, np.uint8, ()), offsets_of([len(c) for c in chunks])]
            if kind == "rows":
                tail = tuple(int(d or 0) for d in (shape or ())[1:])
                return [_joined(chunks, dtype, tail), offsets_of([len(c) for c in chunks])]
            shapes = np.array([c.shape for c in chunks], dtype=np.int64).reshape(len(chunks), len(shape or ()))
            flat = [c.reshape(-1) for c in chunks]
            return [_joined(flat, dtype, ()), offsets_of([len(c) for c in flat]), _frozen(shapes)]
        case StructType():
            return [a for k, part in enumerate(type_) for a in _pack(part, [v[k] for v in values])]
        case SequenceType(element):
            members = [v for sequence in values for v in sequence]
            return [offsets_of([len(s) for s in values]), *_pack(element, members)]
    raise TypeError(f"a column cannot hold values of type {type_}")


@functools.lru_cache(maxsize=4096)
def laid_out_alike(one: Type, other: Type) -> bool:
    """Tell whether columns of two types have the same arrays."""
    return leaf_formats(one) == leaf_formats(other)


def conformed(column: Column, type_: Type) -> Column:
    """Return a column as one of ``type_``, to which its values can be assigned: a copy if that is stored otherwise."""
    if column.type is type_:
        return column
    if laid_out_alike(column.type, type_):
        return Column(type_, column.count, column.arrays)
    return pack(type_, list(column))


def conformed_sequence(sequence: PackedSequence, element: Type) -> PackedSequence:
    """Return a sequence as one of ``element``; see `conformed`."""
    if sequence.column.type is element or laid_out_alike(sequence.column.type, element):
        return PackedSequence(conformed(sequence.column, element), sequence.start, sequence.stop)
    return PackedSequence(pack(element, list(sequence)), 0, len(sequence))


def dense_sequence(sequence: PackedSequence) -> PackedSequence:
    """Return a sequence all of whose leaves are stored densely: a copy if they are not."""
    column = sequence.column
    if all(form(column.arrays[leaf.at], leaf.type) == "dense" for leaf in leaves(column.type)):
        return sequence
    return PackedSequence(pack(column.type, list(sequence)), 0, len(sequence))


@dataclass(frozen=True)
class Leaf:
    """A tensor of a type: its path in words, the slot of its data, that of the offsets of the sequence it is in."""

    path: tuple[str, ...]
    type: TensorType
    at: int
    sequence: int | None = None


@functools.lru_cache(maxsize=4096)
def leaves(type_: Type) -> tuple[Leaf, ...]:
    """Return the tensors of a type in the order of a column's arrays."""
    return tuple(_leaves(type_, (), 0, None))


def _leaves(type_: Type, path: tuple[str, ...], at: int, sequence: int | None) -> Iterator[Leaf]:
    match type_:
        case TensorType():
            yield Leaf(path, type_, at, sequence)
        case StructType():
            for i, (name, part) in enumerate(type_.items()):
                yield from _leaves(part, (*path, f"element {i}" if name is None else name), at, sequence)
                at += arity(part)
        case SequenceType(element):
            yield from _leaves(element, path, at + 1, at)


@functools.lru_cache(maxsize=4096)
def leaf_formats(type_: Type) -> tuple[Format, ...]:
    """Return dtype and inner shape of each array of a column of this type, stored densely."""
    return tuple(format_ for part in preorder_types(type_) for format_ in _own_formats(part))


def _own_formats(type_: Type) -> tuple[Format, ...]:
    """Return the formats of the arrays that a column has for a type besides those of its parts, which come next."""
    match type_:
        case TensorType(dtype, shape):
            known = tuple(int(d) for d in (shape or ()) if d is not None)
            formats: dict[str, tuple[Format, ...]] = {
                "fixed": ((dtype, known),),
                "rows": ((dtype, known), _OFFSETS),
                "open": ((dtype, ()), _OFFSETS, (np.dtype(np.int64), (len(shape or ()),))),
                "text": ((np.dtype(np.uint8), ()), _OFFSETS),
            }
            return formats[layout(type_)]
        case StructType():
            return ()
        case SequenceType():
            return (_OFFSETS,)
    raise TypeError(f"a column cannot hold values of type {type_}")
