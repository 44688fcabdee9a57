"""The program of test_exits.py: federated calls in miniature, and the many ways to leave (the first argument)."""

import atexit
import contextlib
import multiprocessing
import os
import sys
import time

import numpy as np

way = sys.argv[1]
if way == "an earlier excepthook":
    sys.excepthook = lambda kind, value, trace: print("a hook of mine:", value, file=sys.stderr)

from fedmpi.language.tracing.computation import Computation  # noqa: E402  # importing fedmpi installs the hooks
from fedmpi.runtime.mpi import launch  # noqa: E402
from fedmpi.runtime.mpi.comm import Communicator  # noqa: E402

# Runs after the goodbyes, because it is registered before them.
atexit.register(lambda: print(f"{way}: waited with {time.process_time() - cpu:.2f} s of CPU") if cpu else None)
cpu = 0.0
started = launch.detect()
rank, size = (started.rank, started.size) if started else (0, 1)


def call(text, action=None):
    """Stand in for one federated call: header, action (where a client works), agreement, Reduce."""
    comm = Communicator.open()
    comm.call += 1
    comm.doing = text
    comm.bcast(np.zeros(8, np.int64))
    if action is not None:
        action()
    comm.arrive(1)
    total = np.full(1000, 1.0)
    comm.reduce(total)
    assert comm.rank != 0 or total[0] == size
    comm.doing = ""


def fail():
    raise ValueError(f"boom on {rank}")


def train(times=1):
    for _ in range(times):
        call("federated_train at train.py:30")


last = rank == size - 1
if way == "raise":
    train(2)
    if last:
        fail()
    train()
elif way == "raise in the call":
    train(2)
    call("federated_train at train.py:30", fail if last else None)
elif way == "sys.exit(3) in the call":
    train(2)
    call("federated_train at train.py:30", (lambda: sys.exit(3)) if last else None)
elif way == "raise on two":
    train(2)
    if rank:
        time.sleep(0.1 * rank)
        fail()
    train()
elif way == "raise on all":
    train(2)
    fail()
elif way == "raise on all before MPI":
    fail()
elif way == "raise after the last call":
    train(2)
    if last:
        fail()
elif way == "raise while others work":
    train(2)
    if last:
        fail()
    time.sleep(60)
elif way in ("sys.exit(3)", "sys.exit(0)", "sys.exit('sorry')", "raise SystemExit(4)", "end"):
    train(2)
    if not last:
        train()
    elif way != "end":
        exec(way)
elif way == "sys.exit(3) on all":
    train(2)
    sys.exit(3)
elif way == "end on all":
    train(2)
    print("done", rank)
elif way == "long work on rank 0":
    train(2)
    if rank == 0:
        before = time.process_time()
        while time.process_time() - before < 1.5:
            pass
        print("worked")
    else:
        cpu = time.process_time()
elif way in ("before MPI: raise", "before MPI: sys.exit(3)", "before MPI: end"):
    Computation.any_placed = way.endswith("end")
    if not last:
        train()
    elif way.endswith("raise"):
        fail()
    elif not way.endswith("end"):
        sys.exit(3)
elif way == "before MPI: raise while others work":
    if last:
        fail()
    time.sleep(60)
elif way == "nothing at all":
    Computation.any_placed = True
elif way == "initialised by the user":
    from mpi4py import MPI

    MPI.COMM_WORLD.Barrier()
    if last:
        fail()
    train()
elif way == "finalised by the user":
    from mpi4py import MPI

    train()
    MPI.Finalize()
elif way == "catch and go on":
    train()
    with contextlib.suppress(ValueError):
        fail()
    with contextlib.suppress(SystemExit):
        sys.exit(3)
    train()
    print("done", rank)
elif way == "catch sys.exit, then end early":
    with contextlib.suppress(SystemExit):
        sys.exit(3)
    train()
    if not last:
        train()
elif way == "another excepthook":
    sys.excepthook = lambda kind, value, trace: print("a hook of mine:", value, file=sys.stderr)
    train()
    if last:
        fail()
    train()
elif way == "an earlier excepthook":
    train()
    if last:
        fail()
    train()
elif way == "Ctrl-C":
    train()
    if last:
        raise KeyboardInterrupt
    train()
elif way == "a child process":
    train()
    if last:
        child = multiprocessing.get_context("fork").Process(target=sys.exit, args=(5,))
        child.start()
        child.join()
        assert child.exitcode == 5
    train()
elif way == "goodbye without an ear":
    train(2)
    if last:
        Communicator.open().say_goodbye(raised=False)
        time.sleep(60)
    train()
elif way == "outside a call":
    train(2)
    if not last:
        Communicator.open().bcast(np.zeros(3), root=size - 1)
elif way == "os._exit(3)":
    train()
    if last:
        os._exit(3)
    train()
elif way == "kill":
    train()
    if last:
        os.kill(os.getpid(), 9)
    train()
else:
    raise SystemExit(f"unknown way {way}")
