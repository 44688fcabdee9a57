"""What computations return, as SHA-256: a line of the log for each federated call, and the record that is compared.

`fedmpi verify` sets FEDMPI_RECORD to a file on all ranks; rank 0 then appends one line of JSON for each computation
that has returned to the program, federated or not: number, name, where it was called, type, SHA-256, and what `slowly`
has told.  Calls from within a computation are part of that one.

The hash covers the type and the value: the type as JSON, then the leaves in its order, each with its shape before its
bytes (C order, little endian; texts as UTF-8 after their length), sequences and clients with their number before them.
So the bytes hashed can be read back in one way only.  Each client's value is hashed by itself, where it is: a
`ClientData` and the list of the same values have one hash.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.source import user_location
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import Local, walk
from fedmpi.language.types import FederatedType, FunctionType, SequenceType, StructType, TensorType, Type, contains
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import is_text
from fedmpi.local.columns.values import ArgumentError, struct_parts
from fedmpi.runtime import slowly
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.mpi import comm as mpi
from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.mpi.log import logger
from fedmpi.runtime.plan.function_values import Constant
from fedmpi.runtime.plan.plan import feed_program

__all__ = ["HEX_DIGITS", "Watch", "is_first", "sha256", "watching"]

HEX_DIGITS = 16  # of a hash that people compare by eye

# Taken out of the environment: processes that this one starts are no ranks of the job that is recorded.
_file: str | None = os.environ.pop("FEDMPI_RECORD", None) or None
_pid = os.getpid()
_numbers = iter(range(1, sys.maxsize))
_inside = threading.local()


def watching() -> bool:
    """Tell whether calls are watched: recorded, or written to the log."""
    return _file is not None or logger.isEnabledFor(logging.INFO)


class Watch:
    """One call of a computation, from the ``with`` on; `returned` hashes, records and logs its result.

    A call inside a watched one, from the body of a `python_computation`, is not watched.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = computation
        self._inner = getattr(_inside, "a_call", False)
        self._started = time.perf_counter()

    def __enter__(self) -> Watch:
        _inside.a_call = True
        return self

    def __exit__(self, *_: object) -> None:
        _inside.a_call = self._inner

    def returned(self, result: Any, number: int | None = None, comm: Communicator | None = None) -> None:
        """Take the result; ``number`` is that of the call among the federated ones, None for one without placements.

        Collective over ``comm`` where results are recorded and this one has a `ClientData`.
        """
        if self._inner:
            return
        seconds = time.perf_counter() - self._started
        called = f"{self._computation.name} at {user_location()}"
        text = f"{1e3 * seconds:.1f} ms"
        logged = number is not None and (is_first() if comm is None else comm.is_server)
        try:
            values = _Result(result, self._computation.type_signature.result)
            if _file is not None and os.getpid() == _pid:
                digests = values.client_digests(comm)
                if digests is not None and not values.elsewhere and is_first():
                    self._record(values.sha256(digests))
            if logged and (digest := values.without_client_data().sha256([])):
                text += f", sha256 {digest[:HEX_DIGITS]}"
        except ArgumentError as error:  # a container of the user's from which its elements cannot be read
            logger.warning("%s: the result cannot be hashed: %s", called, error)
        if logged:
            logger.info("call %d %s: %s", number, called, text)

    def _record(self, digest: str) -> None:
        assert _file is not None
        line = {
            "number": next(_numbers),
            "name": self._computation.name,
            "where": user_location(),
            "type": str(self._computation.type_signature.result),
            "sha256": digest,
            "slowly": slowly.taken(),
        }
        with open(_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def is_first() -> bool:
    """Tell whether this process is rank 0 of the job, without opening MPI."""
    opened = mpi.opened()
    if opened:
        return opened[0].in_world[opened[0].rank] == 0
    started = launch.detect()
    return started is None or started.rank == 0


def sha256(value: Any, type_: Type) -> str:
    """Return the hash of a value of a type, as results have it; a `ClientData` must hold all clients."""
    result = _Result(value, type_)
    digests = result.client_digests(None)
    assert digests is not None
    return result.sha256(digests)


class _Result:
    """A result taken apart down to its placements: each part is at the server, at the clients or has no placement."""

    def __init__(self, value: Any, type_: Type) -> None:
        self._type = type_
        self._parts = list(_parts(value, type_))

    @property
    def elsewhere(self) -> bool:
        """Whether a part of it is on rank 0 only, and this is another one."""
        return any(isinstance(value, Placeholder) for _, value in self._parts)

    def without_client_data(self) -> _Result:
        """Return what rank 0 has of it without asking others."""
        rest = _Result.__new__(_Result)
        rest._type = self._type
        rest._parts = [part for part in self._parts if not isinstance(part[1], ClientData)]
        return rest

    def client_digests(self, comm: Communicator | None) -> list[list[bytes]] | None:
        """Return for each `ClientData` the digests of its clients, in their order; None on ranks other than 0.

        Collective over ``comm`` if there is one.
        """
        resident = [value for _, value in self._parts if isinstance(value, ClientData)]
        mine = [[_digest(value, data.type) for value in data.members_here()] for data in resident]
        if not resident or comm is None or comm.size == 1:
            return mine
        together = b"".join(digest for one in mine for digest in one)
        gathered = comm.gather_bytes(np.frombuffer(together, np.uint8))
        if gathered is None:
            return None
        by_rank = [_chunks(part.tobytes()) for part in gathered]
        return [[next(by_rank[rank]) for rank in data.owner] for data in resident]

    def sha256(self, digests: Sequence[list[bytes]]) -> str:
        """Return the hash in hex digits, "" if there is no part; ``digests`` are those of `client_digests`."""
        hasher = hashlib.sha256(_type_text(self._type))
        resident = iter(digests)
        for type_, value in self._parts:
            if isinstance(value, ClientData):
                _feed_clients(hasher, next(resident))
            elif isinstance(type_, FederatedType) and not type_.all_equal and isinstance(value, list):
                _feed_clients(hasher, [_digest(member, type_.member) for member in value])
            else:
                _feed(hasher, value, type_.member if isinstance(type_, FederatedType) else type_)
        return hasher.hexdigest() if self._parts else ""


def _parts(value: Any, type_: Type) -> Iterator[tuple[Type, Any]]:
    if isinstance(type_, StructType) and contains(type_, FederatedType):
        for part, element in zip(type_, struct_parts(value, type_), strict=True):
            yield from _parts(element, part)
    else:
        yield type_, value


def _chunks(data: bytes) -> Iterator[bytes]:
    size = hashlib.sha256().digest_size
    return (data[start : start + size] for start in range(0, len(data), size))


def _digest(value: Any, type_: Type) -> bytes:
    hasher = hashlib.sha256(_type_text(type_))
    _feed(hasher, value, type_)
    return hasher.digest()


def _feed_clients(hasher: Any, digests: Sequence[bytes]) -> None:
    hasher.update(_numbers_as_bytes(len(digests)))
    for digest in digests:
        hasher.update(digest)


def _feed(hasher: Any, value: Any, type_: Type) -> None:
    """Add a value, normalised or as the program sees it; what is added says where it ends."""
    match type_:
        case TensorType(dtype):
            array = np.asarray(value, dtype=object if is_text(type_) else dtype)
            hasher.update(_numbers_as_bytes(array.ndim, *array.shape))
            if is_text(type_):
                for text in array.reshape(-1):
                    data = text.encode("utf-8", "surrogatepass")
                    hasher.update(_numbers_as_bytes(len(data)) + data)
            else:
                little = array if sys.byteorder == "little" else array.byteswap()
                hasher.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8))
        case StructType():
            for part, element in zip(type_, struct_parts(value, type_), strict=True):
                _feed(hasher, element, part)
        case SequenceType(element_type):
            hasher.update(_numbers_as_bytes(len(value)))
            for element in value:
                _feed(hasher, element, element_type)
        case FunctionType():
            _feed_function(hasher, value)
        case _:
            raise TypeError(f"a result cannot be of type {type_}")


def _feed_function(hasher: Any, computation: Computation) -> None:
    """Add a function: its program, and the values that it captured."""
    program = hashlib.sha256()
    feed_program(program, computation)
    for part in walk(computation.expression):
        if isinstance(part, Local) and isinstance(part.impl, Constant):
            program.update(_digest(part.impl.value, part.impl.type.result))
    hasher.update(program.digest())


def _numbers_as_bytes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)


@functools.cache
def _type_text(type_: Type) -> bytes:
    """Return a type as bytes: the same for structs that differ in their Python containers alone."""
    return json.dumps(_described(type_)).encode() + b"\n"


def _described(type_: Type) -> Any:
    match type_:
        case TensorType(dtype, shape):
            return [dtype.name, shape]
        case StructType():
            return {"struct": [[name, _described(part)] for name, part in type_.items()]}
        case SequenceType(element):
            return {"sequence": _described(element)}
        case FederatedType(member, placement, all_equal):
            return {"at": placement.uri, "all_equal": all_equal, "member": _described(member)}
    return str(type_)
