"""The programs of test_forked.py: what a process made by os.fork may do inside a client's function and outside.

A client's function forks, waits, and gives how the child ended; the job goes on.  Ranks say "done" at the end.
"""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys

import numpy as np

import fedmpi as fm
from fedmpi.language.errors import ContextError
from fedmpi.runtime.mpi import launch

F32 = np.float32


@fm.numba_computation(F32)
def double(x):
    return x + x


def refused(action):
    """Exit with 0 if the call is refused as one of a forked process."""
    try:
        action()
    except ContextError as error:
        sys.exit(0 if "made by os.fork and has no MPI" in str(error) and "spawn" in str(error) else 4)
    sys.exit(5)


def boom():
    raise ValueError("boom in the child")


def leave(code):
    raise SystemExit(code)


def interrupted():
    raise KeyboardInterrupt


def works():
    global way
    way = ""
    assert double(2.0) == 4.0
    with fm.ReferenceContext():
        assert total([1.0, 2.0]) == 3.0
    sys.exit(0)


def grandchild():
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


# What the child does, and its exit code (a signal's number, negative).
WAYS = {
    "sys.exit(0)": (lambda: sys.exit(0), 0),
    "sys.exit(3)": (lambda: sys.exit(3), 3),
    "sys.exit text": (lambda: sys.exit("sorry"), 1),
    "SystemExit": (lambda: leave(4), 4),
    "os._exit": (lambda: os._exit(6), 6),
    "raise": (boom, 1),
    "return": (lambda: None, 1),
    "KeyboardInterrupt": (interrupted, 130),
    "signal": (lambda: os.kill(os.getpid(), signal.SIGKILL), -9),
    "a call": (lambda: refused(lambda: total([1.0])), 0),
    "replicate": (lambda: refused(lambda: fm.replicate(1)), 0),
    "is_server": (lambda: refused(fm.is_server), 0),
    "client_data": (lambda: refused(lambda: fm.client_data([1.0], F32)), 0),
    "new context": (lambda: refused(lambda: fm.MpiContext().is_server), 0),
    "what needs no ranks": (works, 0),
    "grandchild": (grandchild, 3),
}
way = ""


@fm.python_computation(F32, result=F32)
def forks(x):
    if not way:
        return x
    pid = os.fork()
    if pid == 0:
        WAYS[way][0]()
        return x
    return np.float32(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


total = fm.federated_computation(lambda x: fm.federated_sum(fm.federated_map(forks, x)), fm.type_at_clients(F32))


def in_a_client():
    global way
    for way, (_, code) in WAYS.items():
        assert fm.replicate(total([1.0, 2.0])) == 2 * code, way
    way = ""
    assert fm.replicate(total([1.0, 2.0])) == 3


def in_a_thread():
    """The calls of an `AsyncContext` run in a thread."""
    global way

    async def program():
        return [await total([1.0])]

    for way in ("sys.exit(3)", "raise", "return"):
        with fm.AsyncContext():
            (got,) = asyncio.run(program())
        assert fm.replicate(got) == WAYS[way][1], way


def outside():
    """Children made between calls."""
    fm.is_server()
    for act, code in ((lambda: sys.exit(3), 3), (lambda: None, 0), (boom, 1), (lambda: refused(fm.is_server), 0)):
        pid = os.fork()
        if pid == 0:
            act()
            return False  # the end of the script
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
        assert fm.replicate(1) == 1
    return True


def _square(x):
    return x * x


@fm.python_computation(F32, result=F32)
def pooled(x):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        subprocess.run([sys.executable, "-c", ""], check=True, preexec_fn=lambda: None)
        return np.float32(sum(pool.map(_square, [1, 2, int(x)])))


def pool():
    squares = fm.federated_computation(lambda x: fm.federated_sum(fm.federated_map(pooled, x)), fm.type_at_clients(F32))
    assert fm.replicate(squares([3.0, 4.0])) == 14 + 21


def before_mpi():
    """A child made before MPI is initialised does not begin it under a launcher."""
    pid = os.fork()
    if pid == 0:
        refused(lambda: fm.replicate(1))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if launch.detect() else 5)
    assert fm.replicate(1) == 1


def proxy_raises():
    """An exception that cannot be printed as others are ends the job all the same."""

    class Proxy(Exception):
        def __getattr__(self, name):
            return getattr(self.wrapped, name)

    if not fm.is_server():
        raise Proxy("text of the proxy")
    fm.replicate(1)


if __name__ == "__main__":
    if {**globals()}[sys.argv[1]]() is not False:
        sys.stdout.write("done\n")
