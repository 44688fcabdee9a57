"""The end of a ``federated_aggregate``: the states of all blocks come to rank 0, are merged there, and reported."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

from fedmpi.language.types import StructType
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.loops.functions import concrete
from fedmpi.runtime.arguments.placing import moved
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.rounds import Words
from fedmpi.runtime.plan.folding import homes_of, merged
from fedmpi.runtime.plan.nodes import MERGE, REPORT, ZERO, Node, folding_state
from fedmpi.runtime.runners.clients import run_clients
from fedmpi.runtime.runners.work import Work
from fedmpi.runtime.stage import debug_mode as debugging
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import FOLDS


def aggregate(call: CallState, work: Work, _: Words) -> None:
    """Give rank 0 what each fold of a stage comes to: one Gather for all of them (collective)."""
    folds = work.stage.folds
    if not folds:
        return
    states = work.states if call.blocks_are_whole else _fold_together(call, work.number)
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


def _fold_together(call: CallState, number: int) -> dict[Node, Any]:
    """Bring the clients of each block to one rank and fold them there (collective); return the rank's states."""
    there, comm = copy.copy(call), call.comm
    there.owner, there.blocks_are_whole = homes_of(call.owner, call.blocks), True
    there.mine = np.flatnonzero(there.owner == comm.rank)
    there.values, there.positions = dict(call.values), dict(call.positions)
    for node in call.program.stages[number].folding.columns:
        kept = ClientData(node.member, call.owner, comm.rank, call.values[node], call.positions.get(node))
        there.values[node], there.positions[node] = moved(comm, kept, there.owner).as_type(node.member)
    work = call.attempt(functools.partial(run_clients, there, number, FOLDS))
    call.agree()
    call.clock.to("reduce")
    return work.states  # type: ignore[no-any-return]


def _report(call: CallState, node: Node, states: list[Any]) -> Any:
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
