"""Arrays that every rank can open, as the values of all clients: what `fm.client_data_from_arrays` keeps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedmpi.language.types import SequenceType, Type
from fedmpi.local.columns import Array, Column, Slot


@dataclass(frozen=True, eq=False)
class SharedArrays:
    """The rows ``offsets[k]`` to ``offsets[k + 1]`` of every leaf's data are those of client k.

    ``data`` are the leaves' data slots, views of the user's arrays or another form of them; ``offsets`` is
    int64[clients + 1].  A sequence has its rows in batches of ``batch_size``.  ``balance`` returns the owners of
    clients of given sizes.  Nothing is computed for clients before a rank has some: rank 0 keeps none of it.
    """

    type: Type
    data: tuple[Slot, ...]
    offsets: Array
    batch_size: int | None
    balance: Callable[[Array], Array]

    def sizes(self, rows: Array | None = None) -> Array:
        """Return the number of examples of each client, or of the clients ``rows``."""
        if rows is None:
            return np.diff(self.offsets)
        found: Array = self.offsets[rows + 1] - self.offsets[rows]
        return found

    @functools.cached_property
    def column(self) -> Column:
        """The values of all clients; all leaves share one array of offsets."""
        count = len(self.offsets) - 1
        if self.batch_size is None:
            assert not isinstance(self.type, SequenceType)
            return Column(self.type, count, tuple(slot for data in self.data for slot in (data, self.offsets)))
        batches, rows = batch_offsets(self.offsets, self.batch_size)
        return Column(self.type, count, (batches, *(slot for data in self.data for slot in (data, rows))))


def batch_offsets(offsets: Array, size: int) -> tuple[Array, Array]:
    """Return which batches are whose, int64[clients + 1], and which rows are in which batch, int64[batches + 1].

    Batches have ``size`` rows; the last one of a client has what is left.
    """
    batches = np.zeros(len(offsets), dtype=np.int64)
    count = np.diff(offsets)
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
