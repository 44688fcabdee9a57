"""Sums and means over clients that do not depend on the order of the clients, nor on the ranks that host them.

A stage's sums and means share one `Layout` and on each rank one `Accumulator`.  Each client adds its terms: a
floating-point element x gives w·x, rounded to float64 (exact for float32 x and integer w below 2^29), a complex one two
such terms, an integer itself, a weighted mean its weight too.

``exact``, the default: all additions are exact (see `fedmpi.local.bins`), so a plain ``MPI_Reduce(SUM)`` of float64
carries them and no order can change a bit; a sum is rounded once, to its type, and a mean is the sum, rounded to
float64, over the sum of the weights.  ``float64`` and ``fast`` (float32) add floating-point terms as they come: cheaper
on the wire, and with other last bits on other numbers of ranks.  Integers and weights are exact in all three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type

Array = np.ndarray[Any, Any]
MODES = ("exact", "float64", "fast")
NONFINITE = ("propagate", "raise")


@dataclass(frozen=True)
class Leaf:
    """One tensor of a reduction's members: ``slots`` sums of an accumulator from ``at`` on, exact or plain ones."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    name: str
    is_weight: bool
    exact: bool
    at: int

    @property
    def is_integer(self) -> bool:
        return self.dtype.kind in "iu"

    @property
    def slots(self) -> int:
        """The number of sums: one for each number, two for a complex one."""
        return math.prod(self.shape) * (2 if self.dtype.kind == "c" else 1)


@dataclass(frozen=True)
class Reduction:
    """One ``federated_sum`` or ``federated_mean`` over members of a type with known shapes.

    ``weight`` is the type of a mean's weights, None for a sum and for a mean that weighs each client with 1.
    """

    member: Type
    mean: bool
    weight: TensorType | None = None

    def tensors(self) -> list[tuple[TensorType, str]]:
        """Return the tensors of a member, and what errors call its terms."""
        times = "" if self.weight is None else " times its weight"
        return [(tensor, name + times) for tensor, name in _tensors(self.member, ())]


def _tensors(type_: Type, path: tuple[str, ...]) -> Iterator[tuple[TensorType, str]]:
    if isinstance(type_, StructType):
        for i, (name, part) in enumerate(type_.items()):
            yield from _tensors(part, (*path, name if name is not None else str(i)))
    else:
        assert isinstance(type_, TensorType)
        yield type_, ".".join(path) or "its value"


class Layout:
    """Where the sums of a stage's reductions stand: ``plain`` sums of a dtype, ``exact`` ones in planes."""

    def __init__(self, reductions: Sequence[Reduction], mode: str) -> None:
        self.reductions, self.mode = tuple(reductions), mode
        self.plain_dtype = np.dtype(np.float32 if mode == "fast" else np.float64)
        counts = {True: 0, False: 0}
        self.leaves: list[list[Leaf]] = []
        for reduction in reductions:
            own = []
            weights = [] if reduction.weight is None else [(reduction.weight, "its weight")]
            for i, (tensor, name) in enumerate([*(tensors := reduction.tensors()), *weights]):
                assert tensor.shape is not None
                is_weight = i == len(tensors)
                exact = mode == "exact" or tensor.dtype.kind in "iu" or is_weight
                shape = tuple(int(d or 0) for d in tensor.shape)
                leaf = Leaf(tensor.dtype, shape, name, is_weight, exact, counts[exact])
                counts[exact] += leaf.slots
                own.append(leaf)
            self.leaves.append(own)
        self.exact, self.plain = counts[True], counts[False]

    @property
    def terms(self) -> int:
        """The number of terms of a client."""
        return self.exact + self.plain

    def place_of(self, element: int) -> tuple[int, Leaf]:
        """Return the reduction and the leaf of a sum; ``element`` is that of `bins`: negative for a plain one."""
        exact, at = element >= 0, element if element >= 0 else -1 - element
        for i, leaves in enumerate(self.leaves):
            for leaf in leaves:
                if leaf.exact is exact and leaf.at <= at < leaf.at + leaf.slots:
                    return i, leaf
        raise IndexError(element)


@dataclass(frozen=True)
class NotFinite:
    """Terms that are infinite or NaN: how many, and of the first of them the client, the reduction, leaf and kind."""

    count: int
    client: int
    reduction: int
    leaf: str
    kind: str

    def __str__(self) -> str:
        more = f" ({self.count} such terms in all)" if self.count > 1 else ""
        return f"client {self.client} has {self.kind} in {self.leaf}{more}"
