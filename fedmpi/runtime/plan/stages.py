"""From the nodes of a plan to its stages: what belongs to which trip, and how its clients are run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from fedmpi.language.operators.table import Lowering
from fedmpi.language.types import TensorType, Type
from fedmpi.language.types.placements import CLIENTS, SERVER
from fedmpi.language.types.walking import leaves_of
from fedmpi.local.computations.bodies import LocalBody, NotCompilable
from fedmpi.local.loops.codegen import compilable
from fedmpi.runtime.plan.decision import COMPILED_FROM, Decision, From, No, Yes
from fedmpi.runtime.plan.loop_text import LoopWriter
from fedmpi.runtime.plan.nodes import Node, has_open_dimensions, node_inputs
from fedmpi.runtime.plan.reduction import Layout, Reduction
from fedmpi.runtime.plan.stage import Options, Stage, columns_of


def stages_of(nodes: Sequence[Node], gathered: Collection[Node], options: Options) -> tuple[Stage, ...]:
    """Set each node's stage and return the stages; ``gathered`` are the clients' values that the result holds."""
    for node in nodes:
        node.stage = max((i.stage for i in node_inputs(node)), default=0)
        node.stage += node.goes_up  # its result is there in the next stage
    later = {i for n in nodes for i in node_inputs(n) if i.per_client and i.stage < n.stage - n.goes_up}
    later |= {i for n in nodes if n.lowering is Lowering.COLLECT for i in node_inputs(n) if i.per_client}
    kept = later | set(gathered)
    stages: list[Stage] = []
    for number in range(1 + max((n.stage for n in nodes), default=0)):
        drawn = _stage(number, nodes, kept, options, stages[-1] if stages else None)
        stages.append(
            dataclasses.replace(
                drawn, compiled=_decided(drawn, options), folds_anywhere=not drawn.folds or _keeps(drawn)
            )
        )
    return tuple(stages)


def _stage(number: int, nodes: Sequence[Node], kept: set[Node], options: Options, before: Stage | None) -> Stage:
    """Return a stage, of which it is not decided yet how its clients are run."""
    mine = [n for n in nodes if n.stage == number and not n.is_given and not n.goes_up]
    server = tuple(n for n in mine if n.placement is SERVER)
    broadcasts = tuple(n for n in mine if n.lowering is Lowering.BROADCAST)
    clients = [n for n in mine if n.placement is CLIENTS and n not in broadcasts]
    steps = tuple(n for n in clients if n.per_client)
    upward = [n for n in nodes if n.goes_up and n.stage == number + 1]
    reductions = tuple(n for n in upward if n.operator is not None and n.operator.reduces)
    fallible = any(n.applies for n in server) or (
        before is not None and any(_has_integers(n.member) for n in before.reductions)
    )
    waits = before is not None and (broadcasts or before.folds or before.collects)
    return Stage(
        number,
        server=server,
        sent=tuple(dict.fromkeys(n.inputs[0] for n in broadcasts)),
        broadcasts=broadcasts,
        shared=tuple(n for n in clients if not n.per_client),
        columns=columns_of(steps, upward),
        steps=steps,
        kept=tuple(n for n in steps if n in kept),
        reductions=reductions,
        folds=tuple(n for n in upward if n.lowering is Lowering.FOLD),
        collects=tuple(n for n in upward if n.lowering is Lowering.COLLECT),
        mode=options.mode,
        drops=options.errors.drop,
        layout=layout_of(reductions, options.mode),
        # In debug mode anything can be refused, anywhere.
        confirms=number > 0 and (fallible or options.debug or bool(waits)),
        arrives=number == 0 or options.debug or bool(clients or upward),
    )


def layout_of(reductions: Sequence[Node], mode: str) -> Layout | None:
    """Return how the sums of a stage are laid out; None while the types of its members leave sizes open."""
    if any(has_open_dimensions(node.inputs[0].member) for node in reductions):
        return None
    return Layout([reduction_of(node, node.inputs[0].member) for node in reductions], mode)


def reduction_of(node: Node, member: Type) -> Reduction:
    """Return the reduction of a node whose members have this type (open dimensions filled in)."""
    given = node.weight
    weight = None if given is None else given.member
    assert weight is None or isinstance(weight, TensorType)
    return Reduction(node.op, member, weight)


def _has_integers(type_: Type) -> bool:
    return any(isinstance(leaf, TensorType) and leaf.dtype.kind in "iu" for leaf in leaves_of(type_))


def _decided(stage: Stage, options: Options) -> Decision:
    """Return how the clients of a stage are run: the same on every rank, whichever clients it has."""
    if options.debug:
        return No("debug mode", asked=True)
    if options.fuse is False and not options.only:
        return No("the context has fuse=False", asked=True)
    try:
        has_loop = works_through_sequences(stage)
    except NotCompilable as reason:
        return No(str(reason), reason.asked)
    return Yes() if has_loop or options.fuse or options.only else From(COMPILED_FROM)


def _keeps(stage: Stage) -> bool:
    """Tell whether a loop can keep what a stage folds, for blocks whose clients are on several ranks."""
    try:
        works_through_sequences(stage, folds=False)
    except NotCompilable:
        return False
    return True


def works_through_sequences(stage: Stage, *, folds: bool = True) -> bool:
    """Tell whether a client's work in a stage holds a loop over a sequence; nothing is compiled, nothing loads Numba.

    Raises `NotCompilable`, with the reason, for a stage that cannot be one compiled loop.
    """
    if stage.layout is None:
        raise NotCompilable("what is summed has sizes that its type leaves open")
    for node in (*stage.shared, *stage.steps):
        if node.applies and isinstance(node.inputs[0], LocalBody):
            compilable(node.inputs[0])
    return LoopWriter(stage, tuple(() for _ in stage.columns), folds=folds, draft=True).generator.has_loop
