"""The clients' part of a stage on one rank: one compiled loop where that can be, else client by client."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.local.attributes import attributes_of
from fedmpi.local.columns.column import Column, pack
from fedmpi.local.computations.bodies import CLIENT, PROGRESS, STEP, note_progress
from fedmpi.local.loops.codegen import Parts
from fedmpi.local.loops.functions import concrete
from fedmpi.local.sums.weights import check_weight
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.mpi import forked
from fedmpi.runtime.plan.folding import Fold, numbered
from fedmpi.runtime.plan.plan import Node, weight_of
from fedmpi.runtime.stage.call import Call
from fedmpi.runtime.stage.program import ACCUMULATE, APPLYING, FOLDS, UNFOLDED, VALUE, WHOLE, ZERO
from fedmpi.runtime.stage.selection import Selection


class ClientWork:
    """What this rank's clients do in stage ``level`` of a call.

    Afterwards ``sums`` holds the sums of what they send up; or, while the type leaves sizes open, ``members`` holds
    what the sums are of, client by client.  ``states`` holds for each fold of the stage the states of the rank's
    blocks, ascending; where the clients of a block are on several ranks it holds nothing, and what is folded is kept.
    ``part`` is that of the stage, `FOLDS` or found here.
    """

    def __init__(self, call: Call, level: int, part: int = WHOLE) -> None:
        self.call, self.level = call, level
        self.part = part if call.blocks_are_whole else UNFOLDED
        self.ready = call.program.folding(level) if part == FOLDS else call.program.levels[level]
        self.stage = self.ready.stage
        self.sums = call.program.sums(level) if self.stage.reductions else None
        self.members: list[Any] = []
        self.folds = [] if self.part == UNFOLDED else self.stage.folds
        self.states: dict[Node, Any] = {}

    def run(self) -> None:
        """Run all clients; a client that fails raises `ClientError`."""
        call, stage = self.call, self.stage
        for node in stage.clients:
            if not node.per_client:
                value = call.server_value(node)  # the same for all clients: computed once
                call.values[node] = call.program.checked(node, value)
        if self.sums is not None:
            self.sums.limits[:] = call.limits(stage)
        if not self._run_loop():
            self._run_each()
        if self.sums is not None:
            self._check_finite(self.sums)

    def add_members(self, sums: Any) -> None:
        """Add the members to sums whose sizes are known now."""
        sums.limits[:] = self.call.limits(self.stage)
        for position, members in enumerate(self.members):
            self._add(sums, members, position)
        self._check_finite(sums)

    def _add(self, sums: Any, members: Any, position: int) -> None:
        try:
            sums.add(members, position)
        except Exception as error:  # a number that a secure sum does not take
            node = self.stage.reductions[attributes_of(error).pop("fedmpi_reduction", 0)]
            raise self._failed(error, node, position) from error

    def _check_finite(self, sums: Any) -> None:
        """With ``nonfinite="raise"``: refuse terms that are infinite or NaN."""
        if not self.call.program.raises_nonfinite or not sums.specials:
            return
        found = sums.not_finite(sums.notes)
        node = self.stage.reductions[found.reduction]
        found = dataclasses.replace(found, client=int(self.call.mine[found.client]))
        error = ValueError(f"{self.call.name}: {node.op} at {node.where}: {found.first(self.call.cohort)}")
        raise ClientError(found.client, error)

    # --- compiled ---

    def _run_loop(self) -> bool:
        """Run the stage's compiled loop; return whether there is one."""
        call, stage = self.call, self.stage
        if stage.reductions and self.sums is None:
            return False
        if not len(call.mine) or not (stage.reductions or stage.folds or self.ready.steps):
            return not len(call.mine) and not call.plan.kept and not stage.folds
        columns = self.ready.columns
        forms = tuple(call.values[node].forms for node in columns)
        sparse = any("sparse" in each for each in forms)
        if not call.program.runs_compiled(self.level, call.num_clients or 0, sparse=sparse):
            return False
        loop = call.program.loop(self.level, forms, self.part, speaks=call.comm.rank == call.hosts[0])
        if loop is None:
            return False
        progress = np.full(PROGRESS, -1, dtype=np.int64)
        state = self.sums.state if self.sums is not None else call.program.no_sums.state
        blocks = numbered(call.blocks[call.mine]) if stage.folds else np.zeros(len(call.mine), np.int64)
        data = [(call.values[node], call.positions[node]) for node in columns]
        try:
            wide, kept, states = loop.run(progress, state, blocks, data, call.values.__getitem__)
        except Exception as error:
            if progress[CLIENT] < 0:
                raise  # before the first client
            note_progress(error, progress, loop.kernels)
            nodes = (*self.ready.steps, *stage.reductions, *stage.folds)
            raise self._failed(error, nodes[progress[STEP]], int(progress[CLIENT])) from error
        if self.sums is not None:
            self.sums.grown(wide)
        for node, column in zip(loop.kept, kept, strict=True):
            call.values[node], call.positions[node] = column, np.arange(column.count)
        self.states.update(zip(self.folds, states, strict=True))
        return True

    # --- client by client ---

    def _run_each(self) -> None:
        call, stage = self.call, self.stage
        steps = [(node, self._action(node)) for node in self.ready.steps if len(call.mine)]
        folds = [(node, self._fold(node)) for node in self.folds]
        wanted = {*call.plan.kept, *(call.program.folding(self.level).columns if self.part == UNFOLDED else ())}
        kept: dict[Node, list[Any]] = {n: [] for n in self.ready.steps if n in wanted}
        for position in range(len(call.mine)):
            values = _ClientValues(call, position)
            for node, action in steps:
                try:
                    values.local[node] = call.program.checked(node, action(values))
                except Exception as error:
                    raise self._failed(error, node, position) from error
                if forked.is_child():  # the function has forked it and let it return: the next client is not for it
                    forked.end(None)
            if stage.reductions:
                members = [(values.of(n.inputs[0]), values.of(weight_of(n))) for n in stage.reductions]
                self._check_weights(members, position)
                if self.sums is not None:
                    self._add(self.sums, members, position)
                else:
                    self.members.append(members)
            for node, fold in folds:
                try:
                    fold.add(values.of(node.inputs[VALUE]), int(call.blocks[call.mine[position]]))
                except Exception as error:
                    raise self._failed(error, node, position) from error
            for node, parts in kept.items():
                parts.append(values[node])
        for node, parts in kept.items():
            call.values[node], call.positions[node] = pack(node.member, parts), np.arange(len(parts))
        self.states = {node: fold.states for node, fold in folds}

    def _check_weights(self, members: Any, position: int) -> None:
        """Refuse a client of which a weight is none, before anything of it is added."""
        for node, (_, weight) in zip(self.stage.reductions, members, strict=True):
            if weight is not None:
                try:
                    check_weight(weight)
                except ValueError as error:
                    raise self._failed(error, node, position) from error

    def _fold(self, node: Node) -> Fold:
        resolve = self.call.values.__getitem__
        accumulate = self.call.program.function(node, ACCUMULATE).bound(resolve)
        return Fold(accumulate, concrete(node.inputs[ZERO], resolve))

    def _action(self, node: Node) -> Callable[[_ClientValues], Any]:
        """Return what a step makes of a client's values."""
        resolve = self.call.values.__getitem__
        if node.op == "select":
            return lambda values: values[node.inputs[0]][node.detail]
        if node.op not in APPLYING:
            return lambda values: values.of(node.inputs[0])  # a zip
        function = self.call.program.function(node).bound(resolve)
        if node.op == "federated_eval":
            return lambda values: function(None)
        if node.op == "federated_map":
            return lambda values: function(values.of(node.inputs[1]))
        server_val, max_key = (resolve(sent) for sent in node.inputs[2:])
        selection = Selection(lambda key: function((server_val, key)), int(max_key), node.member)
        return lambda values: selection(values.of(node.inputs[1]))

    def _failed(self, error: Exception, node: Node, position: int) -> ClientError:
        """Return the error of a client, which says where it arose."""
        call, client = self.call, int(self.call.mine[position])
        where = f"{call.name}: {node.op} at {node.where}: {call.who(client, call.per_client_names)}"
        return ClientError(client, failures.annotated(error, where, call.comm.rank))


class _ClientValues:
    """The values of one client in a stage: its own, its part of columns, and what all clients have."""

    def __init__(self, call: Call, position: int) -> None:
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
