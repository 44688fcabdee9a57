"""The plan as steps, and as text."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.tracing.computation import Computation, PolymorphicComputation
from fedmpi.language.tree.expressions import free
from fedmpi.language.types import FunctionType, contains
from fedmpi.local.columns.values import describe
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.jit.debugging import debugging
from fedmpi.runtime.context import MpiContext, machine
from fedmpi.runtime.mpi.stdout import fitting
from fedmpi.runtime.plan.decision import in_words
from fedmpi.runtime.plan.folding import BLOCKS
from fedmpi.runtime.plan.nodes import ACCUMULATE, Node, nbytes
from fedmpi.runtime.plan.plan import Plan, build, has_placements
from fedmpi.runtime.plan.reduction import Layout
from fedmpi.runtime.plan.stage import Options, Stage


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


@dataclass(frozen=True, eq=False, repr=False)
class PlanText:
    """What `fm.plan` found out: the plan, its stages as they run now, for a number of clients if there is one.

    Printed, it is ``text`` in characters that stdout has.
    """

    plan: Plan
    stages: tuple[Stage, ...]
    clients: int | None = None

    @property
    def text(self) -> str:
        """The plan, one line a step."""
        head = f"{self.plan.name} : {self.plan.computation.type_signature}"
        return "\n".join([head, *(f"  {step}" for step in steps(self))])

    def __str__(self) -> str:
        return fitting(self.text)

    __repr__ = __str__


def _in_bytes(size: int | None) -> str:
    return "bytes as the values have" if size is None else f"{size:,} B"


def steps(shown: PlanText) -> Iterator[Step]:
    """Yield what happens in a call, in order."""
    if not has_placements(shown.plan.computation):
        yield Step(Lane.ALONE, "nothing is sent: it runs where it is called, on every rank that calls it")
        return
    yield Step(Lane.DOWN, "header 96 B")
    for stage in shown.stages:
        for node in stage.server:
            if node.applies:
                yield Step(Lane.SERVER, _function(node))
        if stage.confirms:
            yield Step(Lane.DOWN, "word 16 B")
        if stage.broadcasts:
            yield Step(Lane.DOWN, f"Bcast {_in_bytes(stage.bytes_down)}")
        if stage.has_clients:
            yield Step(Lane.CLIENTS, _client_work(stage, shown.clients))
        if stage.arrives:
            yield Step(Lane.AGREE, "agreement 32 B")
        if stage.reductions:
            yield from _reduce(stage.layout)
        if stage.folds:
            size = _in_bytes(stage.bytes_of_states)
            yield Step(Lane.UP, f"Gather {size} for each of at most {BLOCKS} blocks")
        for node in stage.folds:
            yield Step(Lane.SERVER, f"merges in a tree, and report of {node}")
        for node in stage.collects:
            yield Step(Lane.UP, f"Gather {_in_bytes(nbytes([node.inputs[0].member]))} a client to rank 0: {node}")
    if gathered := shown.plan.gathered:
        each = nbytes([node.member for node in gathered])
        yield Step(Lane.UP, f"Gather {_in_bytes(each)} a client to rank 0")


def _client_work(stage: Stage, clients: int | None) -> str:
    how = in_words(stage.compiled, clients, may_be_sparse=stage.may_be_sparse)
    if stage.folds and how.startswith("one") and not stage.folds_anywhere:
        how += " (but client by client where the clients of a block are on several ranks)"
    applied = [_function(node) for node in (*stage.shared, *stage.steps) if node.applies]
    folded = [_function(node, ACCUMULATE) for node in stage.folds]
    return f"{how}: {'; '.join([*applied, *map(str, stage.reductions), *folded])}"


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


def plan(computation: Computation, *, clients: int | None = None) -> PlanText:
    """Return the communication plan of a computation; its text says what is sent, computed and reduced.

    With ``clients`` it says how so many clients of a call are run.
    """
    return planned("plan", computation, clients)


def planned(operation: str, computation: Any, clients: int | None = None) -> PlanText:
    """Return the plan of a computation for ``operation``, whose errors name it."""
    shown = shown_computation(operation, computation, clients)
    if contains(shown.type_signature.parameter, FunctionType):
        report = Report.here(
            f"computation must take no functions: its plan depends on them, found {shown.type_signature}",
            "give a computation that calls it with the functions that you mean",
            who=operation,
        )
        raise TypeError(str(report))
    if any(free(shown.expression)):
        text = f"computation must use no values of a computation around it, found {shown!r}"
        raise TypeError(str(Report.here(text, who=operation)))
    context = machine()
    if isinstance(context, MpiContext):
        plan, stages = context.planned(shown)
    else:
        plan = build(shown, (), Options(debug=debugging()))
        stages = plan.stages
    return PlanText(plan, stages, clients)


def shown_computation(operation: str, computation: Any, clients: Any = None) -> Computation:
    """Return a computation that is to be shown, for so many clients.

    Raises `TypeError` for what is none, or has no type, `ValueError` for what is no number of clients.
    """
    if clients is not None and (isinstance(clients, bool) or not isinstance(clients, int | np.integer) or clients < 0):
        raise ValueError(f"{operation}: clients must be a number of clients or None, found {clients!r}")
    if isinstance(computation, Computation):
        return computation
    hint = ""
    if isinstance(computation, PolymorphicComputation):
        hint = f"give the one for a type: {operation}({computation.name}.fn_for_argument_type(T))"
    text = f"computation must be a computation, found {describe(computation)}"
    raise TypeError(str(Report.here(text, hint, who=operation)))
