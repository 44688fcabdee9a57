"""The program of test_comm.py: every message of the communicator, on any number of ranks."""

import os
import sys

import numpy as np
import pytest

import fedmpi.runtime.mpi.comm as module
from fedmpi.runtime.mpi.comm import Communicator

assert "mpi4py" not in sys.modules
comm = Communicator.open()
from mpi4py import MPI  # noqa: E402

if len(sys.argv) > 1:
    module.PIECE = module.REDUCE_PIECE = int(sys.argv[1])  # so that small messages go in pieces
rank, size, last = comm.rank, comm.size, comm.size - 1
assert (rank, size) == (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
assert comm.ranks_on_node == size
assert comm.cores == len(os.sched_getaffinity(0))

# One object for one communicator, another for another.
assert Communicator.open() is comm
assert Communicator.open(MPI.COMM_WORLD) is comm
half = MPI.COMM_WORLD.Split(rank % 2, rank)
assert Communicator.open(half) is Communicator.open(half) is not comm
assert Communicator.open(half).arrive(rank) == rank % 2
with pytest.raises(ValueError, match="intracommunicator"):
    Communicator.open(MPI.COMM_NULL)

# bcast
for dtype in ("f2", "f4", "f8", "c16", "?", "i1", "u1", "i4", "u8"):
    for root in (0, last):
        sent = np.arange(12).reshape(3, 4).astype(dtype)
        got = sent.copy() if rank == root else np.zeros((3, 4), dtype)
        comm.bcast(got, root)
        assert got.tobytes() == sent.tobytes()
for sent in (np.array(2.5), np.empty((0, 3)), np.arange(1000.0)):
    got = sent.copy() if rank == 0 else np.zeros_like(sent)
    got.flags.writeable = rank != 0  # the server's value may be read-only
    comm.bcast(got)
    assert got.tobytes() == sent.tobytes()
if size > 1:
    with pytest.raises(ValueError, match="contiguous"):
        comm.bcast(np.zeros((4, 4)).T[1:])

# arrive
assert comm.arrive(7 - rank) == 7 - last
assert comm.arrive(-(2**62) if rank == last else 2**62) == -(2**62) if size > 1 else True

# reduce
for dtype in (np.int64, np.float64):
    mine = np.arange(60, dtype=dtype).reshape(6, 10) * (rank + 1)
    comm.reduce(mine)
    if rank == 0:
        assert (mine == np.arange(60).reshape(6, 10) * (size * (size + 1) // 2)).all()
    else:
        assert (mine == np.arange(60).reshape(6, 10) * (rank + 1)).all()

# bytes of any size, also none
mine = np.full(5 * rank, rank, np.uint8)
gathered = comm.gather_bytes(mine)
assert (gathered is None) == (rank != 0)
for parts in (gathered, comm.allgather_bytes(mine)):
    if parts is not None:
        assert [part.tolist() for part in parts] == [[r] * (5 * r) for r in range(size)]
parts = comm.exchange_bytes([np.full(3 * rank + r, 10 * rank + r, np.uint8) for r in range(size)])
assert [part.tolist() for part in parts] == [[10 * r + rank] * (3 * r + rank) for r in range(size)]
text = "ein längerer Text, größer als ein Stück"
for root in (0, last):
    data = np.frombuffer(text.encode(), np.uint8) if rank == root else None
    assert comm.bcast_bytes(data, root).tobytes().decode() == text
assert comm.bcast_bytes(np.empty(0, np.uint8)).size == 0

# small messages
if size > 1:
    if rank == 0:
        comm.post(last, 9, np.arange(3, dtype=np.uint8))
    elif rank == last:
        while (message := comm.fetch(9)) is None:
            pass
        assert message[0] == 0
        assert message[1].tolist() == [0, 1, 2]
    assert comm.fetch(9) is None

sys.stdout.write(f"{comm!r} is fine\n")
