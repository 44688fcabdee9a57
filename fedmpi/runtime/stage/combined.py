"""One Reduce for numbers of two kinds: sums, which are added, and keys, of which the greatest counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.sums.extremes import Keys
from fedmpi.runtime.mpi.comm import REDUCE_PIECE, Communicator

Sums = np.ndarray[Any, np.dtype[np.float64]]


def reduce(comm: Communicator, sums: Sums, keys: Keys) -> None:
    """Add the ranks' ``sums`` and take the greatest of their ``keys`` on rank 0, in place.

    One Reduce, with an operation of ours where there are both; two where the message is too long to be one piece.
    """
    if not sums.size or not keys.size or sums.nbytes + keys.nbytes > REDUCE_PIECE:
        comm.reduce(sums)
        comm.reduce(keys, "MAX")
        return
    count, message = sums.size, np.concatenate([sums.view(np.uint64), keys])

    def combine(other: Any, own: Any, _: Any) -> None:
        theirs, ours = np.frombuffer(other, np.uint64), np.frombuffer(own, np.uint64)
        total = ours[:count].view(np.float64)
        total += theirs[:count].view(np.float64)
        np.maximum(ours[count:], theirs[count:], out=ours[count:])

    comm.reduce(message, combine)
    sums[:], keys[:] = message[:count].view(np.float64), message[count:]
