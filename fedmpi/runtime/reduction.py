"""Sums and means over clients that do not depend on the order of the clients, nor on the ranks that host them.

A stage's sums and means share one `Accumulator`.  Each client adds its terms: a floating-point element x gives w·x,
rounded to float64 (exact for float32 x and integer w below 2^29), a complex one two such terms, an integer element
itself.  All additions are integer additions (see `fedmpi.local.exact`), so a plain ``MPI_Reduce(SUM)`` of int64 carries
them and no order can change a bit; a mean divides the sum by the sum of the weights, and rounding to the type happens
at the server.

Infinities and NaN have sums of their own, which are sent only if there are any: those of float64, whose order cannot
matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type

Vector = np.ndarray[Any, np.dtype[np.float64]]
Words = np.ndarray[Any, np.dtype[np.int64]]
_HALF = 32  # an integer travels as two halves, whose sums are exact for up to 2^31 clients
Members = Sequence[tuple[Any, Any]]  # of one client: for each reduction its value and its weight (None without)
_ONE = TensorType(np.int32)
_NO_PLANE = 1 << 30
NO_REACH: Words = np.array([_NO_PLANE, _NO_PLANE, 0], dtype=np.int64)


@dataclass(frozen=True)
class _Leaf:
    """One tensor: where its terms stand, and how the result is made of their sums."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_integer(self) -> bool:
        return self.dtype.kind in "iu"

    @property
    def slots(self) -> int:
        """Terms: float64 ones, or halves of integers."""
        return math.prod(self.shape) * (2 if self.dtype.kind in "iuc" else 1)

    def terms(self, value: Any, weight: Any) -> Any:
        """Return a client's terms."""
        array = np.asarray(value).reshape(-1)
        if self.is_integer:
            wide = array.astype(np.uint64 if self.dtype.kind == "u" else np.int64)
            shift, mask = wide.dtype.type(_HALF), wide.dtype.type((1 << _HALF) - 1)
            return np.stack([wide & mask, wide >> shift], axis=1).astype(np.int64).reshape(-1)
        # A complex number is its two parts: as a complex product, (inf + 1j) * 2 would be inf + nan j.
        wide = array.astype(np.complex128 if self.dtype.kind == "c" else np.float64).view(np.float64)
        return wide if weight is None else wide * np.float64(weight)

    def total(self, sums: Any) -> Any:
        """Return the sum in float64 (the two parts of a complex number one after the other) or Python integers."""
        if self.is_integer:
            return np.array([int(low) + (int(high) << _HALF) for low, high in sums.reshape(-1, 2)], dtype=object)
        return sums

    def rounded(self, total: Any) -> Any:
        """Return the sum in the leaf's dtype and shape; an integer that does not fit raises `OverflowError`."""
        if self.is_integer:
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


def _rebuild(type_: Type, parts: Iterator[Any]) -> Any:
    if isinstance(type_, StructType):
        return tuple(_rebuild(part, parts) for part in type_)
    return next(parts)


class Reduction:
    """One ``federated_sum`` or ``federated_mean`` over members of a type with known shapes.

    ``weight`` is the type of a mean's weights; a mean without weights weighs each client with 1.  A mean's last leaf is
    the weight.
    """

    def __init__(self, member: Type, *, mean: bool, weight: TensorType | None = None) -> None:
        self.member, self.mean = member, mean
        self.leaves = _leaves(member) + (_leaves(weight or _ONE) if mean else [])

    @property
    def slots(self) -> int:
        """The number of sums."""
        return sum(leaf.slots for leaf in self.leaves)

    def terms(self, value: Any, weight: Any = None) -> Iterator[Any]:
        """Yield a client's terms, leaf by leaf."""
        for leaf, array in zip(self.leaves, _flat(value, self.member), strict=False):
            yield leaf.terms(array, weight)
        if self.mean:
            yield self.leaves[-1].terms(1 if weight is None else weight, None)

    def result(self, sums: Sequence[Any]) -> Any:
        """Return the sum or mean, normalised, of the leaves' sums."""
        totals = [leaf.total(part) for leaf, part in zip(self.leaves, sums, strict=True)]
        leaves = self.leaves
        with np.errstate(all="ignore"):
            if self.mean:
                weight = np.float64(totals.pop()[0])
                totals, leaves = [total / weight for total in totals], leaves[:-1]
            parts = iter([leaf.rounded(total) for leaf, total in zip(leaves, totals, strict=True)])
        return _rebuild(self.member, parts)


class Accumulator:
    """The running sums of all reductions of a stage on one rank."""

    def __init__(self, reductions: Sequence[Reduction]) -> None:
        self.reductions = reductions
        leaves = [leaf for reduction in reductions for leaf in reduction.leaves]
        self._places = list(_places(leaves))
        floats = sum(leaf.slots for leaf in leaves if not leaf.is_integer)
        self._terms = np.zeros(floats)
        self._integers = np.zeros(sum(leaf.slots for leaf in leaves if leaf.is_integer), dtype=np.int64)
        self._limbs: Words = np.zeros((floats, 0), dtype=np.int64)
        self._low = 0
        self._special: Vector | None = None

    def add(self, members: Members) -> None:
        """Add one client."""
        from fedmpi.local import exact

        terms = (t for reduction, (v, w) in zip(self.reductions, members, strict=True) for t in reduction.terms(v, w))
        with np.errstate(all="ignore"):
            for (is_integer, place), term in zip(self._places, terms, strict=True):
                if is_integer:
                    self._integers[place] += term
                else:
                    self._terms[place] = term
            if not self._terms.size:
                return
            low, high, special = exact.reach(self._terms)
            if special:
                others = np.where(np.isfinite(self._terms), 0.0, self._terms)
                self._special = others if self._special is None else self._special + others
        if high >= 0:
            self._widen(low, high)
            exact.add_terms(self._limbs, self._low, self._terms)

    def _widen(self, low: int, high: int) -> None:
        """Make room for the planes ``low`` to ``high``."""
        planes = self._limbs.shape[1]
        first = min(low, self._low) if planes else low
        last = max(high, self._low + planes - 1) if planes else high
        if not planes or first < self._low or last >= self._low + planes:
            wider = np.zeros((self._limbs.shape[0], last - first + 1), dtype=np.int64)
            wider[:, self._low - first : self._low - first + planes] = self._limbs if planes else 0
            self._limbs, self._low = wider, first

    def reach(self) -> Words:
        """Return what the ranks have to agree on, as numbers of which the least counts: planes, special values."""
        planes = self._limbs.shape[1]
        least, most = (self._low, self._low + planes - 1) if planes else (_NO_PLANE, -_NO_PLANE)
        return np.array([least, -most, -int(self._special is not None)], dtype=np.int64)

    def message(self, reach: Words) -> Words:
        """Return the sums as integers to be added: those of integers, then the planes that some rank has."""
        if reach[0] == _NO_PLANE:
            return self._integers
        self._widen(int(reach[0]), int(-reach[1]))
        return np.concatenate([self._integers, self._limbs.reshape(-1)])

    def special(self, reach: Words) -> Vector | None:
        """Return the sums of infinities and NaN if some rank has any."""
        if not reach[2]:
            return None
        return np.zeros(len(self._terms)) if self._special is None else self._special

    def results(self, reach: Words, message: Words, special: Vector | None) -> Iterator[tuple[Reduction, list[Any]]]:
        """Yield each reduction with its leaves' sums, from the messages of all ranks, added."""
        from fedmpi.local import exact

        sums = np.zeros(len(self._terms))
        if reach[0] != _NO_PLANE:
            limbs = message[len(self._integers) :].reshape(len(sums), -1)
            exact.round_sums(np.ascontiguousarray(limbs), int(reach[0]), sums)
        if special is not None:
            with np.errstate(invalid="ignore"):
                sums = np.where(special == 0, sums, special)
        at = 0
        for reduction in self.reductions:
            places = self._places[at : at + len(reduction.leaves)]
            at += len(places)
            yield reduction, [(message if is_integer else sums)[place] for is_integer, place in places]


def _places(leaves: Sequence[_Leaf]) -> Iterator[tuple[bool, slice]]:
    """Yield for each leaf whether it is an integer one, and its slots among those of its kind."""
    at = {True: 0, False: 0}
    for leaf in leaves:
        start = at[leaf.is_integer]
        at[leaf.is_integer] += leaf.slots
        yield leaf.is_integer, slice(start, start + leaf.slots)
