"""Sums, means, least and greatest values of a stage: from all ranks to rank 0."""

from __future__ import annotations

import functools
import json
from typing import Any

import numpy as np

from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.rounds import Words
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.plan.reduction import Layout, Reduction
from fedmpi.runtime.plan.stages import reduction_of
from fedmpi.runtime.runners.work import Work
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import closed, leaf_shapes


def reduce(call: CallState, work: Work, words: Words) -> None:
    """Reduce all sums and means of a stage in one message; what is wide or not finite, if anything, in another."""
    stage, sums = work.stage, work.sums
    if not stage.reductions:
        return
    if sums is None:
        reductions = [_settle(call, i, node, work.members) for i, node in enumerate(stage.reductions)]
        sums = call.program.new_sums(Layout(reductions, stage.mode))
        call.attempt(functools.partial(work.add_members, sums))
        words = call.agree(sums.words(call.num_clients or 0))
    if sums.layout.secure:
        from fedmpi.runtime.stage.secure import hide

        hide(call.comm, sums, call.owner, call.hosts)
    sums.reduce(call.comm, words)
    if words[2]:
        parts = call.comm.gather_bytes(sums.wide(work.numbers if work.sums is not None else call.mine))
        found = None if parts is None else sums.merge(parts)
        if found is not None:
            node = stage.reductions[found.reduction]
            call.not_finite.append((found, f"{node.op} at {node.where}"))
    if call.comm.is_server:
        for index, node in enumerate(stage.reductions):
            call.values[node] = call.attempt(functools.partial(_finish, call, node, sums, index))


def _finish(call: CallState, node: Node, sums: Any, index: int) -> Any:
    try:
        return call.program.checked(node, sums.result(index, call.num_clients or 0))
    except Exception as error:
        raise failures.annotated(error, f"{call.name}: {node.op} at {node.where}") from error


def _settle(call: CallState, position: int, node: Node, members: list[Any]) -> Reduction:
    """Agree on the sizes that the type of a reduction's members leaves open.

    Clients of weight 0 have no say, unless there are no others.
    """
    member = node.inputs[0].member
    mine: dict[str, tuple[bool, int]] = {}  # for each size whether all have weight 0, and the first client
    for client, values in zip(call.mine.tolist(), members, strict=True):
        value, weight = values[position]
        shapes, who = json.dumps(leaf_shapes(member, value)), (weight is not None and not weight, client)
        mine[shapes] = min(mine.get(shapes, who), who)
    data = np.frombuffer(json.dumps(mine).encode(), dtype=np.uint8)
    parts = [json.loads(part.tobytes()) for part in call.comm.allgather_bytes(data)]
    everybody = sorted((*who, shapes) for part in parts for shapes, who in part.items())
    found = [(client, shapes) for weightless, client, shapes in everybody if weightless == everybody[0][0]]
    for client, shapes in found:
        if shapes != found[0][1]:
            call.agreed = True  # every rank sees the same sizes
            raise ValueError(
                f"{call.name}: {node.op} at {node.where}: the clients' values differ in size: "
                f"{call.who(found[0][0])} has the shapes {found[0][1]}, {call.who(client)} has {shapes}"
            )
    return reduction_of(node, closed(member, iter(json.loads(found[0][1]) if found else [])))
