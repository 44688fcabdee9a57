"""Versions of client data that share a column: what changes goes to free rows, older versions stay right.

A `RowStore` has the arrays of one rank's clients, of a type of known sizes.  A `Version` is what one `ClientData`, and
the cohorts of it, see: a row for each client.  A row is free when no version that has it is left; it is used again.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import Type
from fedmpi.local.columns.column import Array, Column

Rows = np.ndarray[Any, np.dtype[np.int64]]
_GROWTH = 1.5  # how many times as large arrays get that are full


class Version:
    """The rows that some client data has in a store; while it lives, they are not written to."""

    def __init__(self, store: RowStore, rows: Rows) -> None:
        self.store, self.rows = store, rows
        store.users[rows] += 1  # NumPy adds once for each row, however many clients share it
        weakref.finalize(self, store.release, rows)


class RowStore:
    """The arrays of a column that grows, and how many versions have each of its rows."""

    def __init__(self, type_: Type, arrays: Sequence[Array], count: int) -> None:
        """Begin with ``count`` rows of these arrays, which nobody has yet."""
        self.type, self.arrays = type_, list(arrays)
        self.users = np.zeros(count, np.int32)
        self._free: list[int] = []

    def release(self, rows: Rows) -> None:
        """Take back the rows of a version that is gone."""
        self.users[rows] -= 1
        free = np.unique(rows[self.users[rows] == 0])
        self._free.extend(free[::-1].tolist())

    def write(self, slots: Sequence[Array], count: int) -> Rows:
        """Write ``count`` values, of which ``slots`` has the arrays, into free rows; return these."""
        if len(self._free) < count:
            self._grow(count - len(self._free))
        rows = np.array([self._free.pop() for _ in range(count)], np.int64)
        for array, slot in zip(self.arrays, slots, strict=True):
            array[rows] = slot
        return rows

    def _grow(self, wanted: int) -> None:
        """Make room for more rows: in new arrays, for older versions keep what they see."""
        old = len(self.users)
        size = max(old + wanted, int(old * _GROWTH))
        for i, array in enumerate(self.arrays):
            self.arrays[i] = np.empty((size, *array.shape[1:]), array.dtype)
            self.arrays[i][:old] = array
        self.users = np.concatenate([self.users, np.zeros(size - old, np.int32)])
        self._free.extend(range(size - 1, old - 1, -1))

    def has_arrays_of(self, column: Column) -> bool:
        """Tell whether a column has memory that is written to when a row is used again."""
        theirs = [array for array in column.arrays if isinstance(array, np.ndarray)]
        return any(np.may_share_memory(array, own) for array in theirs for own in self.arrays)

    def column(self) -> Column:
        """Return the arrays as a column, read-only."""
        views = []
        for array in self.arrays:
            view = array.view()
            view.flags.writeable = False
            views.append(view)
        return Column(self.type, len(self.users), tuple(views))
