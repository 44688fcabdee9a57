"""What a command prints: on one rank only, as plain lines, with a live line below them on a terminal."""

from __future__ import annotations

import os
import sys
import time

from fedmpi.runtime.mpi import launch


def is_first() -> bool:
    """Tell whether this is the process that prints, by the launcher's environment: MPI is not asked."""
    started = launch.detect()
    return started is None or started.rank == 0


def write(text: str) -> None:
    """Print a line on stdout; when nobody reads it any more (`| head`), go on without: other ranks need this one."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """A line such as ``[######..............] 5/18  1.3 s`` that is rewritten in place, if stdout is a terminal.

    A launcher's is not taken for one: Open MPI gives its ranks a pseudo-terminal when its own output goes into a file.
    """

    WIDTH = 30

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total = total
        self._shown = shown and launch.detect() is None and sys.stdout.isatty()
        self._started = time.monotonic()

    def show(self, done: int) -> None:
        """Write the line; `done` of the steps are done."""
        if self._shown:
            filled = self.WIDTH * done // max(1, self._total)
            bar = "#" * filled + "." * (self.WIDTH - filled)
            seconds = time.monotonic() - self._started
            print(f"\r\x1b[K[{bar}] {done}/{self._total}  {seconds:.1f} s", end="", flush=True)

    def clear(self) -> None:
        """Remove the line, so that another can be printed in its place."""
        if self._shown:
            print("\r\x1b[K", end="", flush=True)
