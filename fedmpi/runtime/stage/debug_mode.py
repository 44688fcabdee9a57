"""What debug mode adds to a call: types are checked again, and ranks compare what they must have in common."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import FunctionType, contains
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.comparing import as_numbers, difference
from fedmpi.local.columns.messages import to_bytes
from fedmpi.runtime.arguments.checks import label
from fedmpi.runtime.collective.alike import shown
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.stage.call import CallState


def check_neutral(merge: Callable[[Any], Any], zero: Any, states: Sequence[Any]) -> None:
    """Raise `ValueError` unless merging ``zero`` with the state of each block of clients changes nothing."""
    for block, state in enumerate(states):
        for what, pair in (("merge(zero, state)", (zero, state)), ("merge(state, zero)", (state, zero))):
            found = merge(pair)
            if difference(found, state, as_numbers):  # -0.0 + 0.0 is 0.0, which is no fault of a zero
                raise ValueError(
                    f"debug mode: zero must be neutral for merge: {what} is {shown(found)} for the state "
                    f"{shown(state)} of block {block}"
                )


def compare(call: CallState, level: int) -> None:
    """End the job if a rank has another program, or another value of what all have, than rank 0 (collective)."""
    if call.comm.size == 1:
        return
    named = [("the program", call.program.fingerprint + level), *_shared(call, level)]
    mine = np.array([word for _, word in named], dtype=np.int64)
    words = mine.copy()
    call.comm.bcast(words)
    for (what, _), own, servers in zip(named, mine.tolist(), words.tolist(), strict=True):
        if own != servers and UNKNOWN not in (own, servers):
            call.comm.abort(
                1,
                f"the ranks disagree: {what} is not on rank {call.comm.rank} what it is on rank 0\n"
                f"  in {call.comm.whereabouts()}, before stage {level} (debug mode compares them)"
                "\n  every rank must run the same calls in the same order with the same arguments",
            )


def _shared(call: CallState, level: int) -> Iterator[tuple[str, int]]:
    """Yield what all ranks have in common before a stage: what it is, and its hash."""
    for node in (*call.program.common, *call.plan.unplaced, *_same_at_clients(call, level)):
        if not contains(node.type, FunctionType):
            name = label(node.detail) if node.op == "input" else f"the result of {node.op} at {node.where}"
            found = call.attempt(functools.partial(_hash, call, node))
            yield name, UNKNOWN if found is None else found


def _hash(call: CallState, node: Node) -> int:
    return zlib.crc32(to_bytes(pack(node.member, [call.values[node]])).data)


def _same_at_clients(call: CallState, level: int) -> Iterator[Node]:
    """Yield what earlier stages gave that is the same at all clients."""
    for stage in call.plan.stages[:level]:
        yield from (*stage.broadcasts, *stage.shared)
