"""How the secure sums of a rank are masked before they are sent (docs/secure.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.local.sums import masks
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.stage.accumulator import Accumulator


def hide(comm: Communicator, sums: Accumulator, owner: Any, hosts: Sequence[int]) -> None:
    """Mask this rank's secure sums (collective).

    ``hosts`` are the ranks that host clients as a rule; data may have been packed when others did.
    """
    key = tuple(sorted({*hosts, *np.flatnonzero(np.bincount(owner)).tolist()}))
    if key not in comm.secrets:
        comm.secrets[key] = _shared(comm, key)
    comm.masked += 1
    pairs = masks.boundary(owner, comm.rank)
    if len(pairs):
        sums.mask(comm.secrets[key], comm.masked, pairs)


def _shared(comm: Communicator, hosts: Sequence[int]) -> Any:
    """Return a random key that the ranks which host clients share; others, the server's as a rule, get none."""
    first, nothing = hosts[0], np.empty(0, np.uint8)
    key = np.frombuffer(os.urandom(4 * masks.KEY_WORDS), np.uint8)
    outgoing = [key if comm.rank == first and rank in hosts else nothing for rank in range(comm.size)]
    received = comm.exchange_bytes(outgoing)[first]
    mine = key if comm.rank == first else received
    return mine.view(np.uint32) if mine.size else np.empty(0, np.uint32)
