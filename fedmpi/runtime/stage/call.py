"""The state of one call on one rank: what its stages read and write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.local.columns.client_data import ClientData, Ranks
from fedmpi.local.columns.column import Column, pack
from fedmpi.local.columns.taking import take
from fedmpi.local.loops.functions import concrete
from fedmpi.runtime.arguments.checks import label
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.plan.dropping import Dropped
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.plan.stage import Stage
from fedmpi.runtime.reports import Clock
from fedmpi.runtime.stage.limits import limits_of
from fedmpi.runtime.stage.nonfinite import Found
from fedmpi.runtime.stage.program import Program

Rows = np.ndarray[Any, np.dtype[np.int64]]


NO_ROWS: Rows = np.empty(0, dtype=np.int64)
NO_RANKS: Ranks = np.empty(0, dtype=np.uint8)


class CallState(Round):
    """The state of one call on one rank."""

    def __init__(
        self, comm: Communicator, program: Program, hosts: list[int], num_clients: int | None, *, stays: bool = False
    ) -> None:
        super().__init__(comm, program.plan.name)
        self.program, self.plan, self.hosts = program, program.plan, hosts
        self.stays = stays  # results at the clients are not gathered
        self.num_clients = num_clients
        self.values: dict[Node, Any] = {}  # at the server on rank 0; unplaced and all-equal on all ranks; columns
        self.gathered: dict[Node, list[Any]] | None = None  # on rank 0: the result's values at the clients
        self.mine: Rows = NO_ROWS
        self.packed: list[ClientData] = []  # the arguments that are such; their rows may be those of results
        self.moves: list[tuple[Node, ClientData]] = []  # arguments whose clients live elsewhere than those of the first
        self.owner: Ranks = NO_RANKS
        self.cohort: Rows | None = None  # the indices of all clients, None where they are 0, 1, 2, …
        self.positions: dict[Node, np.ndarray[Any, Any]] = {}  # of this rank's clients in the column of an argument
        self.not_finite: Found = []  # on rank 0
        self.blocks: Rows = NO_ROWS  # of all clients, where the program folds them
        self.blocks_are_whole = True
        self.clock = Clock()
        self.bytes_broadcast, self.sent_before = 0, comm.sent
        self.uncompiled: list[tuple[int, str]] = []  # stages whose clients are run client by client, and why
        self.dropped: list[Dropped] = []  # clients that were left out, in the order of stages and clients

    @property
    def per_client_names(self) -> list[str]:
        """The names of the arguments at the clients."""
        return [label(node.detail) for node in self.program.per_client]

    def who(self, number: int, arguments: Sequence[str] = ()) -> str:
        """Return what a client is called in texts."""
        return failures.who(number, arguments, self.cohort)

    def limits(self, stage: Stage) -> list[int]:
        """Return the greatest numbers that a client may add to the secure sums of a stage, tensor by tensor."""
        limits: list[int] = []
        for node in stage.secure:
            given = concrete(node.inputs[1], self.values.__getitem__)
            try:
                limits += limits_of(node.op, given, node.inputs[0].member, self.num_clients or 0)
            except ValueError as error:
                raise failures.annotated(error, f"{self.name} at {node.where}") from error
        return limits

    def server_value(self, node: Node) -> Any:
        """Return what a node at the server is, or one at the clients that is the same for all."""
        resolve = self.values.__getitem__
        if node.op == "select":
            return resolve(node.inputs[0])[node.detail]
        if node.applies:
            argument = concrete(node.inputs[1], resolve) if len(node.inputs) > 1 else None
            try:
                return self.program.function(node).bound(resolve)(argument)
            except Exception as error:
                raise failures.annotated(error, f"{self.name}: {node.op} at the server, {node.where}") from error
        return concrete(node.inputs[0], resolve)  # zip, value: the parts stand side by side

    def column(self, node: Node) -> Column:
        """Return the values of this rank's clients, and of no others, in the order of the clients."""
        if not node.per_client:  # the same at all
            return pack(node.member, [self.values[node]] * len(self.mine))
        column: Column = self.values[node]
        return take(column, self.positions[node]) if node in self.positions else column
