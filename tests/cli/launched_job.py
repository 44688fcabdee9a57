"""A script for `fedmpi run`: says who it is, then rank 2 (or a lone rank 0) does what the argument says, while the
others wait in a federated computation.
"""

import os
import sys
import threading
import time

import numpy as np

import fedmpi as fm
from fedmpi.runtime.mpi import launch

WAY = sys.argv[1]
started = launch.detect()
rank, size = (started.rank, started.size) if started is not None else (0, 1)

print(f"rank {rank} of {size}: {WAY}, {sys.path[0]}", flush=True)
os.write(1, f"raw {rank}\n".encode())
print(f"stderr of {rank}", file=sys.stderr, flush=True)


@fm.federated_computation(fm.type_at_clients(np.float32))
def total(values):
    return fm.federated_sum(values)


def fail():
    raise ValueError(f"boom on {rank}")


def in_thread():
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    time.sleep(60)  # as if the thread were still at work


if WAY == "all exit 7":
    total([1.0, 2.0, 3.0])
    sys.exit(7)
last = rank == size - 1
if WAY == "thread before MPI" and last:
    in_thread()
if WAY != "nothing":
    total([1.0, 2.0, 3.0])
if last:
    if WAY == "raise":
        fail()
    if WAY == "sys.exit":
        sys.exit(3)
    if WAY == "SystemExit":
        raise SystemExit(4)
    if WAY == "exit with text":
        sys.exit(f"no data on {rank}")
    if WAY == "interrupt":
        raise KeyboardInterrupt
    if WAY == "thread":
        in_thread()
total([1.0, 2.0, 3.0])
