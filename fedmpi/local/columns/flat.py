"""Flat structs: the numbers of a struct of tensors in one array for each dtype.

A struct is *flat* if all it holds, however deep, are tensors of known shapes, some of them arrays (or more than
`SCALARS` scalars): a model, a client's state.  Its leaves of one dtype stand one after the other in one vector, at
places that the type alone decides.  So a column of a million models is one array ``[rows, N]``, and what copies, sends
or adds a model does so once, not once for each leaf.  Which of the vectors comes first is the order of the dtypes'
first leaves.

A value is a `Flat`, a tuple as every struct's, whose elements are views of the vectors; or an ordinary tuple, whose
vectors are made when they are asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.language.types.walking import leaves_of

Array = np.ndarray[Any, Any]
Format = tuple[np.dtype[Any], tuple[int, ...]]  # the dtype of an array and its shape for one value
SCALARS = 8  # a struct of no more scalars, and nothing else, is not flat: they are best in registers


@dataclass(frozen=True)
class Place:
    """Where a leaf stands: in vector ``group``, from ``start`` to ``stop``."""

    group: int
    start: int
    stop: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Inner:
    """Where an element that is a struct stands: its ``layout`` has the ranges (group, start, stop) of the vectors."""

    layout: FlatLayout
    ranges: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class FlatLayout:
    """The vectors of a struct, and where each of its elements stands in them.

    ``flat`` tells whether the struct itself, and not only one that it is a part of, is flat.
    """

    formats: tuple[Format, ...]
    parts: tuple[Place | Inner, ...]
    flat: bool

    @functools.cached_property
    def leaves(self) -> tuple[Place, ...]:
        """The places of all leaves, in their order."""
        found: list[Place] = []
        for part in self.parts:
            if isinstance(part, Place):
                found.append(part)
                continue
            for leaf in part.layout.leaves:
                group, start, _ = part.ranges[leaf.group]
                found.append(Place(group, start + leaf.start, start + leaf.stop, leaf.shape))
        return tuple(found)


def _is_tensor_of_known_shape(type_: Type) -> bool:
    """Tell whether a type is a tensor of numbers whose shape is known."""
    return (
        isinstance(type_, TensorType) and type_.dtype.kind != "U" and type_.shape is not None
        and None not in type_.shape
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def flat_layout(type_: Type) -> FlatLayout | None:
    """Return the layout of a flat struct, None for every other type."""
    if not isinstance(type_, StructType) or not all(_is_tensor_of_known_shape(leaf) for leaf in leaves_of(type_)):
        return None
    layout = layout_within(type_)
    return layout if layout.flat else None


@functools.lru_cache(maxsize=4096)
def layout_within(type_: StructType) -> FlatLayout:
    """Return where the leaves of a struct of tensors of known shapes stand in a flat one that it is a part of."""
    sizes: dict[np.dtype[Any], int] = {}
    parts: list[Place | Inner] = []

    def placed(dtype: np.dtype[Any], size: int) -> tuple[int, int, int]:
        start = sizes.setdefault(dtype, 0)
        sizes[dtype] = start + size
        return list(sizes).index(dtype), start, start + size

    for part in type_:
        if isinstance(part, StructType):
            inner = layout_within(part)
            parts.append(Inner(inner, tuple(placed(dtype, size) for dtype, (size,) in inner.formats)))
        else:
            assert isinstance(part, TensorType)
            shape = tuple(int(d or 0) for d in part.shape or ())
            parts.append(Place(*placed(part.dtype, math.prod(shape)), shape))
    leaves = list(leaves_of(type_))
    arrays = any(isinstance(leaf, TensorType) and leaf.shape != () for leaf in leaves)
    formats = tuple((dtype, (size,)) for dtype, size in sizes.items())
    return FlatLayout(formats, tuple(parts), arrays or len(leaves) > SCALARS)


class Flat(tuple[Any, ...]):
    """The value of a flat struct: a tuple of its elements, which are views of ``vectors`` (scalars are read)."""

    vectors: tuple[Array, ...]
    layout: FlatLayout


def flat_value(layout: FlatLayout, vectors: Sequence[Array]) -> Any:
    """Return the struct whose numbers stand in these vectors; nothing is copied."""
    parts: list[Any] = []
    for part in layout.parts:
        if isinstance(part, Place):
            vector, shape = vectors[part.group], part.shape
            if not shape:
                parts.append(vector[part.start])
            else:
                piece = vector[part.start : part.stop]
                parts.append(piece if len(shape) == 1 else piece.reshape(shape))
        else:
            parts.append(flat_value(part.layout, [vectors[group][start:stop] for group, start, stop in part.ranges]))
    if not layout.flat:
        return tuple(parts)
    value = Flat(parts)
    value.vectors, value.layout = tuple(vectors), layout
    return value


def vectors_of(value: Any, layout: FlatLayout) -> Sequence[Array]:
    """Return the vectors of a normalised struct: its own, or new ones of what an ordinary tuple holds."""
    if isinstance(value, Flat) and (value.layout is layout or value.layout == layout):
        return value.vectors
    vectors = [np.empty(size, dtype) for dtype, size in layout.formats]
    fill(vectors, value, layout)
    return vectors


def fill(vectors: Sequence[Array], value: Any, layout: FlatLayout) -> None:
    """Write the numbers of a normalised struct into vectors."""
    if isinstance(value, Flat) and (value.layout is layout or value.layout == layout):
        for vector, own in zip(vectors, value.vectors, strict=True):
            vector[...] = own
        return
    for part, element in zip(layout.parts, value, strict=True):
        if isinstance(part, Inner):
            fill([vectors[group][start:stop] for group, start, stop in part.ranges], element, part.layout)
        elif part.shape:
            vectors[part.group][part.start : part.stop] = element.reshape(-1)
        else:
            vectors[part.group][part.start] = element


def slots_of(value: Any, type_: Type) -> list[Any]:
    """Return what a row of a column holds for a value of tensors of known shapes: vectors, arrays, scalars."""
    layout = flat_layout(type_)
    if layout is not None:
        return list(vectors_of(value, layout))
    if isinstance(type_, StructType):
        return [slot for part, part_type in zip(value, type_, strict=True) for slot in slots_of(part, part_type)]
    return [value]


def write(slots: Iterator[Array], value: Any, type_: Type) -> None:
    """Write a value of tensors of known shapes into the arrays that come next, one for each of its slots."""
    layout = flat_layout(type_)
    if layout is not None:
        fill([next(slots) for _ in layout.formats], value, layout)
    elif isinstance(type_, StructType):
        for part, part_type in zip(value, type_, strict=True):
            write(slots, part, part_type)
    else:
        next(slots)[...] = value


def value_of(type_: Type, slots: Iterator[Any]) -> Any:
    """Return the value whose slots come next: what `slots_of` takes apart."""
    layout = flat_layout(type_)
    if layout is not None:
        return flat_value(layout, [next(slots) for _ in layout.formats])
    if isinstance(type_, StructType):
        return tuple([value_of(part, slots) for part in type_])
    return next(slots)
