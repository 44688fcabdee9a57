"""Columns: many values of one type in a few arrays.

A `Column` holds ``count`` values of a type without a Python object for each.  The arrays follow the type, leaf by leaf:

==============================  ==================================================================
type of the values              arrays
==============================  ==================================================================
tensor of a known shape         ``data[count, *shape]``
tensor ``dtype[?, *known]``     ``data[total, *known]``, ``offsets int64[count + 1]``
tensor with other ``?``         ``data[total]``, ``offsets``, ``shapes int64[count, rank]``
``str`` tensor                  UTF-8 JSON in ``data uint8[total]``, ``offsets``
other struct                    the arrays of its elements, one after the other
sequence                        ``offsets int64[count + 1]``, then the arrays of its elements
flat struct (see `flat`)        ``data[count, numbers]`` for each dtype
==============================  ==================================================================

A client's data, ``<x=float32[?,784],y=int32[?]>*``, for all clients of a rank is such a column: every example's pixels
lie in one contiguous array, a batch is a view.  Values are *normalised*: a tensor is a NumPy scalar or a contiguous
array, a struct a tuple (maybe a `Flat`), a sequence a `PackedSequence`, a text a `str`.

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
from fedmpi.language.types.walking import all_tensors, leaves_with_paths, preorder_types
from fedmpi.local.columns.flat import Format, fill, flat_layout, flat_value
from fedmpi.local.columns.pixels import widen
from fedmpi.local.columns.sparse import Csr, expanded

Array = np.ndarray[Any, Any]
Slot = Any  # an array or, for the data of a sparse leaf, a `Csr`
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
            for slot, (dtype, _) in zip(self.arrays, slot_formats(self.type), strict=True)
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
    return len(slot_formats(type_))


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
        case StructType() if (flat := flat_layout(type_)) is not None:
            rows = [arrays[at + k][i] for k in range(len(flat.formats))]
            for k, (dtype, _) in enumerate(flat.formats):
                if rows[k].dtype != dtype:
                    rows[k] = widen(rows[k], dtype)
            return flat_value(flat, rows)
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
            chunks = [c.reshape(-1) for c in chunks]
            return [_joined(chunks, dtype, ()), offsets_of([len(c) for c in chunks]), _frozen(shapes)]
        case StructType() if (flat := flat_layout(type_)) is not None:
            vectors = [np.empty((len(values), *inner), dtype) for dtype, inner in flat.formats]
            for i, value in enumerate(values):
                fill([vector[i] for vector in vectors], value, flat)
            return [_frozen(vector) for vector in vectors]
        case StructType():
            return [a for k, part in enumerate(type_) for a in _pack(part, [v[k] for v in values])]
        case SequenceType(element):
            members = [v for sequence in values for v in sequence]
            return [offsets_of([len(s) for s in values]), *_pack(element, members)]
    raise TypeError(f"a column cannot hold values of type {type_}")


@functools.lru_cache(maxsize=4096)
def laid_out_alike(one: Type, other: Type) -> bool:
    """Tell whether columns of two types have the same arrays, with each leaf in the same place."""
    return slot_formats(one) == slot_formats(other) and _tensor_formats(one) == _tensor_formats(other)


def _tensor_formats(type_: Type) -> list[tuple[Format, ...]]:
    """Return the formats that each tensor of a type would have by itself."""
    return [_tensor_slots(part) for part in preorder_types(type_) if isinstance(part, TensorType)]


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


def dense_rows(column: Column, rows: Any) -> list[Array]:
    """Return copies, to be written to, of some rows of a column's arrays, of a type of known sizes, stored densely."""
    formats = slot_formats(column.type)
    taken = [slot[rows] for slot in column.arrays]
    copies = [a if a.dtype == dtype else widen(a, dtype) for a, (dtype, _) in zip(taken, formats, strict=True)]
    for array in copies:
        array.flags.writeable = True
    return copies


def dense_sequence(sequence: PackedSequence) -> PackedSequence:
    """Return a sequence all of whose leaves are stored densely: a copy if they are not."""
    column = sequence.column
    if all(form(column.arrays[leaf.at], leaf.type) == "dense" for leaf in leaves(column.type)):
        return sequence
    return PackedSequence(pack(column.type, list(sequence)), 0, len(sequence))


@dataclass(frozen=True)
class Leaf:
    """Numbers that a column has in one array: a tensor of its type, or all tensors of one dtype in a flat struct.

    ``path`` says in words where it is, ``type`` is that of a value's part of the array, ``at`` the slot of its data,
    ``sequence`` that of the offsets of the sequence that it is in.
    """

    path: tuple[str, ...]
    type: TensorType
    at: int
    sequence: int | None = None
    struct: StructType | None = None
    vector: int = 0

    def tensor(self, number: int) -> tuple[tuple[str, ...], TensorType]:
        """Return path and type of the tensor to which a number of a value's part belongs."""
        flat = None if self.struct is None else flat_layout(self.struct)
        if self.struct is None or flat is None:
            return self.path, self.type
        for place, (path, tensor) in zip(flat.leaves, leaves_with_paths(self.struct), strict=True):
            if place.group == self.vector and place.start <= number < place.stop:
                assert isinstance(tensor, TensorType)
                return (*self.path, *(_named(*step) for step in path)), tensor
        raise IndexError(number)


@functools.lru_cache(maxsize=4096)
def leaves(type_: Type) -> tuple[Leaf, ...]:
    """Return the leaves of a type in the order of a column's arrays."""
    return tuple(_leaves(type_, (), 0, None))


def _named(index: int, name: str | None) -> str:
    return f"element {index}" if name is None else name


def _leaves(type_: Type, path: tuple[str, ...], at: int, sequence: int | None) -> Iterator[Leaf]:
    match type_:
        case TensorType():
            yield Leaf(path, type_, at, sequence)
        case StructType() if (flat := flat_layout(type_)) is not None:
            for k, (dtype, size) in enumerate(flat.formats):
                yield Leaf(path, TensorType(dtype, size), at + k, sequence, type_, k)
        case StructType():
            for i, (name, part) in enumerate(type_.items()):
                yield from _leaves(part, (*path, _named(i, name)), at, sequence)
                at += arity(part)
        case SequenceType(element):
            yield from _leaves(element, path, at + 1, at)


@functools.lru_cache(maxsize=4096)
def slot_formats(type_: Type) -> tuple[Format, ...]:
    """Return dtype and inner shape of each array of a column of this type, stored densely."""
    match type_:
        case TensorType():
            return _tensor_slots(type_)
        case StructType():
            flat = flat_layout(type_)
            return flat.formats if flat is not None else tuple(f for part in type_ for f in slot_formats(part))
        case SequenceType(element):
            return (_OFFSETS, *slot_formats(element))
    raise TypeError(f"a column cannot hold values of type {type_}")


def _tensor_slots(type_: TensorType) -> tuple[Format, ...]:
    dtype, shape = type_.dtype, type_.shape
    known = tuple(int(d) for d in (shape or ()) if d is not None)
    formats: dict[str, tuple[Format, ...]] = {
        "fixed": ((dtype, known),),
        "rows": ((dtype, known), _OFFSETS),
        "open": ((dtype, ()), _OFFSETS, (np.dtype(np.int64), (len(shape or ()),))),
        "text": ((np.dtype(np.uint8), ()), _OFFSETS),
    }
    return formats[layout(type_)]
