"""Making `ClientData` and bringing it to other ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.placements import CLIENTS
from fedmpi.language.to_type import to_type
from fedmpi.language.types import FederatedType, Type
from fedmpi.local.client_data import ClientData
from fedmpi.local.columns import from_bytes, pack, take, to_bytes
from fedmpi.local.values import ArgumentError, describe
from fedmpi.runtime.arguments import ClientError, pack_members, refuse
from fedmpi.runtime.comm import Communicator
from fedmpi.runtime.ownership import Ranks, assign, homes
from fedmpi.runtime.rounds import Round
from fedmpi.runtime.sizes import work


def member_type(type_: Any) -> Type:
    """Return the type of one client's value: ``{T}@CLIENTS`` and ``T`` both mean T."""
    declared = to_type(type_)
    if isinstance(declared, FederatedType):
        if declared.placement is not CLIENTS:
            raise TypeError(f"client_data: type must be {{T}}@CLIENTS or T, found {declared}")
        return declared.member
    return declared


def pack_all(values: Any, type_: Any) -> ClientData:
    """Pack all clients in this process."""
    member = member_type(type_)
    check_list(values)
    owner = np.zeros(len(values), dtype=np.int32)
    try:
        return ClientData(member, owner, 0, pack_members(values, member, list(range(len(values))), ("values",)))
    except ClientError as error:
        if not isinstance(error.cause, ArgumentError):
            raise error.cause from None
        raise refuse("client_data", error.cause) from None


def check_list(values: Any) -> None:
    """Refuse anything but a list of all clients' values."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"client_data: values must be a list with one value for each client, found {describe(values)}")


def pack_owned(comm: Communicator, values: Any, member: Type, hosts: list[int]) -> ClientData:
    """Pack the members that this rank owns; an error on one rank is raised on all (collective)."""
    owner = assign([work(value, member) for value in values], hosts)
    mine = [int(i) for i in np.flatnonzero(owner == comm.rank)]
    with Round(comm, "client_data") as step:
        column = step.attempt(lambda: pack_members(values, member, mine, ("values",)))
        step.check_in(f"client_data of {member}", len(values), homes(owner))
        step.agree()
    return ClientData(member, owner, comm.rank, column)


def moved(comm: Communicator, data: ClientData, owner: Ranks) -> ClientData:
    """Return the data with other home ranks; what stays is not sent."""
    position = {client: i for i, client in enumerate(data.owned)}
    mine = [int(i) for i in np.flatnonzero(owner == comm.rank)]
    outgoing = []
    for rank in range(comm.size):
        there = [i for i in data.owned if owner[i] == rank and rank != comm.rank]
        outgoing.append(to_bytes(take(data.column, [position[i] for i in there])))
    incoming = [iter(from_bytes(data.type, part)) for part in comm.exchange_bytes(outgoing)]
    values = [
        data.column[position[i]] if data.owner[i] == comm.rank else next(incoming[int(data.owner[i])]) for i in mine
    ]
    return ClientData(data.type, owner, comm.rank, pack(data.type, values))
