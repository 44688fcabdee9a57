"""A runner: client by client, from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.operators.table import Lowering
from fedmpi.local.columns.column import Column, pack
from fedmpi.local.loops.codegen import Parts
from fedmpi.local.loops.functions import concrete
from fedmpi.local.sums.weights import check_weight
from fedmpi.runtime.mpi import forked
from fedmpi.runtime.plan.folding import Fold
from fedmpi.runtime.plan.nodes import ACCUMULATE, VALUE, ZERO, Node
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import UNFOLDED
from fedmpi.runtime.stage.selection import Selection
from fedmpi.runtime.stage.work import Work


class Each:
    """Client by client: whatever has no compiled form, and a few clients for which compiling would take too long."""

    def run(self, work: Work) -> bool:
        """Run all clients."""
        call, stage = work.call, work.stage
        steps = [(node, _action(call, node)) for node in stage.steps if len(call.mine)]
        folds = [(node, _fold(call, node)) for node in work.folds]
        wanted = {*stage.kept, *(stage.folding.columns if work.part == UNFOLDED else ())}
        kept: dict[Node, list[Any]] = {n: [] for n in stage.steps if n in wanted}
        for position in range(len(call.mine)):
            values = _ClientValues(call, position)
            # Computed, which may fail …
            for node, action in steps:
                try:
                    values.local[node] = call.program.checked(node, action(values))
                except Exception as error:
                    raise work.failed(error, node, position) from error
                if forked.is_child():  # the function has forked it and let it return: the next client is not for it
                    forked.end(None)
            members = [(values.of(n.inputs[0]), values.of(n.weight)) for n in stage.reductions]
            self._check(work, members, position)
            following = []
            for node, fold in folds:
                try:
                    following.append(fold.next(values.of(node.inputs[VALUE]), int(call.blocks[call.mine[position]])))
                except Exception as error:
                    raise work.failed(error, node, position) from error
            # … and committed, which cannot.
            if work.sums is not None:
                work.sums.add(members, position)
            elif members:
                work.members.append(members)
            for (_, fold), state in zip(folds, following, strict=True):
                fold.take(state, int(call.blocks[call.mine[position]]))
            for node, parts in kept.items():
                parts.append(values[node])
        for node, parts in kept.items():
            call.values[node], call.positions[node] = pack(node.member, parts), np.arange(len(parts))
        work.states = {node: fold.states for node, fold in folds}
        return True

    def _check(self, work: Work, members: Any, position: int) -> None:
        """Refuse a client of which a weight is none, or a number that a secure sum does not take."""
        for node, (_, weight) in zip(work.stage.reductions, members, strict=True):
            if weight is not None:
                try:
                    check_weight(weight)
                except ValueError as error:
                    raise work.failed(error, node, position) from error
        if work.sums is not None and work.stage.secure:
            work.check(work.sums, members, position)


def _fold(call: CallState, node: Node) -> Fold:
    resolve = call.values.__getitem__
    return Fold(call.program.function(node, ACCUMULATE).bound(resolve), concrete(node.inputs[ZERO], resolve))


def _action(call: CallState, node: Node) -> Callable[[_ClientValues], Any]:
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


class _ClientValues:
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
