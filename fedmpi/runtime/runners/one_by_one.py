"""Clients one by one, each in two parts: `compute`, which may fail, and `commit`, which cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.operators.table import Lowering
from fedmpi.local.columns.column import Column, pack
from fedmpi.local.computations.bodies import CLIENT
from fedmpi.local.loops.functions import concrete
from fedmpi.local.loops.writer import Parts
from fedmpi.local.sums.weights import check_weight
from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.mpi import forked
from fedmpi.runtime.plan.folding import Fold
from fedmpi.runtime.plan.nodes import ACCUMULATE, VALUE, ZERO, Node
from fedmpi.runtime.plan.reduction import Layout
from fedmpi.runtime.plan.stages import reduction_of
from fedmpi.runtime.runners.selection import Selection
from fedmpi.runtime.runners.work import Work
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import UNFOLDED, closed, leaf_shapes

Computed = tuple["ClientValues", list[tuple[Any, Any]], list[Any]]  # its values, what it sends up, its folds' states


class OneByOne:
    """The clients of a work: `compute` and `commit` each, in the order of their positions, then `end`.

    A client's fold goes on from the state that the client before it in its block has committed.
    """

    def __init__(self, work: Work) -> None:
        call, stage = work.call, work.stage
        self.work, self.call, self.stage = work, call, stage
        self.steps = [(node, _action(call, node)) for node in stage.steps if len(call.mine)]
        self.folds = [(node, _fold(call, node)) for node in work.folds]
        wanted = {*stage.kept, *(stage.folding.columns if work.part == UNFOLDED else ())}
        self.kept: dict[Node, list[Any]] = {node: [] for node in stage.steps if node in wanted}

    def compute(self, position: int) -> Computed:
        """Do all of a client's work that may fail, and change nothing; raise `Work.failed` of what does."""
        values, work = ClientValues(self.call, position), self.work
        work.progress[CLIENT] = position
        for node, act in self.steps:
            try:
                values.local[node] = self.call.program.checked(node, act(values))
            except Exception as error:
                raise work.failed(error, node, position) from error
            if forked.is_child():  # the function has forked it and let it return: the next client is not for it
                forked.end(None)
        members = [(values.of(node.inputs[0]), values.of(node.weight)) for node in self.stage.reductions]
        self._check(members, position)
        following = []
        for node, fold in self.folds:
            try:
                following.append(fold.next(values.of(node.inputs[VALUE]), self._block(position)))
            except Exception as error:
                raise work.failed(error, node, position) from error
        return values, members, following

    def commit(self, position: int, computed: Computed) -> None:
        """Let a client count."""
        values, members, following = computed
        if self.work.sums is not None:
            self.work.sums.add(members, position)
        elif members:
            self.work.members.append(members)
        for (_, fold), state in zip(self.folds, following, strict=True):
            fold.take(state, self._block(position))
        for node, parts in self.kept.items():
            parts.append(values[node])

    def end(self) -> None:
        """Hand over what the stage keeps, and the states of its folds; without any clients too."""
        for node, parts in self.kept.items():
            self.call.values[node], self.call.positions[node] = pack(node.member, parts), np.arange(len(parts))
        self.work.states = {node: fold.states for node, fold in self.folds}

    def _block(self, position: int) -> int:
        return int(self.call.blocks[self.call.mine[position]])

    def _check(self, members: list[tuple[Any, Any]], position: int) -> None:
        """Refuse a client of which a weight is none, or a number that a secure sum does not take."""
        for node, (_, weight) in zip(self.stage.reductions, members, strict=True):
            if weight is not None:
                try:
                    check_weight(weight)
                except ValueError as error:
                    raise self.work.failed(error, node, position) from error
        if self.stage.secure and (self.work.sums is not None or self.stage.drops):
            self.work.check(self.work.sums or self._sums_of(members), members, position)

    def _sums_of(self, members: list[tuple[Any, Any]]) -> Any:
        """Return sums in the sizes of one client's members, where the types leave them open."""
        shapes = (
            iter(leaf_shapes(n.inputs[0].member, m)) for n, (m, _) in zip(self.stage.reductions, members, strict=True)
        )
        types = [closed(n.inputs[0].member, own) for n, own in zip(self.stage.reductions, shapes, strict=True)]
        reductions = [reduction_of(n, type_) for n, type_ in zip(self.stage.reductions, types, strict=True)]
        sums = self.call.program.new_sums(Layout(reductions, self.stage.mode))
        sums.limits[:] = self.call.limits(self.stage)
        return sums


def explain(work: Work) -> None:
    """Find out why clients failed in compiled code: each is computed once more, by itself."""
    clients = OneByOne(work)
    for position in work.unexplained:
        work.dropped[position] = "it failed in compiled code, and not when it was run once more by itself"
        try:
            clients.compute(position)
        except ClientError as error:
            work.dropped[position] = error.reason


def _fold(call: CallState, node: Node) -> Fold:
    resolve = call.values.__getitem__
    return Fold(call.program.function(node, ACCUMULATE).bound(resolve), concrete(node.inputs[ZERO], resolve))


def _action(call: CallState, node: Node) -> Callable[[ClientValues], Any]:
    """Return what a step makes of a client's values."""
    resolve = call.values.__getitem__
    if node.op == "select":
        return lambda values: values[node.inputs[0]][node.detail]
    if not node.applies:
        return lambda values: values.of(node.inputs[0])  # a zip
    function = call.program.function(node).bound(resolve)
    if node.lowering is Lowering.SELECT:
        server_val, max_key = (resolve(sent) for sent in node.inputs[2:])
        selection = Selection(lambda key: function((server_val, key)), int(max_key), node.member)
        return lambda values: selection(values.of(node.inputs[1]))
    if len(node.inputs) == 1:
        return lambda values: function(None)
    return lambda values: function(values.of(node.inputs[1]))


class ClientValues:
    """The values of one client in a stage: its own, its part of columns, and what all clients have."""

    def __init__(self, call: CallState, position: int) -> None:
        self.call, self.position = call, position
        self.local: dict[Node, Any] = {}

    def __getitem__(self, node: Node) -> Any:
        if node in self.local:
            return self.local[node]
        value = self.call.values[node]
        return value[self.call.positions[node][self.position]] if isinstance(value, Column) else value

    def of(self, value: Any) -> Any:
        """Return the value of a node or of a struct of nodes."""
        if isinstance(value, Parts):
            return tuple(self.of(part) for part in value.parts)
        return None if value is None else self[value]
