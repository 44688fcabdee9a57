"""Run a script on all ranks of a job, with the output of rank 0 only.

    mpirun -n 3 fedmpi run train.py --rounds 10
    mpirun -n 3 fedmpi run -m package.train

What other ranks write to stdout and stderr is dropped, unless --all-output is given; errors that end a script are
printed whatever rank they are on, with [rank r] before each line, and end the job, in threads too.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType

from fedmpi.cli.errors import UsageError
from fedmpi.local.attributes import trace_of
from fedmpi.runtime.collective import exits
from fedmpi.runtime.mpi import comm as mpi
from fedmpi.runtime.mpi import forked, launch, log, stderr
from fedmpi.runtime.mpi.library import BEFORE_ABORT

SUMMARY = "run a script on all ranks, with the output of rank 0 only"
# What stands between this file and the script's own code in a traceback.
MACHINERY = (__file__, runpy.__file__, "<frozen runpy>")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.usage = "fedmpi run [-h] [--all-output] [--log FILE] (SCRIPT | -m MODULE) [ARGUMENT ...]"
    parser.add_argument("--all-output", action="store_true", help="print what all ranks write")
    add_log(parser)
    add_program(parser)


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the file of the log."""
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="append a line for each federated call: seconds, and the hash of its result ('-': stderr)",
    )


def open_log(options: argparse.Namespace) -> str:
    """Write the log to the file of the option, if it is given; return what is in the way."""
    if options.log is not None:
        try:
            log.write_to(options.log, f"fedmpi {options.command}: --log")
        except log.LogError as error:
            return str(error)
    return ""


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to run."""
    # One list for everything after the options: what follows the script's name belongs to the script.
    parser.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m does")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="SCRIPT ARGUMENT ...", help="and its arguments")


def program_words(options: argparse.Namespace) -> list[str]:
    """Return what Python would be given to run the program: a script or -m and a module, then arguments."""
    command = f"fedmpi {options.command}"
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise UsageError(f"{command}: expected a script or -m and a module (see {command} --help)")
    if not options.module and not os.path.exists(words[0]):
        raise UsageError(f"{command}: no such file: {words[0]}")
    return ["-m", *words] if options.module else list(words)


def run(options: argparse.Namespace) -> int:
    """Run the script as ``__main__`` and return the exit code, unless it leaves by SystemExit, which passes."""
    words = program_words(options)[1:] if options.module else program_words(options)
    target = words[0]
    started = launch.detect()
    rank = started.rank if started is not None else 0
    sys.argv = words
    _set_path("" if options.module else str(Path(target).resolve().parent))
    if options.module and not _exists(target):
        raise UsageError(f"fedmpi run: no module named {target}")
    if problem := open_log(options):
        raise UsageError(problem)
    if rank != 0 and not options.all_output:
        _silence()
    threading.excepthook = _on_thread_exception
    try:
        if options.module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(os.path.abspath(target), run_name="__main__")
    except SystemExit as leave:
        _leave(leave, rank)
        raise
    except BaseException as error:
        return _report(error)
    return 0


def _set_path(first: str) -> None:
    """Put the script's folder where Python puts it; it has put there the folder of the command `fedmpi`, or ''."""
    if not sys.flags.safe_path:
        sys.path[0] = first


def _exists(module: str) -> bool:
    """Tell whether there is such a module; this imports the packages it is in."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _silence() -> None:
    """Drop all that this process writes, below Python too, but keep its stderr for the last words."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    stderr.keep_stderr(kept)
    faulthandler.enable(kept)  # else a crash of this rank would leave no trace


def _own_part(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the script's own frames on; all of it if the script has none."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename in MACHINERY:
        part = part.tb_next
    return part


def _leave(leave: SystemExit, rank: int) -> None:
    """Let the others know how this script ended; say what a silenced rank has to say."""
    frames = [
        frame for frame in traceback.extract_tb(_own_part(leave.__traceback__)) if frame.filename != exits.__file__
    ]
    where = "".join(traceback.format_list(frames)).rstrip("\n")
    exits.note_exit(leave, f"SystemExit({leave.code!r}) was raised at\n{where}")
    if stderr.is_silenced() and leave.code is not None and not isinstance(leave.code, int):
        stderr.say(rank, str(leave.code))


def _report(error: BaseException) -> int:
    """Do what Python does at an uncaught exception; fedmpi's hook then ends the job."""
    trace = _own_part(error.__traceback__)
    BaseException.with_traceback(error, trace)  # an exception that is frozen refuses to have it set
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    try:
        sys.excepthook(type(error), error, trace)
    except Exception:
        sys.__excepthook__(type(error), error, trace)
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _on_thread_exception(args: threading.ExceptHookArgs, /) -> None:
    """Stand in for threading.excepthook, which lets the script go on, maybe waiting for this thread for ever."""
    if args.exc_type is SystemExit:
        return
    if forked.is_child():
        threading.__excepthook__(args)
        return
    name = args.thread.name if args.thread is not None else "?"
    error = args.exc_value if args.exc_value is not None else args.exc_type()
    text = trace_of(error)
    opened, started = mpi.opened(), launch.detect()
    rank = opened[0].rank if opened else started.rank if started is not None else 0
    stderr.say(rank, f"Exception in thread {name}; this ends the job\n{text}")
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if mpi.is_active():
        mpi.abort_world(1)
    if started is not None and started.size > 1:
        time.sleep(BEFORE_ABORT)
        os.kill(os.getpid(), signal.SIGTERM)  # others may wait in MPI_Init, where no launcher notices an exit
    os._exit(1)
