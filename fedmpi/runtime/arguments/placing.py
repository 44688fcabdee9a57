"""Making `ClientData` and bringing it to other ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import FederatedType, FunctionType, Type, contains
from fedmpi.language.types.placements import CLIENTS
from fedmpi.language.types.to_type import to_type
from fedmpi.local.columns.client_data import ClientData, Ranks
from fedmpi.local.columns.column import Column
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.columns.storage import NotBytes, Survey, check_storage, chooses, stored, survey
from fedmpi.local.columns.taking import joined, take
from fedmpi.local.columns.values import ArgumentError, describe
from fedmpi.runtime.arguments.checks import pack_members
from fedmpi.runtime.arguments.ownership import assign, assign_evenly
from fedmpi.runtime.arguments.sizes import works
from fedmpi.runtime.collective import alike
from fedmpi.runtime.collective.failures import ClientError, refuse
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.plan.folding import blocks_of


def member_type(type_: Any, operation: str = "client_data") -> Type:
    """Return the type of one client's value: ``{T}@CLIENTS`` and ``T`` both mean T."""
    declared = to_type(type_)
    if isinstance(declared, FederatedType):
        if declared.placement is not CLIENTS:
            raise TypeError(f"{operation}: type must be {{T}}@CLIENTS or T, found {declared}")
        declared = declared.member
    if contains(declared, (FederatedType, FunctionType)):
        raise TypeError(f"{operation}: type must be made of tensors, structs and sequences, found {declared}")
    return declared


def pack_all(values: Any, type_: Any, storage: str) -> ClientData:
    """Pack all clients in this process."""
    member = member_type(type_)
    check_list(values)
    check_storage(storage, "client_data")
    everyone = list(range(len(values)))
    try:
        column = pack_members(values, member, everyone, ("values",))
        column = stored(column, storage, _surveyed(column, storage, everyone))
    except ClientError as error:
        if not isinstance(error.cause, ArgumentError):
            raise error.cause from None
        raise refuse("client_data", error.cause) from None
    return ClientData(member, assign(np.zeros(len(values)), [0]), 0, column)


def check_list(values: Any) -> None:
    """Refuse anything but a list of all clients' values."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise TypeError(f"client_data: values must be a list with one value for each client, found {describe(values)}")


def pack_owned(comm: Communicator, values: Any, member: Type, hosts: list[int], storage: str) -> ClientData:
    """Pack the members that this rank owns; an error on one rank is raised on all (collective).

    A sequence that is no list loads a client where it is asked for: only owners ask.
    """
    lazy = not isinstance(values, list | tuple)
    loads = _given_sizes(values) if lazy else works(values, member)
    owner = assign_evenly(loads, blocks_of(len(values)), hosts)  # whole blocks are folded where they are
    mine = [int(i) for i in np.flatnonzero(owner == comm.rank)]

    def given() -> list[alike.Alike]:
        if comm.size == 1:
            return []
        lists = [] if lazy else [alike.of_list(("values",), values, member, loads)]
        return [*lists, alike.of_hosts(hosts, owner)]

    with Round(comm, "client_data") as step:
        column = step.attempt(lambda: pack_members(values, member, mine, ("values",)))
        seen = step.attempt(lambda: _surveyed(column, storage, mine))
        step.check_in(f"client_data, {storage}, of {member}", len(values), step.attempt(given) or [])
        step.agree()
        if chooses(member, storage):
            parts = comm.allgather_bytes(seen.reshape(-1).view(np.uint8))
            total = np.sum([part.view(np.int64).reshape(seen.shape) for part in parts], axis=0)
            column = step.attempt(lambda: stored(column, storage, total))
            step.agree()
    return ClientData(member, owner, comm.rank, column, ranks=comm.ranks, source=step.number)


def _given_sizes(values: Any) -> Any:
    """Return the clients' sizes that a lazy sequence gives by its ``sizes``, or that of one for each."""
    sizes = getattr(values, "sizes", None)
    if sizes is None:
        return np.ones(len(values), np.int64)
    array = np.asarray(sizes)
    if array.shape != (len(values),) or array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        text = f"the sizes of a sequence must be a whole number from 0 for each of its {len(values)} clients"
        raise TypeError(f"client_data: {text}, found {describe(sizes)}")
    return array.astype(np.int64)


def _surveyed(column: Column, storage: str, clients: list[int]) -> Survey:
    """Return the survey of a column whose values are those of ``clients``; a number that is none names its client."""
    try:
        return survey(column, storage)
    except NotBytes as error:
        client = clients[error.position]
        cause = not_bytes(error.tensor, error.value).inside(", ".join(["values", f"client {client}", *error.path]))
        raise ClientError(client, cause) from None


def not_bytes(type_: Type, value: Any) -> ArgumentError:
    """Return the error for a number that ``storage="bytes"`` cannot keep."""
    hint = 'storage="auto" keeps a leaf dense where that is so'
    return ArgumentError(f'{type_} of numbers u / 255.0 with u from 0 to 255 (storage="bytes")', describe(value), hint)


def moved(comm: Communicator, data: ClientData, owner: Ranks) -> ClientData:
    """Return the data with other home ranks; what stays is not sent (collective, but for data that is anywhere)."""
    if data.anywhere:
        return data.at(owner)
    target = owner[data.mine]
    nothing = np.empty(0, dtype=np.uint8)
    outgoing = []
    for rank in range(comm.size):
        going = data.positions[target == rank] if rank != comm.rank else ()
        outgoing.append(to_bytes(take(data.column, going)) if len(going) else nothing)
    incoming = comm.exchange_bytes(outgoing)
    del outgoing  # of what moves there are then as few copies as can be: it may be more than fits twice
    staying = target == comm.rank
    clients, columns = [data.mine[staying]], [take(data.column, data.positions[staying])]
    for source, part in enumerate(incoming):
        if len(part):
            clients.append(np.flatnonzero((data.owner == source) & (owner == comm.rank)))
            columns.append(from_bytes(data.type, part))
    # A column keeps the order in which its values came; positions say whose they are.
    positions = np.argsort(np.concatenate(clients), kind="stable")
    return data.moved(owner, joined(data.type, columns), positions)
