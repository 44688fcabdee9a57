"""What is said of a rank that waits for others to start."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.stderr import say

# Seconds in MPI_Init after which a rank says that it waits; times FEDMPI_PATIENCE.
PATIENCE = 30.0


def patience(seconds: float) -> float:
    """Return a number of seconds to wait, scaled by FEDMPI_PATIENCE (tests have less of it)."""
    try:
        return seconds * float(os.environ.get("FEDMPI_PATIENCE", "1"))
    except ValueError:
        return seconds


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Say on stderr, if the block takes long, that this rank of several is waiting in MPI_Init."""
    started = launch.detect()
    if started is None or started.size <= 1:
        yield
        return
    seconds = patience(PATIENCE)
    timer = threading.Timer(seconds, _tell, [started, seconds])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(started: launch.Launch, seconds: float) -> None:
    text = (
        f"has waited {seconds:.0f} s in MPI_Init: some of {started.size} ranks have not started; those that started"
        " print this line too; look above for a traceback without a rank"
    )
    if _read_from_stdin():
        text += (
            f"; this program was read from standard input, which {started.name} gives to one rank alone, so that the"
            " others had nothing to run: write it to a file"
        )
    say(f"{started.rank} of {started.size}, host {socket.gethostname()}, pid {os.getpid()}", text)


def _read_from_stdin() -> bool:
    """Tell whether Python has read its program from standard input: ``python - < program`` or ``python < program``."""
    return getattr(sys.modules["__main__"], "__file__", "") == "<stdin>"
