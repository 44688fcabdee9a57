"""The cores that the ranks of a node share."""

from __future__ import annotations

import os
from collections.abc import Set
from typing import Any

import numpy as np

_BYTES = 1024  # the kernel's largest CPU set has 8,192 bits


def own() -> Set[int]:
    """Return the cores that this process may run on: all of the machine where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def survey(comm: Any, mpi: Any) -> tuple[int, int]:
    """Return how many ranks of an MPI communicator share this rank's node, and how many cores they may run on
    between them (collective).
    """
    node = comm.Split_type(mpi.COMM_TYPE_SHARED, comm.Get_rank())
    mask = np.zeros(_BYTES, np.uint8)
    for core in own():
        mask[core >> 3] |= 1 << (core & 7)
    node.Allreduce(mpi.IN_PLACE, mask, mpi.BOR)
    ranks: int = node.Get_size()
    node.Free()
    return ranks, int(np.unpackbits(mask).sum())
