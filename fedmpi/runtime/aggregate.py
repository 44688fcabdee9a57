"""The end of a ``federated_aggregate``: the states of all blocks come to rank 0, are merged there, and reported."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmpi.language.types import StructType
from fedmpi.local.client_data import ClientData
from fedmpi.local.columns import pack
from fedmpi.local.functions import concrete
from fedmpi.local.messages import from_bytes, to_bytes
from fedmpi.local.selections import take
from fedmpi.runtime import debugging, failures
from fedmpi.runtime.arguments import ClientError
from fedmpi.runtime.client_data import moved
from fedmpi.runtime.folding import Fold, homes_of, merged
from fedmpi.runtime.plan import Node
from fedmpi.runtime.program import ACCUMULATE, MERGE, REPORT, VALUE, ZERO, folding_state

if TYPE_CHECKING:
    from fedmpi.runtime.clients import ClientWork
    from fedmpi.runtime.executor import Execution


def aggregate(call: Execution, work: ClientWork) -> None:
    """Give rank 0 what each fold of a stage comes to: one Gather for all of them (collective)."""
    folds = work.stage.folds
    states = work.states
    if not call.blocks_are_whole:
        states = {node: _fold_together(call, node) for node in folds}
        call.agree()
    type_ = StructType([folding_state(node) for node in folds])
    rows = list(zip(*(states[node] for node in folds), strict=True))
    parts = call.comm.gather_bytes(to_bytes(pack(type_, rows)))
    if parts is None:
        return
    of_rank = [iter(from_bytes(type_, part)) for part in parts]
    firsts = np.flatnonzero(np.diff(call.blocks, prepend=-1))
    blocks = [next(of_rank[rank]) for rank in call.owner[firsts]]
    for index, node in enumerate(folds):
        call.values[node] = call.attempt(functools.partial(_report, call, node, [states[index] for states in blocks]))


def _fold_together(call: Execution, node: Node) -> Sequence[Any]:
    """Bring the clients of each block to one rank and fold them there (collective); return the rank's states."""
    value, homes = node.inputs[VALUE], homes_of(call.owner, call.blocks)
    mine, resolve = np.flatnonzero(homes == call.comm.rank), call.values.__getitem__
    members: Any = [resolve(value)] * len(mine)
    if value.per_client:
        kept = ClientData(value.member, call.owner, call.comm.rank, resolve(value), call.positions.get(value))
        members = take(*moved(call.comm, kept, homes).as_type(value.member))
    fold = Fold(call.program.function(node, ACCUMULATE).bound(resolve), concrete(node.inputs[ZERO], resolve))

    def run() -> None:
        for client, member in zip(mine.tolist(), members, strict=True):
            try:
                fold.add(member, int(call.blocks[client]))
            except Exception as error:
                where = f"{call.name}: {node.op} at {node.where}: {failures.who(client, call.per_client_names)}"
                raise ClientError(client, failures.annotated(error, where, call.comm.rank)) from error

    call.attempt(run)
    return fold.states


def _report(call: Execution, node: Node, states: list[Any]) -> Any:
    """Merge the states of all blocks and report."""
    resolve = call.values.__getitem__
    merge, report = (call.program.function(node, which).bound(resolve) for which in (MERGE, REPORT))
    zero = concrete(node.inputs[ZERO], resolve)
    try:
        if call.program.debug:
            debugging.check_neutral(merge, zero, states)
        return call.program.checked(node, report(merged(states or [zero], merge)))
    except Exception as error:
        raise failures.annotated(error, f"{call.name}: {node.op} at the server, {node.where}") from error
