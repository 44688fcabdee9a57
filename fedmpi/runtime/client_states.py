"""Client data as states: one value for all clients, reading it on rank 0, in blocks, and making it of blocks."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.types import FederatedType, SequenceType, StructType, TensorType, Type
from fedmpi.language.types.placements import CLIENTS
from fedmpi.local.columns.client_data import MOVING, ClientData, Indices, Ranks, read_only
from fedmpi.local.columns.column import Array, Column, is_fixed, layout, pack, slot_formats
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.columns.taking import joined, take
from fedmpi.local.columns.values import ArgumentError, normalise, present
from fedmpi.runtime.arguments.ownership import assign_evenly, hosts
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.arguments.placing import member_type, moved
from fedmpi.runtime.arguments.sizes import works
from fedmpi.runtime.collective import alike
from fedmpi.runtime.collective.failures import refuse
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.context import machine
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.mpi.log import logger
from fedmpi.runtime.plan.folding import blocks_of
from fedmpi.runtime.plan.nodes import nbytes

_BLOCK = 1 << 26  # bytes of a block, unless the caller says how many clients
_OPEN = 256  # clients of a block whose type does not tell their size
_MUCH = 1 << 30  # bytes on rank 0 that are worth a word


@dataclass(frozen=True)
class ClientBlock:
    """The values of ``count`` clients from number ``start`` on, on rank 0 (elsewhere ``arrays`` is empty).

    ``arrays`` are those of a column (docs/client-states.md): plain arrays, which can be written to a file as they are.
    """

    type: Type
    start: int
    count: int
    arrays: tuple[Array, ...] = ()

    def values(self) -> list[Any]:
        """Return the clients' values, in order; none on other ranks than 0."""
        if len(self.arrays) != len(slot_formats(self.type)):
            return []
        return [present(value, self.type) for value in Column(self.type, self.count, self.arrays)]


def gather(data: ClientData) -> list[Any]:
    """Return all clients' values in a list on rank 0, placeholders elsewhere (collective).

    All of it must fit into rank 0's memory; `ClientData.blocks` brings it piece by piece.
    """
    if not isinstance(data, ClientData):
        raise TypeError(str(Report.here(f"data must be ClientData, found {type(data).__name__}", who="gather")))
    size = _bytes_of_one(data.type)
    if size and size * len(data) > _MUCH and _is_server(data):
        text = "fm.gather: %.1f GB come to rank 0; data.blocks() brings them piece by piece"
        logger.warning(text, size * len(data) / 1e9)
    values: list[Any] = []
    for block in blocks(data):
        values += _shown(data, block)
    return values


def _shown(data: ClientData, block: ClientBlock) -> list[Any]:
    """Return a block's values where they are, placeholders elsewhere."""
    if _is_server(data):
        return block.values()
    return [Placeholder(FederatedType(data.type, CLIENTS))] * block.count


def _is_server(data: ClientData) -> bool:
    return data.ranks is None or bool(data.ranks.is_server)  # type: ignore[attr-defined]


def _bytes_of_one(type_: Type) -> int | None:
    if not is_fixed(type_):
        return None
    return nbytes([type_])


def blocks(data: ClientData, clients: int | None = None) -> Iterator[ClientBlock]:
    """Yield the clients' values on rank 0 in the order of their numbers, ``clients`` at a time (collective)."""
    if clients is None:
        size = _bytes_of_one(data.type)
        clients = _OPEN if size is None else max(1, _BLOCK // max(size, 1))
    if isinstance(clients, bool) or not isinstance(clients, int | np.integer) or clients < 1:
        text = f"clients must be a whole number from 1, found {clients!r}"
        raise ValueError(str(Report.here(text, who="ClientData.blocks")))
    for start in range(0, len(data), int(clients)):
        yield _block(data, start, min(len(data), start + int(clients)))


def _block(data: ClientData, start: int, stop: int) -> ClientBlock:
    first, last = np.searchsorted(data.mine, [start, stop])
    comm: Any = data.ranks
    if comm is None or data.anywhere or not data.owner.any():  # rank 0 has it, as all know
        arrays: tuple[Array, ...] = ()
        if data.shared is not None and _is_server(data):
            rows = np.arange(start, stop) if data.rows is None else data.rows[start:stop]
            arrays = _plain(take(data.shared.column, rows))
        elif _is_server(data):
            arrays = _plain(take(data.column, data.positions[first:last]))
        return ClientBlock(data.type, start, stop - start, arrays)
    with Round(comm, "ClientData.blocks") as step:
        step.check_in(f"ClientData.blocks of {data.type} from {start} to {stop}", len(data))
        message = step.attempt(lambda: to_bytes(take(data.column, data.positions[first:last])))
        step.agree()
        parts = comm.gather_bytes(message)
    if parts is None:
        return ClientBlock(data.type, start, stop - start)
    owner = data.owner[start:stop]
    order = np.empty(len(owner), np.int64)
    order[np.argsort(owner, kind="stable")] = np.arange(len(owner))
    column = take(joined(data.type, [from_bytes(data.type, part) for part in parts]), order)
    return ClientBlock(data.type, start, stop - start, _plain(column))


def _plain(column: Column) -> tuple[Array, ...]:
    """Return the arrays of a column with its leaves stored densely."""
    formats = slot_formats(column.type)
    dense = all(getattr(a, "dtype", None) == dtype for a, (dtype, _) in zip(column.arrays, formats, strict=True))
    return column.arrays if dense else pack(column.type, list(column)).arrays


def item(data: ClientData, index: Any) -> Any:
    """Return the value of client number ``index`` on rank 0, a placeholder elsewhere (collective)."""
    count = len(data)
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        text = f"a client's number must be a whole number, found {index!r}"
        raise TypeError(str(Report.here(text, "a cohort is data.select(numbers)", who="ClientData[…]")))
    if not -count <= index < count:
        text = f"a client's number must be from 0 to {count - 1}, found {index}"
        raise IndexError(str(Report.here(text, who="ClientData[…]")))
    number = int(index) % count
    return _shown(data, _block(data, number, number + 1))[0]


def members(data: ClientData) -> Iterator[Any]:
    """Yield the clients' values on rank 0, placeholders elsewhere; block by block (collective)."""
    for block in blocks(data):
        yield from _shown(data, block)


def sizes(data: ClientData) -> Indices:
    """Return how many examples each client has, int64[clients], on all ranks (collective)."""
    if data.shared is not None:
        return read_only(data.shared.sizes(data.rows).copy())
    mine = _sizes_of(data.column, data.positions)
    comm: Any = data.ranks
    if comm is None:
        return read_only(mine)
    with Round(comm, "ClientData.sizes") as step:
        step.check_in(f"ClientData.sizes of {data.type}", len(data))
        step.agree()
        parts = comm.allgather_bytes(mine.view(np.uint8))
    found = np.empty(len(data), np.int64)
    for rank, part in enumerate(parts):
        found[data.owner == rank] = part.view(np.int64)
    return read_only(found)


def _sizes_of(column: Column, positions: Indices) -> Indices:
    """Return how many examples values of a column have (`sizes.work`), of sequences of rows without looking at them."""
    if isinstance(column.type, TensorType):
        return np.ones(len(positions), np.int64)
    first = column.type.element if isinstance(column.type, SequenceType) else column.type
    while isinstance(first, StructType) and len(first):
        first = next(iter(first))
    if not isinstance(column.type, SequenceType) or not isinstance(first, TensorType) or layout(first) != "rows":
        return works([column[position] for position in positions], column.type)
    batches, offsets = column.arrays[0], column.arrays[2]
    return np.asarray(offsets[batches[positions + 1]] - offsets[batches[positions]], np.int64)


def _home(data: ClientData, owner: Ranks) -> ClientData:
    """Return data with its values on the ranks where its clients live (collective)."""
    comm: Any = data.ranks
    with Round(comm, "ClientData.updated") as step:
        step.check_in("ClientData.updated", len(data))
        step.agree()
        there: ClientData = moved(comm, data, owner)
    return there


MOVING.update(to=_home, blocks=blocks, item=item, members=members, sizes=sizes)


# --- making it --------------------------------------------------------------------------------------------------------


def _here() -> tuple[Any, list[int]]:
    """Return the communicator, None where there are no ranks, and the ranks that host clients."""
    context = machine()
    comm = getattr(context, "comm", None)
    return comm, [0] if comm is None else hosts(comm.size, context.server_trains)


def full(n: int, value: Any, type_: Any) -> ClientData:
    """Return the data of ``n`` clients that all have the same value; every rank gives it (collective).

    One row serves all clients, so that a million clients' zeros cost one model.  `ClientData.updated` gives those rows
    of their own that have other values.
    """
    who = "client_data.full"
    member = member_type(type_, who)
    n = _number(n, who)
    comm, ranks = _here()
    owner = assign_evenly(np.ones(n, np.int64), blocks_of(n), ranks)

    def packed() -> Column:
        try:
            return pack(member, [normalise(value, member)])
        except ArgumentError as error:
            raise refuse(who, error.inside("value")) from None

    if comm is None:
        return ClientData(member, owner, 0, packed(), np.zeros(n, np.int64))
    with Round(comm, who) as step:
        column = step.attempt(packed)
        given = [alike.of_value(("value",), column[0], member)] if column is not None and comm.size > 1 else []
        step.check_in(f"{who} of {member}", n, given)
        step.agree()
    mine = np.zeros(int((owner == comm.rank).sum()), np.int64)
    return ClientData(member, owner, comm.rank, column, mine, ranks=comm.ranks, source=step.number)


def from_blocks(blocks: Iterable[ClientBlock] | None, n: int, type_: Any) -> ClientData:
    """Return the data of ``n`` clients from blocks that `ClientData.blocks` gave, on any number of ranks (collective).

    Rank 0 goes through ``blocks``, in the order of the clients, and sends each client's value to its rank; what stands
    there on other ranks is not looked at.
    """
    who = "client_data.from_blocks"
    member = member_type(type_, who)
    comm, ranks = _here()
    n = _number(n, who)
    owner = assign_evenly(np.ones(n, np.int64), blocks_of(n), ranks)
    given = _checked(blocks if comm is None or comm.is_server else (), member, n)
    if comm is None or comm.size == 1:
        columns = [Column(member, block.count, tuple(a.copy() for a in block.arrays)) for block in given]
        column = joined(member, columns or [pack(member, [])])
        return ClientData(member, owner, 0, column, ranks=None if comm is None else comm.ranks)
    columns = [pack(member, [])]
    with Round(comm, who) as step:
        step.check_in(f"{who} of {member}", n)
        columns += _dealt(step, comm, given, member, owner)
    return ClientData(member, owner, comm.rank, joined(member, columns), ranks=comm.ranks, source=step.number)


def _number(n: Any, who: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise TypeError(str(Report.here(f"n must be a number of clients, found {n!r}", who=who)))
    return int(n)


def _checked(blocks: Any, type_: Type, n: int) -> Iterator[ClientBlock]:
    """Yield blocks that follow each other, of a type, and of all clients."""
    at = 0
    if not isinstance(blocks, Iterable):
        text = f"blocks must be those of ClientData.blocks(), found {blocks!r}"
        raise TypeError(str(Report.here(text, who="client_data.from_blocks")))
    for block in blocks:
        if not isinstance(block, ClientBlock) or (block.type is not type_ and not type_.is_assignable_from(block.type)):
            found = block.type if isinstance(block, ClientBlock) else type(block).__name__
            raise TypeError(
                str(Report.here(f"blocks must be of {type_}, found {found}", who="client_data.from_blocks"))
            )
        if block.start != at or at + block.count > n:
            text = f"blocks must be of all {n} clients in order: after client {at} comes a block from {block.start} on"
            raise ValueError(str(Report.here(text, who="client_data.from_blocks")))
        _check_arrays(block, type_)
        _check_offsets(block, type_)
        at += block.count
        yield block
    if at != n:
        text = f"blocks must be of all {n} clients, found {at}"
        raise ValueError(str(Report.here(text, who="client_data.from_blocks")))


def _check_arrays(block: ClientBlock, type_: Type) -> None:
    formats = slot_formats(type_)
    if len(block.arrays) != len(formats):
        text = (
            f"a block of {type_} must have {len(formats)} array{'s' * (len(formats) != 1)}, found {len(block.arrays)}"
        )
        raise ValueError(str(Report.here(text, who="client_data.from_blocks")))
    for array, (dtype, inner) in zip(block.arrays, formats, strict=True):
        wanted = (block.count, *inner) if is_fixed(type_) else array.shape
        if array.dtype != dtype or array.shape != wanted:
            names = [
                f"{d.name}[{','.join(map(str, shape))}]" for d, shape in ((dtype, wanted), (array.dtype, array.shape))
            ]
            text = f"an array of the block from client {block.start} on must be {names[0]}, found {names[1]}"
            raise ValueError(str(Report.here(text, who="client_data.from_blocks")))


def _check_offsets(block: ClientBlock, type_: Type) -> None:
    """Refuse arrays, of a type of open sizes, whose offsets do not fit what they point to."""
    if is_fixed(type_):
        return
    try:
        to_bytes(take(Column(type_, block.count, block.arrays), np.arange(block.count)))
    except Exception as error:
        text = f"the arrays of the block from client {block.start} on do not fit each other: {error}"
        raise ValueError(str(Report.here(text, who="client_data.from_blocks"))) from None


def _dealt(
    step: Round, comm: Communicator, blocks: Iterator[ClientBlock], type_: Type, owner: Ranks
) -> Iterator[Column]:
    """Yield what this rank gets of each block."""
    at, nothing = 0, np.empty(0, np.uint8)
    while True:
        parts = (
            step.attempt(functools.partial(_parts, blocks, type_, owner[at:], comm.size)) if comm.is_server else None
        )
        count = UNKNOWN if parts is None else parts[0]
        word = np.array([count, step.failure is not None], np.int64)
        comm.bcast(word)
        if word[1]:
            step.raise_of(0)
        if word[0] == UNKNOWN:
            step.agree()
            return
        incoming = comm.exchange_bytes([nothing] * comm.size if parts is None else parts[1])
        at += int(word[0])
        yield from_bytes(type_, incoming[0])


def _parts(blocks: Iterator[ClientBlock], type_: Type, owner: Ranks, size: int) -> tuple[int, list[Any]] | None:
    """Return how many clients the next block has, and the bytes of each rank's; None after the last."""
    block = next(blocks, None)
    if block is None:
        return None
    column, owners = Column(type_, block.count, block.arrays), owner[: block.count]
    return block.count, [to_bytes(take(column, np.flatnonzero(owners == rank))) for rank in range(size)]


class ClientDataMaker:
    """Pack all clients' values once, each on the rank that owns its client; every rank gives the same list.

    ``type_`` is the type of one client's value (or ``{T}@CLIENTS``).  The result is an argument for any
    ``{T}@CLIENTS``; what is packed is never copied or sent again.  ``storage`` says how floats are kept: "auto"
    (numbers u / 255.0, such as pixels, as bytes u), "dense", "bytes", "sparse" or "density"
    (see `fedmpi.local.columns.storage`).  Raises `TypeError` on all ranks for a value that does not have the type.

    A sequence of another class than list and tuple loads a client's value where it is asked for (``values[i]``):
    each rank asks for its own clients' alone, as of `fm.data.folder`.  If it has ``sizes``, a number of examples
    for each client, clients are dealt by them, else by their number.

    ``fm.client_data.full(n, value, type_)`` gives ``n`` clients one value, in a row that they share;
    ``fm.client_data.from_blocks(blocks, n, type_)`` makes data of what `ClientData.blocks` gave on rank 0.
    """

    full = staticmethod(full)
    from_blocks = staticmethod(from_blocks)

    def __call__(self, values: Any, type_: Any, *, storage: str = "auto") -> ClientData:
        return machine().client_data(values, type_, storage=storage)  # type: ignore[no-any-return]


client_data = ClientDataMaker()
