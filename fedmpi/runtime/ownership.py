"""Which rank hosts which client.

Longest processing time first (R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17,
1969): the largest client that is left goes to the rank with the least to do.  Ties go to the smaller index, so that
every rank computes the same answer from the same sizes.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Ranks = np.ndarray[Any, np.dtype[np.int32]]


def hosts(size: int, server_trains: bool) -> list[int]:
    """Return the ranks that host clients: all but the server, unless it is alone or helps."""
    return list(range(size)) if server_trains or size == 1 else list(range(1, size))


def homes(*owners: Ranks) -> int:
    """Return a hash of which rank owns which client, for ranks to compare."""
    found = 0
    for owner in owners:
        found = zlib.crc32(owner.tobytes(), found)
    return found


def assign(sizes: Sequence[int] | np.ndarray[Any, Any], ranks: Sequence[int]) -> Ranks:
    """Return the owner of each client, int32[number of clients]; ``sizes`` are work in any unit."""
    work = np.asarray(sizes, dtype=np.int64)
    owner = np.empty(len(work), dtype=np.int32)
    loads = [(0, rank) for rank in ranks]
    for client in np.argsort(-work, kind="stable"):
        load, rank = loads[0]
        owner[client] = rank
        # A client without examples still costs something: empty clients are spread as well.
        heapq.heapreplace(loads, (load + max(int(work[client]), 1), rank))
    return owner
