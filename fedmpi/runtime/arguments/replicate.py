"""`fm.replicate`: a value of rank 0 on every rank, rank 0 too, as it travels (see `fedmpi.runtime.collective.plain`).

Classes that no module has (a named tuple that a function makes) are known where the other ranks hold the placeholders
of a result, or a container of such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedmpi.language.errors import Report
from fedmpi.language.types import StructType
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.walking import preorder_types
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.collective import plain
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.mpi.comm import Communicator


def replicate(comm: Communicator, value: Any) -> Any:
    """Return rank 0's value on every rank (collective)."""
    with Round(comm, "replicate") as step:
        data: Any = step.attempt(lambda: packed(value)) if comm.is_server else None
        step.check_in("replicate", UNKNOWN)
        if comm.size > 1:
            data = comm.bcast_bytes(data, root=0)
        made = step.attempt(lambda: unpacked(data, value))
        step.agree()  # a rank may not have a class
    return made


def packed(value: Any) -> plain.Bytes:
    """Return a value as bytes; raise `TypeError` for one that does not travel."""
    try:
        return plain.to_bytes(value, _classes(value))
    except plain.NotPlain as refused:
        raise _refusal(refused) from None


def unpacked(data: plain.Bytes, like: Any) -> Any:
    """Return what was packed; ``like``, the argument of this rank, may know classes."""
    try:
        return plain.from_bytes(data, _classes(like))
    except plain.NotPlain as refused:
        raise _refusal(refused) from None


def _refusal(refused: plain.NotPlain) -> TypeError:
    where = f" in value{refused.path}" if refused.path else ""
    text = f"value must be made of {plain.KINDS}, found {refused.found}{where}"
    return TypeError(str(Report.here(text, refused.hint, who="replicate")))


def _classes(like: Any) -> dict[tuple[str, str], type]:
    """Return the classes of the user's containers in a value, by module and qualified name."""
    try:
        return {(kind.__module__, kind.__qualname__): kind for kind in _containers(like, set())}
    except Exception:  # what stands there on other ranks than 0 may be anything
        return {}


def _containers(like: Any, seen: set[int]) -> Iterator[type]:
    """Give the containers of the user's in a value: their classes, and those that a placeholder's type records."""
    if isinstance(like, Placeholder):
        for part in preorder_types(like.type_signature):
            if isinstance(part, StructType) and part.python_container is not None:
                yield part.python_container
    elif not isinstance(like, str | bytes) and id(like) not in seen:
        seen.add(id(like))
        items: Any = like.items() if isinstance(like, Mapping) else unpack(like)
        if items is not None:
            yield type(like)
            for _, part in items:
                yield from _containers(part, seen)
