"""`ClientData`: a value at the clients, packed once and kept on the ranks that own its clients."""

from __future__ import annotations

import functools
import operator
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.arrays import beyond_numbers
from fedmpi.language.source import user_location
from fedmpi.language.types import Type
from fedmpi.local.columns import Column, conformed, laid_out_alike, pack
from fedmpi.local.shared_arrays import SharedArrays
from fedmpi.local.values import describe

Indices = np.ndarray[Any, np.dtype[np.int64]]
Ranks = np.ndarray[Any, np.dtype[Any]]  # of the smallest integer type that holds them


class ClientData:
    """One value of ``type`` for each client, as an argument of any computation that takes ``{type}@CLIENTS``.

    ``owner`` int[number of clients] gives each client's rank.  ``column`` holds values, and is never copied or sent
    again: those of this rank's clients are its rows ``positions`` int64[number of them], by ascending index of the
    clients (default: all rows).

    Data that every rank can open has a ``shared`` source instead of a column; ``rows`` int64[number of clients] are
    then the rows of all clients (default: all rows).
    """

    def __init__(
        self,
        type: Type,
        owner: Ranks,
        rank: int,
        column: Column | None = None,
        positions: Indices | None = None,
        *,
        shared: SharedArrays | None = None,
        rows: Indices | None = None,
        selected: int = 0,
    ) -> None:
        self.type, self.owner, self.rank = type, owner, rank
        self.shared, self.rows = shared, rows
        self._column, self._selected = column, selected
        if positions is None:
            if shared is None:
                assert column is not None
                positions = np.arange(column.count, dtype=np.int64)
            else:
                positions = self.mine if rows is None else rows[self.mine]
        self.positions = positions

    @property
    def column(self) -> Column:
        """The column whose rows `positions` are; of shared arrays its offsets are computed where it is first needed."""
        if self._column is None:
            assert self.shared is not None
            self._column = self.shared.column if len(self.positions) else pack(self.type, [])
        return self._column

    @functools.cached_property
    def mine(self) -> Indices:
        """Indices of the clients of this rank, ascending."""
        return np.flatnonzero(self.owner == self.rank)

    @property
    def owned(self) -> list[int]:
        """Indices of the clients of this rank, ascending, as a list."""
        return [int(i) for i in self.mine]

    @functools.cached_property
    def homes(self) -> int:
        """A hash of which rank owns which client, and of which they are where that is known: for ranks to compare."""
        return zlib.crc32(self.owner.tobytes(), self._selected)

    @property
    def anywhere(self) -> bool:
        """Whether every rank can open the values of all clients."""
        return self.shared is not None

    @property
    def complete(self) -> bool:
        """Whether this rank holds, or can open, the values of all clients."""
        return self.anywhere or len(self.positions) == len(self.owner)

    def __len__(self) -> int:
        """Return the number of clients on all ranks."""
        return len(self.owner)

    def members_here(self) -> Iterator[Any]:
        """Return the values of this rank's clients, in the order of their indices."""
        return (self.column[i] for i in self.positions)

    def members(self) -> Iterator[Any]:
        """Return the values of all clients, in the order of their indices; for data that is `complete`."""
        if self.shared is None:
            return self.members_here()
        column = self.shared.column
        return iter(column) if self.rows is None else (column[i] for i in self.rows)

    def select(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> ClientData:
        """Return a cohort: client j of it is client ``indices[j]`` of this one; the same indices on every rank.

        A view: nothing is copied or sent, and a client is computed where it lives.  Data that every rank can open is
        balanced again.  Raises `TypeError` for anything but whole numbers, `IndexError` for one that is no client,
        `ValueError` for one that comes twice.
        """
        chosen = _checked(indices, len(self))
        selected = zlib.crc32(chosen.tobytes(), self.homes)
        if self.shared is not None:
            rows = chosen if self.rows is None else self.rows[chosen]
            owner = self.shared.balance(self.shared.sizes(rows))
            return ClientData(self.type, owner, self.rank, shared=self.shared, rows=rows, selected=selected)
        owner = self.owner[chosen]
        here = chosen[owner == self.rank]
        positions = self.positions[np.searchsorted(self.mine, here)]
        return ClientData(self.type, owner, self.rank, self.column, positions, selected=selected)

    def at(self, owner: Ranks) -> ClientData:
        """Return data that every rank can open with other home ranks; nothing is sent."""
        assert self.shared is not None
        return ClientData(self.type, owner, self.rank, shared=self.shared, rows=self.rows, selected=self._selected)

    def as_type(self, type_: Type) -> tuple[Column, Indices]:
        """Return column and positions of this rank's clients as values of ``type_``, to which they can be assigned."""
        if type_ is self.type:
            return self.column, self.positions
        if laid_out_alike(self.type, type_):
            return conformed(self.column, type_), self.positions
        return pack(type_, [self.column[i] for i in self.positions]), np.arange(len(self.positions))

    def __repr__(self) -> str:
        here = f"{len(self.positions)} on rank {self.rank}"
        source = "of arrays that every rank can open" if self.anywhere else f"{self.column.nbytes:,} bytes"
        return f"<ClientData {{{self.type}}}@CLIENTS: {len(self)} clients, {here}, {source}>"

    @property
    def fedmpi_description(self) -> str:
        """What error messages call this object."""
        return f"ClientData of {{{self.type}}}@CLIENTS"


def _checked(indices: Any, count: int) -> Indices:
    """Return the indices of a cohort, int64, or raise what `ClientData.select` says."""
    where = f"\n  at {user_location()}"
    try:
        plain = isinstance(indices, np.ndarray | Sequence) and beyond_numbers(indices) is None
        array = np.asarray(indices) if plain else None
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        found = describe(indices if array is None else array)
        raise TypeError(
            f"ClientData.select: indices must be a list of clients' indices, whole numbers, found {found}{where}"
        )
    outside = array[(array < 0) | (array >= count)] if array.size else array
    if len(outside):
        raise IndexError(
            f"ClientData.select: indices must be from 0 to {count - 1}, there are {count} clients, "
            f"found {operator.index(outside[0])}{where}"
        )
    values, first, times = np.unique(array, return_index=True, return_counts=True)
    if len(values) < len(array):
        twice = array[first[times > 1].min()]
        raise ValueError(
            f"ClientData.select: indices must be different clients, found client {twice} "
            f"{times[values == twice][0]} times{where}"
        )
    return array.astype(np.int64)
