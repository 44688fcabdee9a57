"""`ClientData`: a value at the clients, packed once and kept on the ranks that own its clients."""

from __future__ import annotations

import functools
import operator
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.errors import Report
from fedmpi.language.types import Type
from fedmpi.local.columns.column import Column, conformed, dense_rows, is_fixed, laid_out_alike, pack
from fedmpi.local.columns.shared_arrays import SharedArrays
from fedmpi.local.columns.taking import joined, take
from fedmpi.local.columns.values import describe
from fedmpi.local.columns.versions import RowStore, Version

Indices = np.ndarray[Any, np.dtype[np.int64]]
Ranks = np.ndarray[Any, np.dtype[Any]]  # of the smallest integer type that holds them
# How data is brought to other home ranks, and read on rank 0: the runtime enters it.
MOVING: dict[str, Callable[..., Any]] = {}


class ClientData:
    """One value of ``type`` for each client, as an argument of any computation that takes ``{type}@CLIENTS``.

    Its clients are numbered 0, 1, 2, …; `indices` says which clients they are, whatever cohort they are in.
    ``owner`` int[number of clients] gives each client's rank.  ``column`` holds values, and is never copied or sent
    again: those of this rank's clients are its rows ``positions`` int64[number of them], by ascending number of the
    clients (default: all rows).

    Data that every rank can open has a ``shared`` source instead of a column; ``rows`` int64[number of clients] are
    then the rows of all clients (default: all rows).

    ``cohort`` int64[number of clients] are the indices, None where they are 0, 1, 2, ….  ``ranks`` is that which the
    owners are ranks of, a communicator (default: of one rank).  ``source`` is a hash of where the values come from.
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
        cohort: Indices | None = None,
        ranks: object = None,
        source: int = 0,
        version: Version | None = None,
        keeps: tuple[Version, ...] = (),
    ) -> None:
        self.type, self.owner, self.rank = type, owner, rank
        self.shared, self.rows = shared, rows
        self.cohort, self.ranks, self.source = cohort, ranks, source
        self._column = column
        self._version = version  # as long as it lives, nobody writes to its rows
        self._keeps = keeps  # versions of other data that has some of the same rows
        if positions is None:
            if shared is None:
                assert column is not None
                positions = np.arange(column.count, dtype=np.int64)
            else:
                positions = self.mine if rows is None else rows[self.mine]
        self.positions = positions

    @property
    def versions(self) -> tuple[Version, ...]:
        """What keeps the rows of this data, where they stand in a store in which others are written."""
        return self._keeps if self._version is None else (self._version, *self._keeps)

    @property
    def indices(self) -> Indices:
        """Which clients these are, int64[number of clients], read-only: 0, 1, 2, … where the data is made.

        A cohort's clients, and what is computed for them, keep theirs.  All arguments of a call must have the same.
        """
        return read_only(np.arange(len(self), dtype=np.int64)) if self.cohort is None else self.cohort

    @property
    def column(self) -> Column:
        """The column whose rows `positions` are; of shared arrays its offsets are computed where it is first needed."""
        if self._column is None:
            assert self.shared is not None
            self._column = self.shared.column if len(self.positions) else pack(self.type, [])
        return self._column

    @functools.cached_property
    def mine(self) -> Indices:
        """Numbers of the clients of this rank, ascending."""
        return np.flatnonzero(self.owner == self.rank)

    @property
    def owned(self) -> list[int]:
        """Numbers of the clients of this rank, ascending, as a list."""
        return [int(i) for i in self.mine]

    @functools.cached_property
    def homes(self) -> int:
        """A hash of which clients these are, which rank owns which, and where they come from: for ranks to compare."""
        return zlib.crc32(np.ascontiguousarray(self.owner).data, self._whose)

    @functools.cached_property
    def _whose(self) -> int:
        return self.source if self.cohort is None else zlib.crc32(self.cohort.data, self.source)

    @property
    def anywhere(self) -> bool:
        """Whether every rank can open the values of all clients."""
        return self.shared is not None

    @property
    def everything_here(self) -> bool:
        """Whether this rank is the only one that owns clients."""
        return self.rank == 0 and len(self.positions) == len(self.owner)

    @property
    def complete(self) -> bool:
        """Whether this rank holds, or can open, the values of all clients."""
        return self.anywhere or len(self.positions) == len(self.owner)

    def __len__(self) -> int:
        """Return the number of clients on all ranks."""
        return len(self.owner)

    def __getitem__(self, number: int) -> Any:
        """Return the value of one client on rank 0, a placeholder elsewhere: every rank asks (a message each time).

        For several there is `fm.gather`, for all of many `blocks`, and a cohort is `select`.
        """
        return MOVING["item"](self, number)

    def __iter__(self) -> Iterator[Any]:
        """Yield the clients' values on rank 0, placeholders elsewhere, block by block; every rank goes through them."""
        return MOVING["members"](self)  # type: ignore[no-any-return]

    def blocks(self, clients: int | None = None) -> Iterator[Any]:
        """Yield the clients' values on rank 0 in order, ``clients`` at a time (default: 64 MB), in plain arrays.

        A block has ``start``, ``count`` and ``arrays`` (those of a column, docs/client-states.md; none on other ranks),
        and ``values()``.  Every rank goes through all blocks.  `fm.client_data.from_blocks` makes the data again, on
        any number of ranks.
        """
        return MOVING["blocks"](self, clients)  # type: ignore[no-any-return]

    @functools.cached_property
    def sizes(self) -> Indices:
        """How many examples each client has, int64[number of clients], on all ranks; all ask for it the first time.

        The examples of a sequence are the rows of its batches, or its elements; anything else is one.
        """
        return MOVING["sizes"](self)  # type: ignore[no-any-return]

    def __array__(self, *_: object, **__: object) -> NoReturn:
        text = f"a {self.fedmpi_description} is no array: each rank has the values of its own clients alone"
        raise TypeError(str(Report.here(text, "fm.gather(data) brings all values to rank 0 as a list", who="array")))

    def members_here(self) -> Iterator[Any]:
        """Return the values of this rank's clients, in the order of their numbers."""
        return (self.column[i] for i in self.positions)

    def members(self) -> Iterator[Any]:
        """Return the values of all clients, in the order of their numbers; for data that is `complete`."""
        if self.shared is None:
            return self.members_here()
        column = self.shared.column
        return iter(column) if self.rows is None else (column[i] for i in self.rows)

    def select(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> ClientData:
        """Return a cohort: client j of it is client number ``indices[j]`` of this one; the same on every rank.

        A view: nothing is copied or sent, and a client is computed where it lives.  Data that every rank can open is
        balanced again.  The clients keep their `indices`, which in a cohort of a cohort are not their numbers.  Raises
        `TypeError` for anything but whole numbers, `IndexError` for one that is no client, `ValueError` for one that
        comes twice.
        """
        chosen = _checked(indices, self)
        cohort = read_only(chosen if self.cohort is None else self.cohort[chosen])
        if self.shared is not None:
            rows = chosen if self.rows is None else self.rows[chosen]
            return self._with(self.shared.balance(self.shared.sizes(rows)), rows=rows, cohort=cohort)
        owner = self.owner[chosen]
        here = chosen[owner == self.rank]
        positions = self.positions[np.searchsorted(self.mine, here)]
        return self._with(owner, self.column, positions, cohort=cohort)

    def renumbered(self) -> ClientData:
        """Return the same clients with the indices 0, 1, 2, …: for pairing them with other clients' values.

        A view, as a cohort is.
        """
        renumbered = self._with(self.owner, self._column, self.positions, rows=self.rows, cohort=None)
        renumbered.source = self._whose  # other clients remain others
        return renumbered

    def at(self, owner: Ranks) -> ClientData:
        """Return data that every rank can open with other home ranks; nothing is sent."""
        assert self.shared is not None
        return self._with(owner, rows=self.rows, cohort=self.cohort)

    def moved(self, owner: Ranks, column: Column, positions: Indices) -> ClientData:
        """Return the same clients with other home ranks, in the column that this rank has of them then."""
        return self._with(owner, column, positions, cohort=self.cohort)

    def updated(self, cohort: ClientData) -> ClientData:
        """Return the same clients, of which those of ``cohort`` have its values; this data stays as it is.

        ``cohort`` is what a computation returned for some of these clients (`Computation.resident`), which it knows by
        their `indices`.  Its values go into free rows of the column of this data; values that were computed on another
        rank than the one where their client lives are sent home.  Every rank calls it.  Raises `TypeError` for values
        of another type, `IndexError` for a client that is none of these.
        """
        who = "ClientData.updated"
        if not isinstance(cohort, ClientData) or not self.type.is_assignable_from(cohort.type):
            found = describe(cohort)
            raise TypeError(str(Report.here(f"cohort must be ClientData of {self.type}, found {found}", who=who)))
        if cohort.ranks is not self.ranks:
            raise ValueError(str(Report.here("cohort must be of the same ranks, found one of others", who=who)))
        numbers = self._numbers(cohort)
        homes = self.owner[numbers]
        if not np.array_equal(homes, cohort.owner):
            cohort = MOVING["to"](cohort, homes)
        column, new = cohort.as_type(self.type)
        mine = np.searchsorted(self.mine, numbers[cohort.mine])  # of this rank's clients, which have new values
        made = self._rewritten(column, new, mine)
        made.source = zlib.crc32(np.int64(cohort._whose).tobytes(), self.source)
        return made

    def _numbers(self, cohort: ClientData) -> Indices:
        """Return which of these clients those of a cohort are."""
        indices = cohort.indices
        if self.cohort is None:
            outside = indices[(indices < 0) | (indices >= len(self))]
            numbers = indices
        else:
            order = np.argsort(self.cohort, kind="stable")
            places = np.minimum(np.searchsorted(self.cohort[order], indices), max(len(self) - 1, 0))
            numbers = order[places] if len(self) else np.zeros(len(indices), np.int64)
            outside = indices[self.cohort[numbers] != indices] if len(self) else indices
        if len(outside):
            text = f"cohort must be clients of this data, found client {outside[0]}, which is none of its {len(self)}"
            raise IndexError(str(Report.here(text, who="ClientData.updated")))
        return numbers

    def _rewritten(self, column: Column, new: Indices, places: Indices) -> ClientData:
        """Return this data with the values ``new`` of a column for this rank's clients at ``places``."""
        if not is_fixed(self.type):  # of open sizes there are no rows to use again
            stay = np.ones(len(self.positions), bool)
            stay[places] = False
            whole = joined(self.type, [take(self.column, self.positions[stay]), take(column, new)])
            positions = np.empty(len(stay), np.int64)
            positions[stay], positions[places] = np.arange(stay.sum()), stay.sum() + np.arange(len(new))
            return self._with(self.owner, whole, positions, cohort=self.cohort, shared=None)
        version, positions = self._version, self.positions.copy()
        if version is None:
            rows, positions = np.unique(positions, return_inverse=True)
            store = RowStore(self.type, dense_rows(self.column, rows), len(rows))
            version = Version(store, np.arange(len(rows)))
        positions[places] = version.store.write(dense_rows(column, new), len(new))
        made = Version(version.store, positions)
        return self._with(self.owner, made.store.column(), positions, cohort=self.cohort, shared=None, version=made)

    def _with(
        self,
        owner: Ranks,
        column: Column | None = None,
        positions: Indices | None = None,
        *,
        rows: Indices | None = None,
        cohort: Indices | None,
        **changed: Any,
    ) -> ClientData:
        return ClientData(
            self.type,
            owner,
            self.rank,
            column,
            positions,
            rows=rows,
            cohort=cohort,
            ranks=self.ranks,
            source=self.source,
            **{
                "shared": self.shared,
                "version": self._version if column is self._column else None,
                "keeps": self._keeps if column is self._column else (),
                **changed,
            },
        )

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

    def __copy__(self) -> ClientData:
        return self  # nothing of it changes

    def __deepcopy__(self, memo: object) -> ClientData:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        report = Report.here(
            f"a {self.fedmpi_description} cannot be pickled: each rank has the values of its own clients alone",
            "keep the list or the arrays that it was made of, and make it again where it is needed; "
            "a computation that returns its argument brings the values to rank 0 as a list",
            who="pickle",
        )
        raise TypeError(str(report))


def read_only(array: Indices) -> Indices:
    """Return an array that is not to be written to."""
    array.flags.writeable = False
    return array


def unlike(one: ClientData, other: ClientData) -> int | None:
    """Return the first number at which data of as many clients have different ones; None if there is none."""
    if one.cohort is other.cohort:
        return None
    differ = one.indices != other.indices
    first = int(differ.argmax()) if len(differ) else 0
    return first if len(differ) and differ[first] else None


def _checked(indices: Any, data: ClientData) -> Indices:
    """Return the numbers of a cohort's clients, int64, or raise what `ClientData.select` says."""
    count, who = len(data), "ClientData.select"
    try:
        plain = isinstance(indices, np.ndarray | Sequence) and beyond_numbers(indices) is None
        array = np.asarray(indices) if plain else None
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        found = describe(indices if array is None else array)
        text = f"indices must be a list of clients' indices, whole numbers, found {found}"
        raise TypeError(str(Report.here(text, who=who)))
    outside = array[(array < 0) | (array >= count)] if array.size else array
    if len(outside):
        text = f"indices must be from 0 to {count - 1}, there are {count} clients, found {operator.index(outside[0])}"
        raise IndexError(str(Report.here(text, _hint_for_cohorts(data), who=who)))
    values, first, times = np.unique(array, return_index=True, return_counts=True)
    if len(values) < len(array):
        twice = array[first[times > 1].min()]
        text = f"indices must be different clients, found client {twice} {times[values == twice][0]} times"
        raise ValueError(str(Report.here(text, who=who)))
    return array.astype(np.int64)


def _hint_for_cohorts(data: ClientData) -> str:
    if data.cohort is None or not len(data):
        return ""
    return f"these are numbers in a cohort, whose client number 0 is client {data.cohort[0]}"
