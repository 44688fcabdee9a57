"""No rank leaves unnoticed: a rank that raises, calls sys.exit or reaches the end of its script while others wait ends
the job, under plain `mpiexec -n P python script.py` too.

MPI itself does not do that: the rank that leaves waits in MPI_Finalize, the others in their collective, for ever.

- At exit a rank says goodbye to each other rank, with its count of completed calls, and stays until all have.
- A rank that waits in a call looks for goodbyes (`Communicator._look`).  To a rank that left before that call it
  answers where it waits; that rank then prints how its script ended and who waits for it, and aborts the job.
- An uncaught exception is printed at once, each line after "[rank r]", and ends the job whoever waits, unless all
  other ranks have left too.

So a goodbye after the last call of all is no error, however long another rank still works; the rank that has left
sleeps meanwhile.  When all ranks leave alike they have all said goodbye within milliseconds, and nothing is printed.

A rank may also leave before it has opened MPI, while the others wait in MPI_Init, where nobody can look for anything.
It then initialises MPI in order to say goodbye: if it failed, or if a federated computation has been defined
(`Computation.any_placed`), so that others may be there.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from fedmpi.language.tracing.computation import Computation
from fedmpi.local.attributes import trace_of
from fedmpi.runtime.mpi import comm as mpi
from fedmpi.runtime.mpi import forked, launch, line
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.mpi.stderr import is_silenced, say

__all__ = ["note_exit", "watch"]

# Seconds that a rank which raised stays, for the others to say where they wait or to print exceptions of their own.
LAST_WORDS = 0.5
# Seconds that a rank which left too early collects answers after the first one.
ANSWERS = 0.2
# Seconds after which a failed rank that waits in MPI_Init for the others dies by a signal, which mpiexec notices.
INIT_PATIENCE = 5
# Seconds of one sleep of a rank that has left, from the first to the longest.
NAP_FIRST, NAP_LONGEST = 100e-6, 20e-3


@dataclass
class _Process:
    """What this process knows about how its script ends."""

    pid: int = 0  # 0: the hooks are not installed; a fork has another one
    finished: bool = False  # the goodbyes have been said
    previous_hook: Callable[..., Any] = sys.__excepthook__
    exit_code: int = 0  # of the last sys.exit
    exit_text: str = ""
    exit_calls: int = 0  # begun by then; if there are more at the end, the program caught SystemExit


_process = _Process()


def watch() -> None:
    """Install the hooks if this is one of several processes of a launcher, else when a communicator of several opens.

    Called when fedmpi is imported; costs some microseconds and loads nothing.
    """
    started = launch.detect()
    if started is not None and started.size > 1 and multiprocessing.parent_process() is None:
        _install()
    else:
        mpi.watch_openings(lambda comm: _install() if comm.size > 1 else None)


def _install() -> None:
    if _process.pid == os.getpid():
        return
    _process.pid = os.getpid()
    _process.previous_hook = sys.excepthook
    sys.excepthook = _on_exception
    sys.exit = _remembering(sys.exit)
    os._exit = _after_goodbye(os._exit)
    atexit.register(_at_exit)
    atexit.register(line.finish)  # runs before: no call comes after the goodbye


# The three ways in which a script ends.


def _remembering(original: Callable[..., Any]) -> Any:
    @functools.wraps(original)
    def sys_exit(status: Any = None, /) -> Any:
        if threading.current_thread() is threading.main_thread():
            frames = "".join(traceback.format_stack(sys._getframe(1))).rstrip("\n")
            _process.exit_text = f"sys.exit({status!r}) was called at\n{frames}"
            _process.exit_code = status if isinstance(status, int) else 0 if status is None else 1
            _process.exit_calls = _calls()
        forked.note_code(status)
        original(status)

    return sys_exit


def _after_goodbye(original: Callable[[int], Any]) -> Any:
    """Return an os._exit that is heard of where launchers do not notice it: before MPI_Init, or with status 0.

    (A job that MPICH ends for a rank that is gone without MPI_Finalize has that rank's exit code, which may be 0.)
    """

    @functools.wraps(original)
    def os_exit(status: int) -> Any:
        if _process.pid == os.getpid() and not _process.finished and not (mpi.is_active() and status):
            if threading.current_thread() is threading.main_thread():
                frames = "".join(traceback.format_stack(sys._getframe(1))).rstrip("\n")
                _process.exit_text, _process.exit_code = f"os._exit({status}) was called at\n{frames}", int(status)
                _process.exit_calls = _calls()
                with contextlib.suppress(Exception):
                    _at_exit()
            elif not mpi.is_active():
                os.kill(os.getpid(), signal.SIGKILL)  # the main thread may be in MPI_Init, which is begun once
        original(status)

    return os_exit


def note_exit(leave: SystemExit, text: str) -> None:
    """Note that the script has ended by this SystemExit, raised by sys.exit or not, and in which words to say so."""
    forked.note_code(leave.code)
    _process.exit_text = text
    _process.exit_code = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
    _process.exit_calls = _calls()


def _on_exception(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Stand in for sys.excepthook: print the exception and end the job."""
    if _process.pid != os.getpid() or _process.finished:
        _process.previous_hook(kind, value, trace)
        return
    line.drop()  # what has not begun
    _print_exception(kind, value, trace)
    code = 130 if issubclass(kind, KeyboardInterrupt) else 1
    if isinstance(value, launch.LaunchError):
        _process.finished = True  # every process of the launch is alone and fails alike
        if isinstance(value, launch.MissingMPIError):
            _die_alone()
        return
    try:
        if not _between_ranks() and mpi.is_active():
            # The program initialised MPI itself.  To open a communicator now could take as long as the others like.
            mpi.abort_world(code)
        for comm in _open_in_the_end(patience=INIT_PATIENCE):
            _leave_by_exception(comm, kind, code)
    except Exception:
        if mpi.is_active():  # MPI is in no state for goodbyes
            mpi.abort_world(code)
    _process.finished = True


def _at_exit() -> None:
    """Say goodbye; the end of a script, by itself or by sys.exit."""
    if _process.pid != os.getpid() or _process.finished:
        return
    _process.finished = True
    if _calls() != _process.exit_calls:
        _process.exit_code, _process.exit_text = 0, ""
    failed = _process.exit_code != 0
    if not _between_ranks() and (mpi.opened() or not (Computation.any_placed or failed)):
        # Nobody expects us.  One that has communicators of its own alone is no part of those that others have: to open
        # the world would be to wait for them for ever.
        return
    for comm in _open_in_the_end(patience=INIT_PATIENCE if failed else 0):
        _leave(comm)


def _calls() -> int:
    return sum(comm.call for comm in mpi.opened())


def _between_ranks() -> list[Communicator]:
    return [comm for comm in mpi.opened() if comm.size > 1]


def _open_in_the_end(patience: int) -> list[Communicator]:
    """Return the communicators of several ranks; opens the world if there are none.

    `patience`: the seconds that may pass in MPI_Init, 0 for any number.  There is no end to it under srun, which lets
    the others run on when one rank dies of a signal: they would wait in their MPI_Init for ever.
    """
    if not _between_ranks():
        started = launch.detect()
        if started is not None and started.name == "srun":
            patience = 0
        with _Deadline(patience):
            try:
                Communicator.open()
            except launch.LaunchError:  # nobody is there to wait for us
                return []
    return _between_ranks()


class _Deadline:
    """Within this context the process dies by SIGALRM after some seconds (0: never), whatever it is stuck in."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        if self._seconds:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._seconds:
            signal.alarm(0)


def _die_alone() -> None:
    """End this process by a signal if others may be waiting for it in MPI_Init: no launcher notices an exit there."""
    time.sleep(LAST_WORDS)  # if the library is missing everywhere, all can say so
    os.kill(os.getpid(), signal.SIGTERM)


# The goodbye.


def _leave(comm: Communicator) -> None:
    """Say goodbye and stay until all others have; end the job if one of them waits for us in vain."""
    comm.say_goodbye(raised=False)
    nap = NAP_FIRST
    waiting = _answers(comm)
    while not waiting and len(comm.departed) < comm.size - 1:
        time.sleep(nap)
        nap = min(1.5 * nap, NAP_LONGEST)
        waiting = _answers(comm)
    if waiting:
        waiting = _listen(comm, waiting, ANSWERS)
        comm.abort(_process.exit_code or 1, f"{_how_it_ended()}\n{_account(comm, waiting)}".lstrip("\n"))


def _how_it_ended() -> str:
    """Return the stack of the last sys.exit, or an exception that another hook than ours has been shown, or nothing."""
    last = getattr(sys, "last_value", None)
    if _process.exit_text or last is None:
        return _process.exit_text
    return trace_of(last)


def _leave_by_exception(comm: Communicator, kind: type[BaseException], code: int) -> None:
    """Say goodbye, hear who waits, end the job; return if all others have left as well: then nobody needs ending.

    An asynchronous call that is running may need a rank that has not begun it: that ends the job too.
    """
    comm.say_goodbye(raised=True)
    waiting = _listen(comm, {}, LAST_WORDS)
    if waiting or len(comm.departed) < comm.size - 1 or code == 130 or line.is_busy():
        comm.abort(code, _account(comm, waiting, f" with {kind.__name__}"))


def _listen(comm: Communicator, waiting: dict[int, str], seconds: float) -> dict[int, str]:
    """Collect answers until all others have answered or left, for some seconds at most.

    Looks all the time: a goodbye may need the sender's MPI calls to get through to a rank that it has never met.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(comm.departed.keys() | waiting.keys()) < comm.size - 1:
        time.sleep(1e-3)
        waiting = waiting | _answers(comm)
    return waiting


def _answers(comm: Communicator) -> dict[int, str]:
    """Receive what has come: goodbyes into `comm.departed`, and where ranks wait, by rank."""
    comm.receive_goodbyes()
    waiting: dict[int, str] = {}
    while (message := comm.fetch(mpi.WAITING)) is not None:
        source, text = message
        waiting[source] = np.asarray(text).tobytes().decode()
    return waiting


def _account(comm: Communicator, waiting: dict[int, str], how: str = "") -> str:
    """Return the line that says after how many calls this rank left and who waits for it."""
    calls = comm.completed()
    text = f"rank {comm.in_world[comm.rank]} ended its script after {calls} {'call' if calls == 1 else 'calls'}{how}"
    if comm.doing:
        text += f", in {comm.whereabouts()}"
    if waiting:
        first = min(waiting)
        text += f"; rank {comm.in_world[first]} waits in {waiting[first]}"
        if len(waiting) > 1:
            text += f", and {len(waiting) - 1} more {'ranks wait' if len(waiting) > 2 else 'rank waits'}"
    return text + "; this ends the job"


def _print_exception(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    started = launch.detect()
    rank = (
        mpi.opened()[0].in_world[mpi.opened()[0].rank] if mpi.opened() else started.rank if started is not None else 0
    )
    if isinstance(value, launch.LaunchError):
        say(rank, f"fedmpi: {value}")
    elif _process.previous_hook is not sys.__excepthook__ and not is_silenced():
        # Somebody formats exceptions in a way of their own: let them, and say whose it is.
        say(rank, f"{kind.__name__} on rank {rank}:")
        _process.previous_hook(kind, value, trace)
    else:
        say(rank, trace_of(value))
