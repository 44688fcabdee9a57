"""Start a command that starts ranks, such as mpiexec, and leave nothing of it behind.

To end the launcher is not enough, and no process group or session has all of a job in it (Open MPI gives each rank a
group of its own, MPICH a session); so every process is found by a mark in its environment.  Where there is no /proc,
what the launcher itself ends is all that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

MARK = "FEDMPI_JOB"
# Seconds for a launcher to end its ranks, those on other hosts among them, before the ones here are killed.
TO_END = 2.0


def mpiexec() -> str | None:
    """Return the mpiexec of this environment: the one beside the interpreter, else the one in PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float | None = None,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
) -> int | None:
    """Run a command and return its exit code, or None if it was ended after ``timeout`` seconds.

    Its stdin is empty; stdout and stderr are files, because a pipe stays open as long as anything that was left behind,
    or this process's own.  However this returns, by an interrupt too, no process of the job is left.
    """
    job = uuid.uuid4().hex
    with _terminable():
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**env, MARK: f"{env.get(MARK, '')}/{job}"},  # a job within a job has the marks of both
            start_new_session=True,  # a Ctrl-C is for us alone
        )
        code: int | None = None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with _undisturbed():
                if code is None:
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(TO_END)
                end(job)
                process.wait()
    return code


def end(job: str) -> None:
    """Kill every process of a job until there is none."""
    while members := members_of(job):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def members_of(job: str) -> list[int]:
    """Return the processes that were started within a job and are alive (a zombie has no environment any more)."""
    members = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # of another user, or gone meanwhile
            marks = [line for line in path.read_bytes().split(b"\0") if line.startswith(f"{MARK}=".encode())]
            if any(job.encode() in mark for mark in marks):
                members.append(int(path.parent.name))
    return members


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within this context SIGTERM and SIGHUP leave like a Ctrl-C, so that what has to be ended is."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    with _handling(leave, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    with _handling(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def _handling(handler: signal._HANDLER, *signals: signal.Signals) -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()  # only this one has handlers
    before = {number: signal.signal(number, handler) for number in signals} if main else {}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
