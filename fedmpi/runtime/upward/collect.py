"""``federated_collect``: the clients' values to rank 0, as one sequence in the order of the clients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType
from fedmpi.local.columns.column import Column, PackedSequence
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.columns.taking import joined, take
from fedmpi.runtime.collective.rounds import Words
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.runners.work import Work
from fedmpi.runtime.stage.call import CallState


def collect(call: CallState, work: Work, _: Words) -> None:
    """Give rank 0 what a stage collects: one Gather for each (collective)."""
    for node in work.stage.collects:
        column = call.column(node.inputs[0])
        if call.comm.size == 1:
            parts: list[Column] | None = [column]
        else:
            messages = call.comm.gather_bytes(to_bytes(column))
            parts = None if messages is None else [from_bytes(column.type, message) for message in messages]
        if parts is not None:
            made = call.attempt(functools.partial(_sequence, call, node, parts))
            call.values[node] = call.program.checked(node, made) if made is not None else None


def _sequence(call: CallState, node: Node, parts: list[Column]) -> Any:
    """Return the values of all ranks' clients, rank by rank, as the sequence of all clients."""
    assert isinstance(node.member, SequenceType)
    order = np.empty(len(call.owner), np.int64)
    order[np.argsort(call.owner, kind="stable")] = np.arange(len(call.owner))
    column = joined(node.inputs[0].member, parts)
    if len(parts) > 1:
        column = take(column, order)
    return PackedSequence(Column(node.member.element, column.count, column.arrays), 0, column.count)
