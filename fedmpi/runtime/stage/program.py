"""A plan made ready to run: its functions, loops and accumulators, made when first needed and kept for all calls."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fedmpi.language.errors import Report
from fedmpi.language.types import (
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    contains,
    is_federated,
)
from fedmpi.language.types.placements import SERVER
from fedmpi.language.types.walking import flat
from fedmpi.local.columns.messages import Parcel
from fedmpi.local.columns.values import check_normalised
from fedmpi.local.computations.bodies import NotCompilable
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.local.loops.functions import LocalFunction
from fedmpi.local.value_errors import ArgumentError
from fedmpi.runtime.arguments.checks import Part, parts_of
from fedmpi.runtime.mpi.log import aloud
from fedmpi.runtime.plan.decision import No
from fedmpi.runtime.plan.nodes import Node, function_type
from fedmpi.runtime.plan.plan import Plan
from fedmpi.runtime.plan.reduction import MODES, Layout
from fedmpi.runtime.plan.stage import Stage
from fedmpi.runtime.plan.stages import works_through_sequences

if TYPE_CHECKING:  # they load Numba
    from fedmpi.runtime.stage.accumulator import Accumulator
    from fedmpi.runtime.stage.loop import ClientLoop, Forms

# Parts of a stage.  Where a block's clients are on several ranks, what is folded is kept first, and folded once moved.
WHOLE, UNFOLDED, FOLDS = range(3)
KEPT_NUMBERS = 1 << 22  # a larger accumulator is given back after each call


class Program:
    """A plan with what its calls share.  ``stages`` are the plan's, as this process has found that they run."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.options = plan, plan.options
        self.debug = self.options.debug
        self.stages: list[Stage] = list(plan.stages)
        self.parcels = [Parcel([node.member for node in stage.sent]) for stage in plan.stages]
        # Ranks that take sums in different ways, or of which only some are in debug mode, must not meet.
        mode = 2 * MODES.index(self.options.mode) + self.options.raises_nonfinite
        errors = (self.options.errors.drop << 6) ^ (self.options.errors.minimum << 8)
        self.fingerprint = plan.fingerprint ^ mode ^ (self.debug << 4) ^ (self.options.only << 5) ^ errors
        self.said = False  # how the clients are run, where that is not as anybody would expect
        self.per_client = [node for node in plan.inputs if node.per_client]
        # The arguments that every rank reads.
        self.common = [n for n in plan.inputs if not n.per_client and n.placement is not SERVER]
        self.folds = any(stage.folds for stage in plan.stages)
        self.counts, self.wants = _needs(plan), wants_of(plan.stages)
        self.refusals: dict[int, str] = {}  # of loops, by their stages, that the other ranks have not heard of
        self._single, self._flat = _single(plan), _flat(plan)
        self._functions: dict[tuple[Node, int], LocalFunction] = {}
        self._sums: dict[int, Accumulator] = {}
        self._loops: dict[Any, ClientLoop | None] = {}

    def split(self, argument: Any, *, server: bool) -> Sequence[Part]:
        """Return the parts of a call's argument in the order of the plan's inputs, functions left out."""
        if self._single is not None:
            return [(*self._single, argument)]
        if self._flat is not None and type(argument) is tuple and len(argument) == len(self._flat):
            return [(path, type_, value) for (path, type_), value in zip(self._flat, argument, strict=True)]
        parts = parts_of(self.plan.computation, argument, server=server)
        return [part for part in parts if not isinstance(part[1], FunctionType)]

    def function(self, node: Node, position: int = 0) -> LocalFunction:
        """Return the function that an operator has at a position among its inputs."""
        if (node, position) not in self._functions:
            function = node.inputs[position]
            type_ = function_type(function)
            self._functions[node, position] = LocalFunction(function, type_.parameter, type_.result, self.plan.name)
        return self._functions[node, position]

    def checked(self, node: Node, value: Any) -> Any:
        """Return the value of a node; in debug mode raise `TypeError` if it does not have its type."""
        if self.debug:
            check(node, value)
        return value

    def refuse(self, number: int, reason: str) -> None:
        """Run the clients of a stage client by client from now on, for Numba refused their loop (all ranks say so)."""
        self.refusals.pop(number, None)
        self.stages[number] = dataclasses.replace(self.stages[number], compiled=No(reason))

    def loop(self, number: int, forms: Forms, part: int = WHOLE, *, speaks: bool = True) -> ClientLoop | None:
        """Return the compiled loop of a stage over columns stored in these forms; None where it cannot be compiled.

        Of its part `UNFOLDED` the loop keeps what is folded.  ``speaks``: whether this rank announces a long compile.
        """
        key = (number, forms, part)
        if key not in self._loops:
            made = None
            try:
                made = self._loop(self.stages[number], forms, part, speaks=speaks)
            except NotCompilable as reason:
                if self.options.only:
                    raise refusal(self.plan.name, self.stages[number], str(reason)) from None
                if part == WHOLE:  # for these forms of the columns alone
                    self.refusals[number] = str(reason)
            except Exception as error:
                # Each local computation has been compiled by itself: what Numba finds wrong with all of them together
                # must not end a run that goes on without.
                if self.options.fuse or self.options.only or is_of_handler(error):
                    raise
                first = str(error).strip().partition("\n")[0]
                if part != FOLDS:  # which comes after the agreement that tells of it
                    self.refusals[number] = f"Numba refuses the loop ({type(error).__name__}: {first})"
            self._loops[key] = made
        return self._loops[key]

    def _loop(self, stage: Stage, forms: Forms, part: int, *, speaks: bool) -> ClientLoop:
        from fedmpi.runtime.stage.loop import ClientLoop

        # Of sparse rows all parts are compiled or none: which of them are run is a matter of the ranks.
        if stage.folds and any("sparse" in each for each in forms):
            for folds in (True, False):
                works_through_sequences(stage, folds=folds)
        with aloud(speaks):
            stage = stage.folding if part == FOLDS else stage
            return ClientLoop(self.plan.name, stage, forms, folds=part != UNFOLDED)

    @functools.cached_property
    def no_sums(self) -> Accumulator:
        """An accumulator of nothing."""
        return self.new_sums(Layout([], self.options.mode))

    def sums(self, number: int) -> Accumulator | None:
        """Return the accumulator of a stage, empty; None while sizes are open.  Small ones are used again."""
        layout = self.stages[number].layout
        if layout is None:
            return None
        if number in self._sums:
            self._sums[number].reset()
            return self._sums[number]
        made = self.new_sums(layout)
        if layout.size <= KEPT_NUMBERS:
            self._sums[number] = made
        return made

    def planes_in_use(self, number: int) -> int:
        """Return how many planes of exact sums the last call of a stage has sent up; 0 where that is not kept."""
        kept = self._sums.get(number)
        return 0 if kept is None else kept.planes_in_use

    def new_sums(self, layout: Layout) -> Accumulator:
        """Return an empty accumulator."""
        from fedmpi.runtime.stage.accumulator import Accumulator

        return Accumulator(layout)


def refusal(name: str, stage: Stage, reason: str) -> RuntimeError:
    """Return the error of `compiled_only` for a stage."""
    what = " and ".join(map(str, (*(n for n in stage.steps if n.applies), *stage.reductions, *stage.folds)))
    text = f"fm.compiled_only: {what or 'a stage'} would be run client by client, for {reason}"
    return RuntimeError(str(Report.here(text, who=name)))


def check(node: Node, value: Any) -> None:
    """Raise `TypeError` unless a normalised value of a node is exactly what its type says."""
    try:
        check_normalised(value, node.member)
    except ArgumentError as error:
        # Never the user's mistake in words: the boundaries that the value passed before should have refused it.
        raise TypeError(f"debug mode: a value does not have the type {node.type}: {error}") from None


def _single(plan: Plan) -> tuple[tuple[str, ...], Type] | None:
    """Return path and type of the whole argument, where it is one input."""
    parameter = plan.computation.type_signature.parameter
    return (plan.inputs[0].detail, parameter) if isinstance(parameter, FederatedType) else None


def _flat(plan: Plan) -> tuple[tuple[tuple[str, ...], Type], ...] | None:
    """Return path and type of each of several arguments, where these are the inputs: nothing is to be taken apart."""
    parameter = plan.computation.type_signature.parameter
    if not isinstance(parameter, StructType) or not is_federated(parameter) or contains(parameter, FunctionType):
        return None
    if any(isinstance(part, StructType) and is_federated(part) for part in parameter):
        return None
    return tuple(zip((node.detail for node in plan.inputs), parameter, strict=True))


def _needs(plan: Plan) -> bool:
    """Return whether a plan needs to know how many clients there are."""
    return plan.indices is not None or any(n.per_client or n.goes_up for n in _at_clients(plan.stages))


def wants_of(stages: Sequence[Stage]) -> str:
    """Return what stages need at least one client for, in words; "" if nothing."""
    wants = (n for n in _at_clients(stages) if n.operator is not None and n.operator.wants)
    return next((f"{n.op}: there are no clients {n.operator.wants}" for n in wants if n.operator is not None), "")


def _at_clients(stages: Sequence[Stage]) -> Iterator[Node]:
    for stage in stages:
        for node in (*stage.shared, *stage.steps, *stage.upward, *stage.broadcasts):
            if node.op != "select":
                yield node


def leaf_shapes(type_: Type, value: Any) -> list[list[int]]:
    """Return the shapes of the tensors in a value."""
    return [list(getattr(leaf, "shape", ())) for leaf in flat(value, type_)]


def closed(type_: Type, shapes: Iterator[list[int]]) -> Type:
    """Return a type with the tensors' shapes filled in; where none is left, open dimensions are 0."""
    match type_:
        case TensorType(dtype, shape):
            return TensorType(dtype, next(shapes, [d or 0 for d in shape or ()]))
        case StructType():
            return StructType([(name, closed(t, shapes)) for name, t in type_.items()])
        case SequenceType():
            return type_
    return type_
