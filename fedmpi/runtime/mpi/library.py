"""The MPI library: loaded, checked against the launcher, initialised, and made to end the job.

The one module that imports mpi4py, and only when MPI is needed.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from typing import Any

from fedmpi.language.errors import ContextError, Report
from fedmpi.runtime.mpi import launch, starting

__all__ = ["BEFORE_ABORT", "abort_world", "check_thread", "initialise", "is_active", "load", "one_thread"]

# MPICH drops what is still on its way to the launcher's stderr when a rank aborts.
BEFORE_ABORT = 0.2
one_thread = threading.RLock()  # held while MPI is initialised or a communicator is opened


def is_active() -> bool:
    """Tell whether MPI is initialised and not yet finalised, without loading it."""
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and module.Is_initialized() and not module.Is_finalized()


def initialise() -> None:
    """Load and initialise MPI in this thread, if that has not been done: MPI_Finalize belongs to the same one."""
    with one_thread:
        if not is_active():
            load()


def check_thread(mpi: Any) -> None:
    """Raise `ContextError` if the thread of MPI_Init alone may call MPI (the module `mpi`), and this is another one."""
    if mpi.Query_thread() < mpi.THREAD_SERIALIZED and not mpi.Is_thread_main():
        report = Report.here(
            "MPI has been initialised for calls from one thread, and this is another one (asynchronous calls have a"
            " thread of their own)",
            "leave mpi4py.rc.threads and mpi4py.rc.thread_level as they are, or initialise MPI with THREAD_MULTIPLE",
        )
        raise ContextError(str(report))


def abort_world(code: int) -> None:
    """End the whole job with exit code `code`, where MPI is active.  Does not return."""
    time.sleep(BEFORE_ABORT)
    sys.modules["mpi4py.MPI"].COMM_WORLD.Abort(code)


def _begin(mpi: Any, level: int, errors: str) -> None:
    """Call MPI_Init_thread without the interpreter's lock, so that another thread can say that this one waits.

    mpi4py keeps the lock in it, and besides sets what errors do, and warns of another MPI's mpiexec, which
    `launch.check` refuses.
    """
    try:
        import ctypes

        begin = ctypes.CDLL(mpi.__file__).MPI_Init_thread  # of the library that mpi4py is linked to
    except (ImportError, OSError, AttributeError):
        begin = None
    if begin is None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "suspicious MPI execution environment", RuntimeWarning)
            mpi.Init_thread(level)
        return
    if failed := begin(None, None, int(level), ctypes.byref(ctypes.c_int())):
        raise mpi.Exception(failed)
    handlers = {"exception": "ERRORS_RETURN", "abort": "ERRORS_ABORT", "fatal": "ERRORS_ARE_FATAL"}
    if errors in handlers:
        for comm in (mpi.COMM_SELF, mpi.COMM_WORLD):
            comm.Set_errhandler(getattr(mpi, handlers[errors], mpi.ERRORS_ARE_FATAL))


def load() -> Any:
    """Return mpi4py.MPI, initialised; check the launch before and after."""
    try:
        # Between an import without initialisation and MPI_Init the library can be asked for its name; where a program
        # has imported mpi4py.MPI itself that chance is gone and only the check of the size remains.
        import mpi4py

        before = mpi4py.rc.initialize, mpi4py.rc.finalize
        finalize = mpi4py.rc.finalize is not False
        try:
            mpi4py.rc(initialize=False, finalize=finalize)
            from mpi4py import MPI
        finally:
            mpi4py.rc(initialize=before[0], finalize=before[1])
    except (ImportError, RuntimeError) as reason:
        raise launch.missing_mpi(reason) from None
    library = MPI.Get_library_version()
    if not MPI.Is_initialized():
        launch.check_library(library)
        level = mpi4py.rc.thread_level if mpi4py.rc.threads else "single"
        with starting.watched():
            _begin(MPI, getattr(MPI, f"THREAD_{level.upper()}"), mpi4py.rc.errors)
    launch.check(MPI.COMM_WORLD.Get_size(), library)
    return MPI
