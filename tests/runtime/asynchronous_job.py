"""One rank of a job for test_asynchronous.py: a script that ends, in the way argv[1], with calls in line."""

import asyncio
import os
import signal
import sys
import time

import numpy as np

if sys.argv[1] == "one thread":
    import mpi4py

    mpi4py.rc.thread_level = "funneled"

import fedmpi as fm
from fedmpi.runtime.mpi import launch

F32 = np.float32


@fm.python_computation(F32, result=F32)
def work(x):
    time.sleep(0.2)
    if x < 0:
        raise KeyError("negative")
    return x


@fm.federated_computation(fm.type_at_clients(F32))
def worked(values):
    return fm.federated_sum(fm.federated_map(work, values))


async def wait_for(call):
    return await call


def main(way, rank):
    fm.set_default_context(fm.AsyncContext())
    calls = [worked([1.0, 2.0]) for _ in range(4)]
    match way:
        case "raise on all":
            raise ValueError(f"boom on {rank}")
        case "raise" if rank == 1:
            raise ValueError(f"boom on {rank}")
        case "exit" if rank == 1:
            sys.exit(3)
        case "os._exit" if rank == 1:
            os._exit(0)
        case "interrupt":
            signal.raise_signal(signal.SIGINT)
        case "one more call" if rank == 1:
            worked([3.0])
        case "fails":
            return worked([-1.0])
        case "awaited failure":
            bad, *_ = worked([-1.0]), worked([1.0]), worked([2.0]), worked([3.0])
            asyncio.run(wait_for(bad))
        case "one thread":
            asyncio.run(wait_for(calls[0]))
    return calls


if __name__ == "__main__":
    started = launch.detect()
    kept = main(sys.argv[1], 0 if started is None else started.rank)
