"""Sums and means over clients, packed for one ``MPI_Reduce(SUM)``.

A round's sums and means share one accumulator: a float64 vector.  A floating-point element takes one slot (a complex
one two) and is summed in float64; an integer takes three slots of 24 bits each, whose sums stay exact up to 2^29
clients.  Rounding to the type happens once, at the server.  The executor knows `Reduction` alone: a sum whose order
cannot matter has the same shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type

Vector = np.ndarray[Any, np.dtype[np.float64]]
_BITS = 24
_LIMBS = 3
_ONE = TensorType(np.int32)


@dataclass(frozen=True)
class _Leaf:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def slots(self) -> int:
        return self.size * {"i": _LIMBS, "u": _LIMBS, "c": 2}.get(self.dtype.kind, 1)

    def terms(self, value: Any, weight: Any) -> Vector:
        """Return what a client adds to the leaf's slots."""
        array = np.asarray(value).reshape(-1)
        if self.dtype.kind in "iu":
            return _limbs(array)
        # A complex number is its two parts: as a complex product, (inf + 1j) * 2 would be inf + nan j.
        wide = array.astype(np.complex128 if self.dtype.kind == "c" else np.float64).view(np.float64)
        return wide if weight is None else wide * np.float64(weight)

    def total(self, slots: Vector) -> Any:
        """Return the sum in float64 (the two parts of a complex number one after the other) or Python integers."""
        return _join(slots.reshape(self.size, _LIMBS)) if self.dtype.kind in "iu" else slots

    def round(self, total: Any) -> Any:
        """Return the sum in the leaf's dtype and shape; an integer that does not fit raises `OverflowError`."""
        if self.dtype.kind in "iu":
            info = np.iinfo(self.dtype)
            if any(not info.min <= v <= info.max for v in total):
                first = next(v for v in total if not info.min <= v <= info.max)
                raise OverflowError(f"the sum does not fit {self.dtype.name}: it is {first}")
            return total.astype(self.dtype).reshape(self.shape)[()]
        wide = total.view(np.complex128) if self.dtype.kind == "c" else total
        return canonical(wide.astype(self.dtype)).reshape(self.shape)[()]


def canonical(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array with every NaN the quiet NaN and every zero +0.0."""
    if array.dtype.kind == "c":
        parts = array.view(np.float32 if array.dtype.itemsize == 8 else np.float64)
        return canonical(parts).view(array.dtype)
    array = array + array.dtype.type(0)
    array[np.isnan(array)] = np.nan
    return array


def _limbs(array: np.ndarray[Any, Any]) -> Vector:
    wide = array.astype(np.uint64 if array.dtype.kind == "u" else np.int64)
    mask = wide.dtype.type((1 << _BITS) - 1)
    low, middle, high = wide & mask, (wide >> wide.dtype.type(_BITS)) & mask, wide >> wide.dtype.type(2 * _BITS)
    return np.stack([low, middle, high], axis=1).astype(np.float64).reshape(-1)


def _join(limbs: Vector) -> np.ndarray[Any, Any]:
    exact = [sum(int(limb) << (_BITS * k) for k, limb in enumerate(row)) for row in limbs]
    return np.array(exact, dtype=object)


def _leaves(type_: Type) -> list[_Leaf]:
    if isinstance(type_, StructType):
        return [leaf for part in type_ for leaf in _leaves(part)]
    assert isinstance(type_, TensorType)
    assert type_.shape is not None
    return [_Leaf(type_.dtype, tuple(int(d or 0) for d in type_.shape))]


def _flat(value: Any, type_: Type) -> list[Any]:
    if isinstance(type_, StructType):
        return [leaf for v, part in zip(value, type_, strict=True) for leaf in _flat(v, part)]
    return [value]


class Reduction:
    """One ``federated_sum`` or ``federated_mean`` over members of a type with known shapes.

    ``weight`` is the type of a mean's weights; a mean without weights weighs each client with 1.  Slots of the
    accumulator: those of the members' leaves, then, for a mean, those of the weights.
    """

    def __init__(self, member: Type, *, mean: bool, weight: TensorType | None = None) -> None:
        self.member, self.mean = member, mean
        self._leaves = _leaves(member)
        self._weight = _leaves(weight or _ONE)[0] if mean else None
        self.slots = sum(leaf.slots for leaf in self._leaves) + (self._weight.slots if self._weight else 0)

    @property
    def nbytes(self) -> int:
        """Bytes in the message."""
        return 8 * self.slots

    def add(self, accumulator: Vector, value: Any, weight: Any = None) -> None:
        """Add a client's normalised value to the slots ``accumulator``."""
        at = 0
        with np.errstate(all="ignore"):
            for leaf, array in zip(self._leaves, _flat(value, self.member), strict=True):
                accumulator[at : at + leaf.slots] += leaf.terms(array, weight)
                at += leaf.slots
            if self._weight is not None:
                accumulator[at:] += self._weight.terms(1 if weight is None else weight, None)

    def result(self, accumulator: Vector) -> Any:
        """Return the sum or mean, normalised, from the reduced slots."""
        at, totals = 0, []
        for leaf in self._leaves:
            totals.append(leaf.total(accumulator[at : at + leaf.slots]))
            at += leaf.slots
        with np.errstate(all="ignore"):
            if self._weight is not None:
                weight = np.float64(self._weight.total(accumulator[at:])[0])
                totals = [total / weight for total in totals]
            parts = iter([leaf.round(total) for leaf, total in zip(self._leaves, totals, strict=True)])
        return _rebuild(self.member, parts)


def _rebuild(type_: Type, parts: Any) -> Any:
    if isinstance(type_, StructType):
        return tuple(_rebuild(part, parts) for part in type_)
    return next(parts)
