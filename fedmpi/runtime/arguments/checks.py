"""The arguments of a call, checked against their types before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.errors import InvalidNonAllEqualValueError, Report
from fedmpi.language.source import user_location
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import walk
from fedmpi.language.types import FederatedType, FunctionType, StructType, TensorType, Type, contains
from fedmpi.language.types.placements import CLIENTS, SERVER, PlacementLiteral
from fedmpi.language.types.to_type import to_type
from fedmpi.language.types.walking import leaves_of, preorder_types
from fedmpi.local.columns.client_data import ClientData, Indices, unlike
from fedmpi.local.columns.column import Column, pack
from fedmpi.local.columns.values import ArgumentError, describe, normalise, struct_parts
from fedmpi.runtime.collective.failures import ClientError, refuse, who
from fedmpi.runtime.mpi.comm import Communicator

Part = tuple[tuple[str, ...], Type, Any]  # path, type and raw value


def parts_of(computation: Computation, argument: Any, *, server: bool = True) -> list[Part]:
    """Return the parts of a call's argument (see `split`); the whole of it has the name of the one parameter."""
    parameter = computation.type_signature.parameter
    if parameter is None:
        return []
    root = () if len(computation.names) > 1 else (computation.root,)
    return [(path or root, t, v) for path, t, v in split(argument, parameter, server=server)]


def split(argument: Any, type_: Type, path: tuple[str, ...] = (), *, server: bool = True) -> list[Part]:
    """Return the parts of an argument: federated, functional or unplaced.

    With ``server`` False, anything may stand for a value at the server: it is not looked at.
    """
    if not isinstance(type_, StructType) or not contains(type_, (FederatedType, FunctionType)):
        return [(path, type_, argument)]
    try:
        parts = [None] * len(type_) if not server and _at_server(type_) else struct_parts(argument, type_)
    except ArgumentError as error:
        if not path and isinstance(argument, list | tuple):
            error.hint = error.hint or "one positional argument by itself is the whole struct of arguments"
        raise (error.inside(label(path)) if path else error) from None
    out = []
    for i, ((name, part_type), part) in enumerate(zip(type_.items(), parts, strict=True)):
        out += split(part, part_type, (*path, name if name is not None else str(i)), server=server)
    return out


def _at_server(type_: Type) -> bool:
    """Tell whether all of a struct is at the server."""
    return all(isinstance(leaf, FederatedType) and leaf.placement is SERVER for leaf in leaves_of(type_))


def label(path: tuple[str, ...]) -> str:
    """Return a part's name for messages."""
    return ".".join(path)


def check(value: Any, type_: Type, path: tuple[str, ...]) -> Any:
    """Normalise a part, errors naming it."""
    try:
        return normalise(value, type_)
    except ArgumentError as error:
        raise (error.inside(label(path)) if path else error) from None


def client_count(name: str, value: Any, type_: FederatedType, path: tuple[str, ...]) -> int:
    """Return the number of clients in an argument at the clients."""
    if isinstance(value, ClientData | list | tuple):
        return len(value)
    report = Report(
        expected=f"a list with one value for each client for {type_}",
        found=describe(value),
        who=f"{name}: parameter {label(path)}",
        where=user_location(),
        hint=_clients_hint(value),
    )
    raise InvalidNonAllEqualValueError(str(report))


def _clients_hint(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "list(array) has one value for each row"
    if isinstance(value, bool | int | float | complex | str | np.generic):
        return "for one client it is a list of one value; a value at the server has the type fm.type_at_server(T)"
    return "a list, a tuple or what fm.client_data made"


def common_count(
    name: str, counts: list[tuple[tuple[str, ...], int]], placement: PlacementLiteral = CLIENTS
) -> int | None:
    """Return the number of clients that all arguments agree on; None without any."""
    for path, count in counts[1:]:
        first_path, first = counts[0]
        if count != first:
            report = Report.here(
                f"Conflicting cardinalities for {placement}: {first} vs {count} "
                f"(parameter {label(first_path)} has {first} clients, parameter {label(path)} has {count})",
                who=name,
            )
            raise ValueError(str(report))
    return counts[0][1] if counts else None


def checked_count(who: str, num_clients: Any) -> int | None:
    """Return a context's ``num_clients``, or raise `ValueError`."""
    count = num_clients is None or (isinstance(num_clients, int | np.integer) and num_clients >= 0)
    if not count or isinstance(num_clients, bool):
        raise ValueError(f"{who}: num_clients must be a number of clients or None, found {num_clients!r}")
    return None if num_clients is None else int(num_clients)


def common_cohort(name: str, arguments: list[tuple[tuple[str, ...], Any]]) -> Indices | None:
    """Return the indices of the clients that all arguments have, lists those of the others; None for 0, 1, 2, …."""
    packed = [(path, value) for path, value in arguments if isinstance(value, ClientData)]
    for path, data in packed[1:]:
        first_path, first = packed[0]
        number = unlike(first, data)
        if number is not None:
            named = [label(p) for p, d in ((first_path, first), (path, data)) if d.cohort is not None]
            report = Report.here(
                f"parameters {label(first_path)} and {label(path)} must have the same clients in the same "
                f"order, found at position {number} client {first.indices[number]} of {label(first_path)} and client "
                f"{data.indices[number]} of {label(path)}",
                "where they are meant to be paired as they stand, give "
                f"{' and '.join(f'{n}.renumbered()' for n in named)}",
                who=name,
            )
            raise ValueError(str(report))
    return packed[0][1].cohort if packed else None


def check_data(data: ClientData, type_: Type, path: tuple[str, ...], comm: Communicator) -> None:
    """Refuse a `ClientData` of another type, or whose clients live on ranks of another communicator."""
    assert isinstance(type_, FederatedType)
    if data.type is not type_.member and not type_.member.is_assignable_from(data.type):
        raise ArgumentError(str(type_), data.fedmpi_description).inside(label(path))
    if data.ranks is not comm.ranks and not (comm.size == 1 and data.everything_here):
        hint = "make it, or what it comes from, in the context of the call"
        found = f"{data.fedmpi_description} of another context, whose clients live on other ranks"
        raise ArgumentError(f"{type_} of this context", found, hint).inside(label(path))


def infer_cardinalities(value: Any, type_: Any) -> dict[PlacementLiteral, int]:
    """Return how many values an argument of this type has at each placement; what all have alike says nothing.

    Raises `ValueError` for parts that do not agree, `InvalidNonAllEqualValueError` for one that is no list.
    """
    counts: dict[PlacementLiteral, list[tuple[tuple[str, ...], int]]] = {}
    try:
        parts = split(value, to_type(type_)) if value is not None else []
    except ArgumentError as error:
        raise refuse("infer_cardinalities", error) from None
    for path, part, given in parts:
        if isinstance(part, FederatedType) and not part.all_equal and given is not None:
            path = path or ("value",)
            count = client_count("infer_cardinalities", given, part, path)
            counts.setdefault(part.placement, []).append((path, count))
    return {place: common_count("infer_cardinalities", found, place) or 0 for place, found in counts.items()}


def check_ranks_known(computation: Computation) -> None:
    """Refuse a program with placements in which the rank of a tensor is not known: messages have no form for it."""
    for node in walk(computation.expression):
        for part in preorder_types(node.type):
            if isinstance(part, TensorType) and part.shape is None:
                report = Report.here(
                    f"a tensor of unknown rank, {part}, cannot be sent, found in {node.type}",
                    f"declare its rank, such as (np.{part.dtype.name}, [None, None])",
                    who=computation.name,
                )
                raise TypeError(str(report))


def pack_members(
    values: Any, member: Type, numbers: list[int], path: tuple[str, ...], cohort: Indices | None = None
) -> Column:
    """Check and pack the members of the clients ``numbers``, whose indices ``cohort`` tells (see `failures.who`)."""
    members = []
    for number in numbers:
        try:
            members.append(normalise(values[number], member))
        except ArgumentError as error:
            raise ClientError(number, error.inside(who(number, (), cohort)).inside(label(path))) from None
    return pack(member, members)
