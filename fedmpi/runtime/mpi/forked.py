"""A process made by `os.fork` from a rank: it holds no MPI and never speaks for its rank.

The child has a copy of all that the rank has, the sockets and segments of MPI among it, but is no rank: what it sent
would be taken for its parent's, and MPI_Finalize at its end waits for ranks that know nothing of it.  So

- a federated call in it raises `ContextError`; what has no placement, and a `ReferenceContext`, work in it;
- an exception in it is printed as Python does, and ends it alone;
- one that was made inside of a federated call, by a local computation, ends where it would leave that call;
- it ends without MPI_Finalize, which mpi4py calls after all that `atexit` has.

A process is no child in this sense where there is no MPI to share: none is initialised, and no launcher has started
several processes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from fedmpi.language.errors import ContextError, Report
from fedmpi.local.attributes import trace_of
from fedmpi.runtime.mpi import launch, library, stderr

__all__ = ["after_fork", "check", "end", "is_child", "note_code", "state"]


class _State:
    child = False
    code = 0  # with which it will exit, as far as it is known


state = _State()


def is_child() -> bool:
    """Tell whether this process was forked from a rank."""
    return state.child


def check() -> None:
    """Raise `ContextError` in a process that was made by a rank, and is none."""
    started = launch.detect()
    maker = "os.fork" if state.child else ""
    if not maker and started is not None and started.size > 1 and multiprocessing.parent_process() is not None:
        maker = "multiprocessing"  # with its own interpreter, but with the launcher's variables of its rank
    if maker:
        report = Report.here(
            f"this process was made by {maker} and has no MPI: federated calls, fm.replicate and fm.is_server belong to"
            " the process that was started as a rank",
            "call them there, and give the child what it needs;"
            ' multiprocessing.get_context("spawn") makes processes that hold nothing of MPI',
        )
        raise ContextError(str(report))


def after_fork(action: Callable[[], object]) -> None:
    """Call ``action`` in each process that will be forked from this one, where there is a fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def note_code(code: Any) -> None:
    """Note with which exit code (what SystemExit has) this process is about to end."""
    state.code = code if isinstance(code, int) else 0 if code is None else 1


def end(error: BaseException | None) -> NoReturn:
    """End this process, a child, by an exception of it, or because it has returned from the function that forked it."""
    if error is None:
        report = Report(
            "a process made by os.fork has returned from the local computation that made it, and ends here",
            who="fedmpi",
            hint="let it end itself, by sys.exit or os._exit",
        )
        _print(f"{report}\n")
    elif isinstance(error, SystemExit):
        note_code(error.code)
        if error.code is not None and not isinstance(error.code, int):
            _print(f"{error.code}\n")
    else:
        _print(trace_of(error) + "\n")
    if error is None or not isinstance(error, SystemExit):
        state.code = 130 if isinstance(error, KeyboardInterrupt) else 1
    _leave()


def _print(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stream = stderr.stream()
        stream.write(text)
        stream.flush()


def _leave() -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(state.code & 0xFF)


@atexit.register  # before all others of fedmpi's, and most of the program's: it runs after them
def _at_exit() -> None:
    if state.child:
        _leave()


def _become_child() -> None:
    started = launch.detect()
    if state.child or not (library.is_active() or (started is not None and started.size > 1)):
        return
    state.child, state.code = True, 0
    library.one_thread = threading.RLock()
    stderr.add_to_rank(f", forked process {os.getpid()}")
    sys.exit = _noting(sys.exit)  # Python does not tell what it will exit with
    sys.excepthook = _failing(sys.excepthook)


def _noting(original: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def sys_exit(status: Any = None, /) -> Any:
        note_code(status)
        original(status)

    return sys_exit


def _failing(original: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], value: BaseException, trace: Any) -> None:
        state.code = 130 if issubclass(kind, KeyboardInterrupt) else 1
        if stderr.is_silenced():
            end(value)
        original(kind, value, trace)

    return excepthook


after_fork(_become_child)
