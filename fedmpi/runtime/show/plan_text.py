"""The plan as steps, and as text."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from fedmpi.language.types import StructType, TensorType, Type, type_contains
from fedmpi.local.columns.column import leaf_formats
from fedmpi.local.columns.storage import may_be_sparse
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.jit.debugging import debugging
from fedmpi.runtime.plan.decision import in_words
from fedmpi.runtime.plan.folding import BLOCKS
from fedmpi.runtime.plan.plan import Node, Plan, has_placements
from fedmpi.runtime.plan.reduction import Layout
from fedmpi.runtime.stage.program import ACCUMULATE, APPLYING, Program, folding_state, has_open_dimensions


def nbytes(type_: Type) -> int | None:
    """Return the bytes of one value, None where the type leaves sizes open."""
    if has_open_dimensions(type_):
        return None
    total = 0
    for dtype, inner in leaf_formats(type_):
        size = dtype.itemsize
        for dimension in inner:
            size *= dimension
        total += size
    return total


class Lane(enum.Enum):
    """Where a step of a plan happens, or which way it goes."""

    SERVER = "server: "
    CLIENTS = "clients, "
    DOWN = "↓"
    UP = "↑"
    AGREE = "↕"
    ALONE = "·"  # on every rank, without the others


@dataclass(frozen=True)
class Step:
    """One line of a plan: ``text`` without the word that says where it happens."""

    lane: Lane
    text: str

    def __str__(self) -> str:
        return (self.lane.value if self.lane in (Lane.SERVER, Lane.CLIENTS) else "") + self.text


def text(plan: Plan) -> str:
    """Return the plan, one line a step."""
    return "\n".join([f"{plan.name} : {plan.computation.type_signature}", *(f"  {step}" for step in steps(plan))])


def _bytes(nodes: list[Node]) -> str:
    return _bytes_of([node.member for node in nodes])


def _bytes_of(types: list[Type]) -> str:
    size = nbytes(StructType(types))
    return "bytes as the values have" if size is None else f"{size:,} B"


def steps(plan: Plan) -> Iterator[Step]:
    """Yield what happens in a call, in order."""
    if not has_placements(plan.computation):
        yield Step(Lane.ALONE, "nothing is sent: it runs where it is called, on every rank that calls it")
        return
    program = Program(plan, plan.mode, fuse=plan.fuse, debug=debugging())
    yield Step(Lane.DOWN, "header 96 B")
    for level, stage in enumerate(plan.stages):
        ready = program.levels[level]
        for node in stage.server:
            if node.op in APPLYING:
                yield Step(Lane.SERVER, _function(node))
        if ready.confirms:
            yield Step(Lane.DOWN, "word 16 B")
        if stage.broadcasts:
            yield Step(Lane.DOWN, f"Bcast {_bytes(ready.sent)}")
        maps = [_function(node) for node in stage.clients if node.op in APPLYING]
        folds = [_function(node, ACCUMULATE) for node in stage.folds]
        if ready.steps or stage.reductions or folds:
            sparse = any(type_contains(node.member, _may_be_sparse) for node in ready.columns)
            how = in_words(program.decision(level), plan.clients, may_be_sparse=sparse)
            if stage.folds and how.startswith("one") and not program.folds_anywhere(level):
                how += " (but client by client where the clients of a block are on several ranks)"
            sums = [f"{n.op} at {n.where}" for n in stage.reductions]
            yield Step(Lane.CLIENTS, f"{how}: {'; '.join([*maps, *sums, *folds])}")
        if ready.arrives:
            yield Step(Lane.AGREE, "agreement 32 B")
        if stage.reductions:
            yield from _reduce(program.layout(level))
        if folds:
            size = _bytes_of([folding_state(n) for n in stage.folds])
            yield Step(Lane.UP, f"Gather {size} for each of at most {BLOCKS} blocks")
        for node in stage.folds:
            yield Step(Lane.SERVER, f"merges in a tree, and report of {node.op} at {node.where}")
    if plan.gathered:
        yield Step(Lane.UP, f"Gather {_bytes(plan.gathered)} a client to rank 0")


def _may_be_sparse(type_: Type) -> bool:
    return isinstance(type_, TensorType) and may_be_sparse(type_)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _reduce(layout: Layout | None) -> Iterator[Step]:
    """Yield what goes up: how many sums, of which kind, of how many bytes."""
    if layout is None:
        yield Step(Lane.AGREE, "sizes: one gather to all, agreement 32 B")
        yield Step(Lane.UP, "Reduce: bytes as the values have")
        return
    parts = []
    if layout.plain:
        size = layout.plain * layout.plain_dtype.itemsize
        parts.append(f"{counted(layout.plain, 'sum')} in {layout.plain_dtype.name}, {size:,} B")
    if layout.exact:
        parts.append(f"{counted(layout.exact, 'exact sum')}, {8 * layout.exact:,} B for each plane of 40 bits in use")
    if layout.secure:
        parts.append(f"{counted(layout.secure, 'masked sum')}, {16 * layout.secure:,} B")
    if layout.ordered:
        parts.append(f"{counted(layout.ordered, 'least or greatest value')}, {8 * layout.ordered:,} B")
    yield Step(Lane.UP, f"Reduce {' and '.join(parts) if parts else 'nothing'}")


def _function(node: Node, position: int = 0) -> str:
    function = node.inputs[position]
    parameter = "" if isinstance(function, LocalBody) else str(function.function.parameter)
    name = parameter.partition("_arg")[0] or function.name
    return f"{node.op} of {name} at {node.where}"
