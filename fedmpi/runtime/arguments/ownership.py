"""Which rank hosts which client.

Longest processing time first (R. L. Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17,
1969): the largest client that is left goes to the rank with the least to do.  Ties go to the smaller index, so that
every rank computes the same answer from the same sizes.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.local.columns.client_data import Ranks

_CHUNK = 1 << 16  # clients dealt at a time: a Python number of each takes 32 bytes
_EVEN = 1.02  # how much more than it must a rank may have to do
_LONG = 256  # clients of one size, from which it pays to deal them at once


@functools.lru_cache(maxsize=64)
def hosts(size: int, server_trains: bool) -> list[int]:
    """Return the ranks that host clients: all but the server, unless it is alone or helps (not to be changed)."""
    return list(range(size)) if server_trains or size == 1 else list(range(1, size))


def assign(sizes: Sequence[int] | np.ndarray[Any, Any], ranks: Sequence[int]) -> Ranks:
    """Return the owner of each client, int[number of clients]; ``sizes`` are work in any unit."""
    work = np.asarray(sizes, dtype=np.int64)
    most = int(work.max(initial=0))
    loads = _Loads(ranks)
    if int(work.min(initial=most)) == most:
        return loads.deal_alike(most, len(work))
    # Millions of clients take few bytes here: what is missing to the largest, in the smallest type.
    work = (most - work).astype(np.min_scalar_type(most))
    order = np.argsort(work, kind="stable")
    work = work[order]
    owner = np.empty(len(work), dtype=loads.dtype)
    for start, stop, alike in _pieces(work):
        if alike:
            owner[order[start:stop]] = loads.deal_alike(most - int(work[start]), stop - start)
        else:
            owner[order[start:stop]] = loads.deal(most - work[start:stop].astype(np.int64))
    return owner


def assign_blocks(sizes: np.ndarray[Any, Any], blocks: np.ndarray[Any, Any], ranks: Sequence[int]) -> Ranks:
    """Return owners for which the clients of a block (int64[clients], ascending) are together on one rank."""
    owner: Ranks = assign(np.bincount(blocks, weights=sizes).astype(np.int64), ranks)[blocks]
    return owner


def assign_evenly(sizes: np.ndarray[Any, Any], blocks: np.ndarray[Any, Any], ranks: Sequence[int]) -> Ranks:
    """Return owners that keep blocks together where that costs next to no balance, and the best ones otherwise."""
    work = np.maximum(np.asarray(sizes, dtype=np.int64), 1)
    least = max(work.sum() / len(ranks), work.max(initial=0))  # of the largest load, however clients are dealt
    owner = assign_blocks(work, blocks, ranks)
    if np.bincount(owner, weights=work).max(initial=0) <= _EVEN * least:
        return owner
    return assign(sizes, ranks)


def _pieces(work: np.ndarray[Any, Any]) -> Iterator[tuple[int, int, bool]]:
    """Yield the pieces of sorted sizes: start, stop, and whether they are a long run of one size."""
    edges = np.flatnonzero(work[1:] != work[:-1]) + 1
    edges = np.concatenate([[0], edges, [len(work)]])  # where a run of one size begins, and the end
    long = np.flatnonzero(np.diff(edges) >= _LONG)
    at = 0
    for start, stop in [*zip(edges[long], edges[long + 1], strict=True), (len(work), len(work))]:
        for chunk in range(at, start, _CHUNK):
            yield chunk, min(chunk + _CHUNK, start), False
        if start < stop:
            yield start, stop, True
        at = stop


class _Loads:
    """The ranks' loads: a heap of the numbers load · 2^bits + rank, which sort by load, then by rank."""

    def __init__(self, ranks: Sequence[int]) -> None:
        self.bits = max(ranks).bit_length()
        self.dtype = np.min_scalar_type(max(ranks))
        self.heap = sorted(ranks)

    def deal(self, sizes: np.ndarray[Any, Any]) -> list[int]:
        """Return the ranks that clients of descending sizes go to, one after the other."""
        heap, mask, replace = self.heap, (1 << self.bits) - 1, heapq.heapreplace
        sizes = np.maximum(sizes, 1)  # a client without examples still costs something: those are spread as well
        return [replace(heap, heap[0] + (size << self.bits)) & mask for size in sizes.tolist()]

    def deal_alike(self, size: int, count: int) -> np.ndarray[Any, Any]:
        """Return the same for ``count`` clients of one size."""
        step, ranks = max(size, 1) << self.bits, len(self.heap)
        dealt: list[Any] = []
        left, some = count, ranks
        while left:
            if left >= ranks and max(self.heap) < self.heap[0] + step:
                # Each rank is due once before any is due again, and so it goes round.
                self.heap.sort()
                rounds, due = left // ranks, [key & ((1 << self.bits) - 1) for key in self.heap]
                self.heap = [key + rounds * step for key in self.heap]
                dealt.append(np.tile(np.array(due, dtype=self.dtype), rounds))
                left -= rounds * ranks
            else:
                some = min(left, 2 * some)
                dealt.append(self.deal(np.full(some, size)))
                left -= some
        return np.concatenate([np.asarray(part, dtype=self.dtype) for part in dealt] or [np.empty(0, self.dtype)])
