"""The line of asynchronous calls: they run one after another, in the order in which the program made them.

MPI matches collectives by their order alone.  So one thread runs all asynchronous calls of the process, and what the
program calls besides (a computation in an `MpiContext`, `fm.replicate`) first waits until the line is empty.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fedmpi.runtime.mpi import forked, launch
from fedmpi.runtime.mpi.stderr import say

__all__ = ["drop", "enter", "finish", "is_busy", "wait"]


class _Line:
    def __init__(self) -> None:
        self.jobs: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        with self.lock:
            if self.thread is None:
                # A daemon: the interpreter would wait for another kind of thread before it calls what `atexit` has.
                self.thread = threading.Thread(target=self.run, name="fedmpi calls", daemon=True)
                self.thread.start()
                atexit.register(finish)

    def run(self) -> None:
        process = os.getpid()
        while True:
            future, action = self.jobs.get()
            _run(future, action)
            if os.getpid() != process:  # a child that a body has forked: nobody gives it more to do
                forked.end(future.exception())
            del future, action
            self.jobs.task_done()


def _run(future: Future[Any], action: Callable[[], Any]) -> None:
    """Run one call; a function of its own, so that nothing of it outlives it here."""
    try:
        result = action()
    except BaseException as error:  # sys.exit in a body is for the one who awaits the call
        future.set_exception(error)
        del future  # the error's traceback holds this frame
    else:
        future.set_result(result)


_line = _Line()


def enter(action: Callable[[], Any]) -> Future[Any]:
    """Put a call in line; its future cannot be cancelled: other ranks make the call as well."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    _line.start()
    _line.jobs.put((future, action))
    return future


def is_busy() -> bool:
    """Tell whether a call is running or waits in line."""
    return _line.jobs.unfinished_tasks > 0


def wait() -> None:
    """Wait until the calls in line have run; called by one of them, return at once."""
    if is_busy() and threading.current_thread() is not _line.thread:
        _line.jobs.join()


def drop() -> int:
    """Take out of the line what has not begun; return how many calls these were."""
    dropped = 0
    while True:
        try:
            _line.jobs.get_nowait()
        except queue.Empty:
            return dropped
        dropped += 1
        _line.jobs.task_done()


def finish() -> None:
    """At exit: run what is in line; if an exception has ended the script, finish only what has begun."""
    if getattr(sys, "last_value", None) is not None and (dropped := drop()):
        started = launch.detect()
        say(
            0 if started is None else started.rank,
            f"fedmpi: the script ended by an exception; {dropped} asynchronous calls in line were not begun",
        )
    wait()


def _renew() -> None:
    """In a process made by fork: its line is empty, and no thread is there to run it."""
    global _line
    _line = _Line()


forked.after_fork(_renew)
