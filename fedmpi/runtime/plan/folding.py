"""How ``federated_aggregate`` folds: at most `BLOCKS` blocks of clients, each from zero and in order, merged in a tree.

Blocks and tree depend on the number of clients alone, so neither the ranks nor who owns which client can change a bit.
The clients of a block are folded on one rank, its home.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.local.columns.client_data import Ranks

Clients = np.ndarray[Any, np.dtype[np.int64]]
BLOCKS = 64


def blocks_of(clients: int) -> Clients:
    """Return the block of each client, int64[clients]: 0, …, in runs as long as each other, but for one client."""
    blocks = min(clients, BLOCKS)
    starts = np.arange(blocks + 1) * clients // max(blocks, 1)
    return np.repeat(np.arange(blocks), np.diff(starts))


def is_whole(owner: Ranks, blocks: Clients) -> bool:
    """Tell whether the clients of each block are all on one rank."""
    return bool(np.all((owner[1:] == owner[:-1]) | (blocks[1:] != blocks[:-1])))


def homes_of(owner: Ranks, blocks: Clients) -> Ranks:
    """Return for each client the home of its block: the rank of the block's first client."""
    firsts = np.flatnonzero(np.diff(blocks, prepend=-1))
    homes: Ranks = owner[firsts][blocks]
    return homes


def numbered(blocks: Clients) -> Clients:
    """Return the blocks of a rank's clients, ascending, numbered from 0 on."""
    number: Clients = np.cumsum(np.diff(blocks, prepend=blocks[:1]) != 0)
    return number


class Fold:
    """The ``states`` of a rank's blocks, folded client by client."""

    def __init__(self, accumulate: Callable[[Any], Any], zero: Any) -> None:
        self._accumulate, self._zero = accumulate, zero
        self._block = -1
        self.states: list[Any] = []

    def next(self, member: Any, block: int) -> Any:
        """Return the state with the next client, of a block that is the last one's or a later one; nothing changes."""
        return self._accumulate((self.states[-1] if block == self._block else self._zero, member))

    def take(self, state: Any, block: int) -> None:
        """Have a block's next state."""
        if block == self._block:
            self.states[-1] = state
        else:
            self.states.append(state)
            self._block = block


def merged(states: Sequence[Any], merge: Callable[[Any], Any]) -> Any:
    """Return what one state or more come to: neighbours are merged, those that come of it again, until one is left.

    ``merge`` takes a pair; an odd state at the end waits for the next time.
    """
    while len(states) > 1:
        pairs = [merge((states[i], states[i + 1])) for i in range(0, len(states) - 1, 2)]
        states = [*pairs, *states[2 * len(pairs) :]]
    return states[0]
