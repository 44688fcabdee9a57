"""Sums, means, least and greatest values over clients that depend neither on their order nor on who hosts them.

The reductions of a stage share one `Layout` and on each rank one `Accumulator`.  Each client adds its terms: a
floating-point element x gives w·x, rounded to float64 (exact for float32 x and integer w below 2^29), a complex one two
such terms, an integer itself, a weighted mean its weight too.

``exact``, the default: all additions are exact (see `fedmpi.local.sums.bins`), so a plain ``MPI_Reduce(SUM)`` of
float64 carries them and no order can change a bit; a sum is rounded once, to its type, and a mean is the sum, rounded
to float64, over the sum of the weights.  ``float64`` and ``fast`` (float32) add floating-point terms as they come:
cheaper on the wire, and with other last bits on other numbers of ranks.  Integers and weights are exact in all three.

The least and the greatest values are those of ordered keys (`fedmpi.local.sums.extremes`), secure sums those of masked
integers (`fedmpi.local.sums.masks`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import TensorType, Type
from fedmpi.language.types.walking import dotted, leaves_with_paths
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.sums.terms import PLANES

Array = np.ndarray[Any, Any]
MODES = ("exact", "float64", "fast")


STORES = ("exact", "plain", "ordered", "secure")


@dataclass(frozen=True)
class LeafPlace:
    """One tensor of a reduction's members: ``slots`` numbers of an accumulator from ``at`` on, in one of `STORES`.

    ``limit`` is the place of a secure sum's limit among those of its stage.  Of a flat struct one such place stands for
    all tensors of a dtype, a vector, too.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    name: str
    is_weight: bool
    store: str
    at: int
    limit: int = -1

    @functools.cached_property
    def exact(self) -> bool:
        return self.store == "exact"

    @functools.cached_property
    def is_integer(self) -> bool:
        return self.dtype.kind in "iu"

    @functools.cached_property
    def slots(self) -> int:
        """The number of sums: one for each number, two for a complex one."""
        return math.prod(self.shape) * (2 if self.dtype.kind == "c" else 1)


@dataclass(frozen=True)
class Reduction:
    """One operator, such as ``federated_sum``, that makes one number of the clients' each; members have known shapes.

    ``weight`` is the type of a mean's weights, None where each client counts once.
    """

    op: str
    member: Type
    weight: TensorType | None = None

    @functools.cached_property
    def mean(self) -> bool:
        return self.op == "federated_mean"

    @functools.cached_property
    def least(self) -> bool:
        return self.op == "federated_min"

    @functools.cached_property
    def secure(self) -> bool:
        return self.op.startswith("federated_secure")

    @functools.cached_property
    def modular(self) -> bool:
        return self.op == "federated_secure_modular_sum"

    def store(self, tensor: TensorType, mode: str) -> str:
        """Return where the numbers of a tensor are kept."""
        if self.op in ("federated_min", "federated_max"):
            return "ordered"
        if self.secure:
            return "secure"
        return "exact" if mode == "exact" or tensor.dtype.kind in "iu" else "plain"

    def tensors(self) -> list[tuple[TensorType, str]]:
        """Return the tensors of a member, and what errors call its terms."""
        times = "" if self.weight is None else " times its weight"
        return [(tensor, name + times) for tensor, name in _tensors(self.member)]


def _tensors(type_: Type) -> Iterator[tuple[TensorType, str]]:
    for path, leaf in leaves_with_paths(type_):
        assert isinstance(leaf, TensorType)
        yield leaf, dotted(path) or "its value"


class Layout:
    """Where the numbers of a stage's reductions stand: ``plain`` sums of a dtype, ``exact`` ones in planes, ``ordered``
    keys, ``secure`` sums; ``limits`` is how many limits of the clients' integers there are.
    """

    def __init__(self, reductions: Sequence[Reduction], mode: str) -> None:
        self.reductions, self.mode = tuple(reductions), mode
        self.plain_dtype = np.dtype(np.float32 if mode == "fast" else np.float64)
        counts = dict.fromkeys(STORES, 0)
        self.limits = 0
        # Of each reduction: the places of its tensors, and of what is added at once, in the order of `slots_of`.
        self.leaves: list[list[LeafPlace]] = []
        self.blocks: list[list[LeafPlace]] = []
        for reduction in reductions:
            leaves, blocks = self._placed(reduction, counts)
            if reduction.weight is not None:
                weight = LeafPlace(reduction.weight.dtype, (), "its weight", True, "exact", counts["exact"])
                counts["exact"] += 1
                leaves, blocks = [*leaves, weight], [*blocks, weight]
            self.leaves.append(leaves)
            self.blocks.append(blocks)
        self.exact, self.plain, self.ordered, self.secure = (counts[store] for store in STORES)

    def _placed(self, reduction: Reduction, counts: dict[str, int]) -> tuple[list[LeafPlace], list[LeafPlace]]:
        """Place a reduction's numbers behind those that there are."""
        flat = flat_layout(reduction.member)
        if flat is None or reduction.secure:
            leaves = [self._leaf(tensor, name, reduction, counts) for tensor, name in reduction.tensors()]
            return leaves, leaves
        blocks = [self._leaf(TensorType(*each), "", reduction, counts) for each in flat.formats]
        leaves = []
        for (tensor, name), place in zip(reduction.tensors(), flat.leaves, strict=True):
            block = blocks[place.group]
            at = block.at + place.start * (2 if tensor.dtype.kind == "c" else 1)
            leaves.append(LeafPlace(tensor.dtype, place.shape, name, False, block.store, at))
        return leaves, blocks

    def _leaf(self, tensor: TensorType, name: str, reduction: Reduction, counts: dict[str, int]) -> LeafPlace:
        store = reduction.store(tensor, self.mode)
        shape = tuple(int(d or 0) for d in tensor.shape or ())
        limit = self.limits if store == "secure" else -1
        leaf = LeafPlace(tensor.dtype, shape, name, False, store, counts[store], limit)
        counts[store] += leaf.slots
        self.limits += store == "secure"
        return leaf

    @property
    def size(self) -> int:
        """How many numbers a client adds."""
        return self.exact + self.plain + self.ordered + self.secure

    @property
    def nbytes(self) -> int:
        """The most bytes that a rank sends: of exact sums all planes."""
        plain = self.plain * self.plain_dtype.itemsize
        return plain + 8 * PLANES * self.exact + 8 * self.ordered + 16 * self.secure

    def place_of(self, element: int) -> tuple[int, LeafPlace]:
        """Return the reduction and the leaf of a sum; ``element`` is that of `bins`: negative for a plain one."""
        store, at = ("exact", element) if element >= 0 else ("plain", -1 - element)
        for i, leaves in enumerate(self.leaves):
            for leaf in leaves:
                if leaf.store == store and leaf.at <= at < leaf.at + leaf.slots:
                    return i, leaf
        raise IndexError(element)
