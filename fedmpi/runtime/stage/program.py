"""A plan made ready to run: its functions, and what is known before any call."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedmpi.language.types import FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.language.types.placements import SERVER
from fedmpi.local.columns.messages import Parcel
from fedmpi.local.columns.values import check_normalised
from fedmpi.local.computations.bodies import LocalBody, NotCompilable
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.local.loops.functions import LocalFunction
from fedmpi.local.value_errors import ArgumentError
from fedmpi.runtime.mpi.log import aloud
from fedmpi.runtime.plan.decision import COMPILED_FROM, Decision, From, No, Yes, is_compiled
from fedmpi.runtime.plan.plan import SELECTIONS, UPWARD, Node, Plan, Stage, node_inputs, reduction_of
from fedmpi.runtime.plan.reduction import MODES, Layout

if TYPE_CHECKING:  # they load Numba
    from fedmpi.runtime.stage.accumulator import Accumulator
    from fedmpi.runtime.stage.loop import ClientLoop, Forms

APPLYING = ("federated_map", "federated_eval", *SELECTIONS)  # a function, which comes first among their inputs
VALUE, ZERO, ACCUMULATE, MERGE, REPORT = range(5)  # the inputs of a federated_aggregate
_OF_SOME = {  # what has no value without clients
    "federated_mean": "to take the mean over",
    "federated_min": "to take the least value of",
    "federated_max": "to take the greatest value of",
}
# Parts of a stage.  Where a block's clients are on several ranks, what is folded is kept first, and folded once moved.
WHOLE, UNFOLDED, FOLDS = range(3)
KEPT_TERMS = 1 << 22  # a larger accumulator is given back after each call


class Program:
    """A plan with its functions and loops compiled when first needed; kept for all calls of a computation.

    ``mode`` is how sums are taken, one of `reduction.MODES`; ``raises_nonfinite`` whether infinite and NaN terms are
    errors; ``fuse`` whether a rank's clients are run by one compiled loop (None: where it pays); ``debug`` whether it
    is run in debug mode.
    """

    def __init__(
        self,
        plan: Plan,
        mode: str = "exact",
        *,
        raises_nonfinite: bool = False,
        fuse: bool | None = None,
        debug: bool = False,
    ) -> None:
        self.plan, self.mode, self.raises_nonfinite, self.fuse = plan, mode, raises_nonfinite, fuse
        self.debug = debug
        # Ranks that take sums in different ways, or of which only some are in debug mode, must not meet.
        self.fingerprint = plan.fingerprint ^ (2 * MODES.index(mode) + raises_nonfinite) ^ (debug << 4)
        self._functions: dict[tuple[Node, int], LocalFunction] = {}
        self._layouts: dict[int, Layout | None] = {}
        self._sums: dict[int, Accumulator] = {}
        self._loops: dict[Any, ClientLoop | None] = {}
        self._decisions: dict[int, Decision] = {}
        self.refusals: dict[int, str] = {}  # of loops, by their stages, that the other ranks have not heard of

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
            try:
                check_normalised(value, node.member)
            except ArgumentError as error:
                # Never the user's mistake in words: the boundaries that the value passed before should have refused it.
                raise TypeError(f"debug mode: a value does not have the type {node.type}: {error}") from None
        return value

    def runs_compiled(self, level: int, clients: int, *, sparse: bool) -> bool:
        """Tell whether a stage's clients, so many on all ranks, are run by a compiled loop."""
        return is_compiled(self.decision(level), clients, sparse=sparse)

    def decision(self, level: int) -> Decision:
        """Return how the clients of a stage are run: the same on every rank, whichever clients it has."""
        if level not in self._decisions:
            self._decisions[level] = self._decided(level)
        return self._decisions[level]

    def _decided(self, level: int) -> Decision:
        from fedmpi.runtime.stage.loop import works_through_sequences

        if self.debug:
            return No("debug mode")
        if self.fuse is False:
            return No("the context has fuse=False")
        if level in self.plan.refused:
            return No(self.plan.refused[level])
        try:
            has_loop = works_through_sequences(self.plan, self.plan.stages[level], self.layout(level))
        except NotCompilable as reason:
            return No(str(reason))
        return Yes() if has_loop or self.fuse else From(COMPILED_FROM)

    def folds_anywhere(self, level: int) -> bool:
        """Tell whether a loop can keep what a stage folds, for blocks whose clients are on several ranks."""
        from fedmpi.runtime.stage.loop import works_through_sequences

        try:
            works_through_sequences(self.plan, self.plan.stages[level], self.layout(level), folds=False)
        except NotCompilable:
            return False
        return True

    def refuse(self, level: int, reason: str) -> None:
        """Run the clients of a stage client by client from now on, for Numba refused their loop (all ranks say so)."""
        self.refusals.pop(level, None)
        self.plan.refused[level] = reason
        self._decisions[level] = No(reason)

    def loop(self, level: int, forms: Forms, part: int = WHOLE, *, speaks: bool = True) -> ClientLoop | None:
        """Return the compiled loop of a stage over columns stored in these forms; None where it cannot be compiled.

        Of its part `UNFOLDED` the loop keeps what is folded.  ``speaks``: whether this rank announces a long compile.
        """
        from fedmpi.runtime.stage.loop import ClientLoop, works_through_sequences

        key = (level, forms, part)
        if key not in self._loops:
            stage, layout = self.plan.stages[level], self.layout(level)
            made = None
            try:
                # Of sparse rows all parts are compiled or none: which of them are run is a matter of the ranks.
                if stage.folds and any("sparse" in each for each in forms):
                    for folds in (True, False):
                        works_through_sequences(self.plan, stage, layout, folds=folds)
                if part == FOLDS:
                    stage, layout = self.folding(level).stage, self.no_sums.layout
                if layout is not None:
                    with aloud(speaks):
                        made = ClientLoop(self.plan, stage, layout, forms, folds=part != UNFOLDED)
                self._loops[key] = made
            except NotCompilable as reason:
                self._loops[key] = None
                if part == WHOLE:  # for these forms of the columns alone
                    self.refusals[level] = str(reason)
            except Exception as error:
                # Each local computation has been compiled by itself: what Numba finds wrong with all of them together
                # must not end a run that goes on without.
                if self.fuse or is_of_handler(error):
                    raise
                first = str(error).strip().partition("\n")[0]
                if part != FOLDS:  # which comes after the agreement that tells of it
                    self.refusals[level] = f"Numba refuses the loop ({type(error).__name__}: {first})"
                self._loops[key] = None
        return self._loops[key]

    def layout(self, level: int) -> Layout | None:
        """Return how the sums of a stage are laid out; None while the types of its members leave sizes open."""
        if level not in self._layouts:
            nodes = self.plan.stages[level].reductions
            known = not any(has_open_dimensions(node.inputs[0].member) for node in nodes)
            reductions = [reduction_of(node, node.inputs[0].member) for node in nodes] if known else []
            self._layouts[level] = Layout(reductions, self.mode) if known else None
        return self._layouts[level]

    @functools.cached_property
    def no_sums(self) -> Accumulator:
        """An accumulator of nothing."""
        return self.new_sums(Layout([], self.mode))

    def sums(self, level: int) -> Accumulator | None:
        """Return the accumulator of a stage, empty; None while sizes are open.  Small ones are used again."""
        layout = self.layout(level)
        if layout is None:
            return None
        if level in self._sums:
            self._sums[level].reset()
            return self._sums[level]
        made = self.new_sums(layout)
        if layout.terms <= KEPT_TERMS:
            self._sums[level] = made
        return made

    def new_sums(self, layout: Layout) -> Accumulator:
        """Return an empty accumulator."""
        from fedmpi.runtime.stage.accumulator import Accumulator

        return Accumulator(layout)

    @functools.cached_property
    def common(self) -> list[Node]:
        """The arguments that every rank reads."""
        return [n for n in self.plan.inputs if not n.per_client and n.placement is not SERVER]

    @functools.cached_property
    def folds(self) -> bool:
        """Whether the program folds clients by functions of the user's."""
        return any(stage.folds for stage in self.plan.stages)

    @functools.cached_property
    def levels(self) -> list[Level]:
        """What is known of each stage before any call."""
        return [self._level(i, stage) for i, stage in enumerate(self.plan.stages)]

    def _level(self, number: int, stage: Stage) -> Level:
        before = self.plan.stages[number - 1] if number else Stage()
        fallible = any(n.op in APPLYING for n in stage.server) or any(
            _has_integers(n.member) for n in before.reductions
        )
        sent = list(dict.fromkeys(n.inputs[0] for n in stage.broadcasts))
        return Level(
            stage=stage,
            columns=columns_of(stage),
            steps=steps_of(stage),
            sent=sent,
            parcel=Parcel([node.member for node in sent]),
            # In debug mode anything can be refused, anywhere.
            arrives=number == 0 or self.debug or bool(stage.clients or stage.reductions or stage.folds),
            confirms=number > 0 and (fallible or self.debug or bool(stage.broadcasts or before.folds)),
        )

    def folding(self, level: int) -> Level:
        """Return the folds of a stage as a stage of their own; see `folding_of`."""
        return self._level(0, folding_of(self.plan.stages[level]))

    @functools.cached_property
    def counts_clients(self) -> tuple[bool, str]:
        """Whether the program needs to know how many clients there are, and what it needs one for at least."""
        stages = self.plan.stages
        needs = [n for stage in stages for n in (*stage.clients, *stage.reductions, *stage.folds) if n.op != "select"]
        return (
            any(n.per_client or n.op in UPWARD for n in needs),
            next((f"{n.op}: there are no clients {_OF_SOME[n.op]}" for n in needs if n.op in _OF_SOME), ""),
        )


@dataclass
class Level:
    """A stage of a plan, made ready."""

    stage: Stage
    columns: list[Node]  # values at the clients that it takes from before it
    steps: list[Node]  # what it does for each client, in order
    sent: list[Node]  # the server values that go down, each once
    parcel: Parcel  # these as a message
    arrives: bool  # whether the ranks agree that nobody failed at the end of its client work
    confirms: (
        bool  # whether rank 0's work after a Reduce can fail or is sent on, so that a word of it goes to all ranks
    )


def columns_of(stage: Stage) -> list[Node]:
    """Return the values at the clients that a stage takes from before it: arguments, and what earlier stages kept."""
    made = set(stage.clients)
    used = [i for node in (*stage.clients, *stage.reductions, *stage.folds) for i in node_inputs(node)]
    return [node for node in dict.fromkeys(used) if node.per_client and node not in made]


def folding_of(stage: Stage) -> Stage:
    """Return a stage of a stage's folds, and of what only puts values beside each other or takes them apart for them.

    So its columns keep their forms.
    """
    needed = [node.inputs[VALUE] for node in stage.folds]
    parts: set[Node] = set()
    while needed:
        node = needed.pop()
        if node in stage.clients and node.per_client and node.op not in APPLYING:
            parts.add(node)
            needed += node_inputs(node)
    return Stage(clients=[node for node in stage.clients if node in parts], folds=stage.folds)


def steps_of(stage: Stage) -> list[Node]:
    """Return what a stage does for each client, in order."""
    return [node for node in stage.clients if node.per_client]


def function_type(function: Any) -> FunctionType:
    """Return the type of a symbolic function."""
    type_ = function.type if isinstance(function, LocalBody) else function.function.type
    assert isinstance(type_, FunctionType)
    return type_


def folding_state(node: Node) -> Type:
    """Return the type of the state of a ``federated_aggregate``: that which its function takes."""
    parameter = function_type(node.inputs[ACCUMULATE]).parameter
    assert isinstance(parameter, StructType)
    return parameter[0]


def has_open_dimensions(type_: Type) -> bool:
    """Tell whether a type leaves dimensions open."""
    match type_:
        case TensorType(_, shape):
            return shape is None or None in shape
        case StructType():
            return any(map(has_open_dimensions, type_))
        case SequenceType():
            return True
    return False


def _has_integers(type_: Type) -> bool:
    match type_:
        case TensorType(dtype, _):
            return dtype.kind in "iu"
        case StructType():
            return any(map(_has_integers, type_))
    return False


def leaf_shapes(type_: Type, value: Any) -> list[list[int]]:
    """Return the shapes of the tensors in a value."""
    if isinstance(type_, StructType):
        return [shape for part, v in zip(type_, value, strict=True) for shape in leaf_shapes(part, v)]
    return [list(getattr(value, "shape", ()))]


def closed(type_: Type, shapes: Iterator[list[int]]) -> Type:
    """Return a type with the tensors' shapes filled in; where none is left, open dimensions are 0."""
    match type_:
        case TensorType(dtype, shape):
            return TensorType(dtype, next(shapes, [d or 0 for d in shape or ()]))
        case StructType():
            return StructType([(name, closed(t, shapes)) for name, t in type_.items()])
    return type_
