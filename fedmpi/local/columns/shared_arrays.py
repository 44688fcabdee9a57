"""Arrays that every rank can open, as the values of all clients: what `fm.client_data_from_arrays` keeps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedmpi.language.types import Type
from fedmpi.local.columns.column import Array, Column
from fedmpi.local.columns.storage import stored, survey


@dataclass(frozen=True, eq=False)
class SharedArrays:
    """The rows ``offsets[k]`` to ``offsets[k + 1]`` of every leaf's data are those of client k.

    ``data`` are views of the user's arrays; ``offsets`` is int64[clients + 1].  A sequence has its rows in batches of
    ``batch_size``.  ``balance`` returns the owners of clients of given sizes.  ``storage`` says how the column keeps
    floats: all of them, so that every rank can go on opening all clients.
    """

    type: Type
    data: tuple[Array, ...]
    offsets: Array
    batch_size: int | None
    balance: Callable[[Array], Array]
    storage: str = "dense"

    def sizes(self, rows: Array | None = None) -> Array:
        """Return the number of examples of each client, or of the clients ``rows``."""
        if rows is None:
            return np.diff(self.offsets)
        found: Array = self.offsets[rows + 1] - self.offsets[rows]
        return found

    @functools.cached_property
    def column(self) -> Column:
        """The values of all clients; all leaves share one array of offsets.

        Made where it is first asked for: a rank without clients, such as rank 0, keeps nothing of the kind.  Raises
        `fedmpi.local.columns.storage.NotBytes`.
        """
        arrays, rows = [], self.offsets
        if self.batch_size is not None:
            batches, rows = batch_offsets(self.offsets, self.batch_size)
            arrays.append(batches)
        for data in self.data:
            arrays += [data, rows]
        column = Column(self.type, len(self.offsets) - 1, tuple(arrays))
        return stored(column, self.storage, survey(column, self.storage))


def batch_offsets(offsets: Array, size: int) -> tuple[Array, Array]:
    """Return which batches are whose, int64[clients + 1], and which rows are in which batch, int64[batches + 1].

    Batches have ``size`` rows; the last one of a client has what is left.
    """
    count = np.diff(offsets)
    size = min(size, int(count.max(initial=1)))  # no batch is larger: sums with it do not overflow
    if count.min(initial=size) > 0 and count.max(initial=0) <= size:
        del count  # its memory serves again
        batches = np.arange(len(offsets))  # one batch a client: the offsets serve as they are
        batches.flags.writeable = False
        return batches, offsets
    batches = np.zeros(len(offsets), dtype=np.int64)
    count += size - 1
    count //= size
    np.cumsum(count, out=batches[1:])
    rows = np.empty(int(batches[-1]) + 1, dtype=np.int64)
    # Batch j of client k begins at row offsets[k] + size * (j - batches[k]).
    rows[:-1] = np.repeat(offsets[:-1] - size * batches[:-1], count)
    rows[:-1] += size * np.arange(len(rows) - 1)
    rows[-1] = offsets[-1]
    batches.flags.writeable = rows.flags.writeable = False
    return batches, rows
