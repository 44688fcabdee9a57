"""What debug mode adds to a call: types are checked again, and ranks compare what they must have in common."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmpi.language.types import FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.local.columns import PackedSequence, is_text, pack
from fedmpi.local.messages import to_bytes
from fedmpi.local.values import ArgumentError, check_shape, describe
from fedmpi.runtime.arguments import label, pack_members
from fedmpi.runtime.header import UNKNOWN
from fedmpi.runtime.plan import Node, contains

if TYPE_CHECKING:
    from fedmpi.runtime.executor import Execution


def check(node: Node, value: Any) -> None:
    """Raise `TypeError` unless a normalised value of a node is exactly what its type says."""
    try:
        _check(value, node.member)
    except ArgumentError as error:
        # Never the user's mistake in words: the boundaries that the value passed before should have refused it.
        raise TypeError(f"debug mode: a value does not have the type {node.type}: {error}") from None


def _check(value: Any, type_: Type) -> None:
    match type_:
        case TensorType(dtype):
            text = is_text(type_)
            is_array = isinstance(value, np.ndarray | np.generic) and value.dtype == (object if text else dtype)
            if not is_array and not (text and isinstance(value, str)):
                raise ArgumentError(str(type_), describe(value))
            check_shape(np.shape(value), type_, value)
        case StructType():
            if not isinstance(value, tuple) or len(value) != len(type_):
                raise ArgumentError(f"{type_}, {len(type_)} elements", describe(value))
            for index, ((name, part_type), part) in enumerate(zip(type_.items(), value, strict=True)):
                try:
                    _check(part, part_type)
                except ArgumentError as error:
                    raise error.inside(name if name is not None else f"element {index}") from None
        case SequenceType(element):
            if not isinstance(value, PackedSequence):
                raise ArgumentError(str(type_), describe(value))
            for index, part in enumerate(value):
                try:
                    _check(part, element)
                except ArgumentError as error:
                    raise error.inside(f"element {index}") from None


def list_hash(values: Any, member: Type, path: tuple[str, ...]) -> int:
    """Return a hash of what all clients have in a list, of which a rank needs its own clients' members only."""
    return zlib.crc32(to_bytes(pack_members(values, member, list(range(len(values))), path)).data)


def compare(call: Execution, level: int) -> None:
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


def _shared(call: Execution, level: int) -> Iterator[tuple[str, int]]:
    """Yield what all ranks have in common before a stage: what it is, and its hash."""
    if level == 0:
        for node in call.plan.inputs:
            if node.per_client:
                yield f"the list {label(node.detail)}", call.lists.get(node, UNKNOWN)
    for node in (*call.program.common, *call.plan.unplaced, *_same_at_clients(call, level)):
        if not contains(node.type, FunctionType):
            name = label(node.detail) if node.op == "input" else f"the result of {node.op} at {node.where}"
            known = node in call.values
            yield name, zlib.crc32(to_bytes(pack(node.member, [call.values[node]])).data) if known else UNKNOWN


def _same_at_clients(call: Execution, level: int) -> Iterator[Node]:
    """Yield what earlier stages gave that is the same at all clients."""
    for stage in call.plan.stages[:level]:
        yield from stage.broadcasts
        yield from (node for node in stage.clients if not node.per_client)
