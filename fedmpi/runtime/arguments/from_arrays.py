"""`fm.client_data_from_arrays`: client data as views of arrays that every rank can open, a memory map for instance."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.errors import Report
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import Array, layout
from fedmpi.local.columns.numbers import refuse_more_than_numbers
from fedmpi.local.columns.shared_arrays import SharedArrays
from fedmpi.local.columns.storage import NotBytes, check_storage, is_mapped, may_be_bytes
from fedmpi.local.columns.values import ArgumentError, describe, struct_parts
from fedmpi.runtime.arguments.ownership import assign
from fedmpi.runtime.arguments.placing import member_type, not_bytes
from fedmpi.runtime.collective.failures import refuse

NAME = "client_data_from_arrays"


def from_arrays(
    arrays: Any,
    offsets: Any,
    type_: Any,
    batch_size: int | None,
    storage: str,
    *,
    hosts: Sequence[int] = (0,),
    rank: int = 0,
    ranks: object = None,
    source: int = 0,
) -> ClientData:
    """Return the data of all clients, those of this rank to be computed here; see `fm.client_data_from_arrays`.

    ``ranks`` and ``source`` are those of a `ClientData`.
    """
    member = member_type(type_, NAME)
    check_storage(storage, NAME)
    element = member.element if isinstance(member, SequenceType) else member
    size = _batch_size(batch_size, member)
    try:
        leaves = _leaves(arrays, element, ("arrays",), storage)
        bounds = _offsets(offsets, leaves)
        views = tuple(array for array, _ in leaves)
        balance = functools.partial(assign, ranks=tuple(hosts))
        shared = SharedArrays(member, views, bounds, size, balance, storage)
        data = ClientData(member, balance(shared.sizes()), rank, shared=shared, ranks=ranks, source=source)
        data.column  # noqa: B018  # a rank that has clients makes it now, not in the first call
    except NotBytes as error:
        path = ", ".join(["arrays", f"client {error.position}", *error.path])
        raise refuse(NAME, not_bytes(error.tensor, error.value).inside(path)) from None
    except ArgumentError as error:
        raise refuse(NAME, error) from None
    return data


def _batch_size(size: Any, member: Type) -> int | None:
    """Return the number of rows in a batch; None for one value a client."""
    if not isinstance(member, SequenceType):
        if size is not None:
            raise TypeError(f"{NAME}: batch_size is for sequences of batches, found {size!r} for {member}")
        return None
    try:
        if isinstance(size, bool | np.bool_) or (count := operator.index(size)) < 1:
            raise TypeError
    except TypeError:
        raise TypeError(f"{NAME}: batch_size must be a whole number from 1 for {member}, found {size!r}") from None
    return count


Named = tuple[Array, tuple[str, ...]]


def _leaves(value: Any, type_: Type, path: tuple[str, ...], storage: str) -> list[Named]:
    """Return the arrays of the leaves of a type, checked, with their paths."""
    if isinstance(type_, StructType):
        try:
            parts = struct_parts(value, type_)
        except ArgumentError as error:
            raise error.inside(", ".join(path)) from None
        named = zip(parts, type_.items(), strict=True)
        return [
            leaf
            for i, (part, (name, t)) in enumerate(named)
            for leaf in _leaves(part, t, (*path, f"element {i}" if name is None else name), storage)
        ]
    if not isinstance(type_, TensorType) or type_.shape is None or layout(type_) != "rows":
        text = (
            "type must be T* or T where T is made of tensors whose first dimension alone is ? (float32[?,3]), "
            f"found {type_} at {', '.join(path)}"
        )
        raise TypeError(str(Report.here(text, who=NAME)))
    return [(_array(value, type_, path, storage), path)]


def _array(value: Any, type_: TensorType, path: tuple[str, ...], storage: str) -> Array:
    """Return an array as a read-only view that compiled code can use."""
    try:
        refuse_more_than_numbers(value, type_)
    except ArgumentError as error:
        raise error.inside(", ".join(path)) from None
    bytes_too = storage == "bytes" and may_be_bytes(type_)
    good = isinstance(value, np.ndarray) and (value.dtype == type_.dtype or (bytes_too and value.dtype == np.uint8))
    tail = (type_.shape or ())[1:]
    if not good or value.ndim != 1 + len(tail) or value.shape[1:] != tail:
        expected = f"an array {type_}" + (" or of bytes (uint8)" if bytes_too else "")
        hint = ""
        if isinstance(value, np.ndarray) and value.dtype != type_.dtype and value.shape[1:] == tail:
            hint = f"arrays are not converted: write array.astype(np.{type_.dtype.name}) where that is meant"
            if may_be_bytes(type_) and value.dtype == np.uint8:
                hint = 'bytes stand for u / 255.0 with storage="bytes"'
        raise ArgumentError(expected, describe(value), hint).inside(", ".join(path))
    view: Array = value.view(np.ndarray)
    if not (view.flags.c_contiguous and view.flags.aligned):
        if is_mapped(value):
            raise ArgumentError(f"a memory map {type_} in C order", "one that is not").inside(", ".join(path))
        view = np.require(view, requirements=["C", "A"])
    view = view.view()  # the flag is that of the view, not of the user's array
    view.flags.writeable = False
    return view


def _offsets(offsets: Any, leaves: list[Named]) -> Array:
    """Return the clients' offsets as int64[clients + 1]; what the caller could write to is copied.

    Compiled code relies on them: another offset, after the checks, would be an address of its own.
    """
    if not leaves:
        raise ArgumentError("a type with at least one tensor", "none").inside("type")
    first, first_path = leaves[0]
    for array, path in leaves:
        if len(array) != len(first):
            raise ArgumentError(f"as many rows as {', '.join(first_path)} has, {len(first)}", str(len(array))).inside(
                ", ".join(path)
            )
    if (more := beyond_numbers(offsets)) is not None:
        raise ArgumentError("an array of integers", *more).inside("offsets")
    try:
        given = np.asarray(offsets)
    except ValueError:  # parts of different lengths
        given = np.empty(0, dtype=object)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given):
        found = describe(offsets if given.dtype == object else given)
        expected = "int64[clients + 1], where each client's rows begin and the last one's end"
        hint = "write offsets.astype(np.int64) where that is meant" if given.dtype.kind == "f" and len(given) else ""
        raise ArgumentError(expected, found, hint).inside("offsets")
    bounds = np.ascontiguousarray(given, dtype=np.int64).view(np.ndarray)
    bounds = bounds.copy() if given.flags.writeable else bounds.view()
    _check_bounds(given if given.dtype.kind == "u" else bounds, len(first))
    bounds.flags.writeable = False
    return bounds


def _check_bounds(offsets: Array, rows: int) -> None:
    """Refuse offsets that do not give each of the rows to one client."""
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    first, last = int(offsets[0]), int(offsets[-1])
    expected, found, hint = f"offsets from 0 to {rows}, the number of rows", f"{first} to {last}", ""
    if len(falls):
        k = int(falls[0])
        expected, found = "ascending numbers", f"{offsets[k]} before {offsets[k + 1]} at client {k}"
    elif first >= 0 and last <= rows:
        if first == 0 and last == rows:
            return
        found += f", which leaves out {first + rows - last} of {rows} rows"
        hint = "leave out rows of the arrays instead: array[start:stop]"
        if first and last == rows:
            hint = "the first offset is 0: np.concatenate([[0], offsets])"
        elif not first:
            hint = f"the last offset is the number of rows: np.append(offsets, {rows})"
    if sum(offsets.tolist()) == rows:
        hint = "these look like the clients' sizes, whose offsets are np.cumsum([0, *sizes])"
    raise ArgumentError(expected, found, hint).inside("offsets")
