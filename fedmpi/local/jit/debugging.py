"""Debug mode: whether it is on here.  What it does stands where it is asked for.

Numba's own switch for the same purpose is no substitute: compiled code is a part of fedmpi.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# One for each thread or task, as the calls are that it is asked in: another thread's block must not change them.
_DEBUGGING: ContextVar[bool] = ContextVar("fedmpi_debugging", default=os.environ.get("FEDMPI_DEBUG") == "1")


def debugging() -> bool:
    """Whether debug mode is on in this thread (or task)."""
    return _DEBUGGING.get()


@contextmanager
def debug(enabled: bool = True) -> Iterator[None]:
    """Within the block, run in debug mode; ``FEDMPI_DEBUG=1`` does so for a whole program (``debug(False)`` not).

    - The bodies of local computations run as Python, client by client: ``print`` and ``breakpoint()`` work in them (a
      debugger needs the terminal, so run it on one rank).  Those that are defined in debug mode are not compiled, so
      that they may hold what Numba cannot compile.  ``fm.kernels`` run as their NumPy twins.
    - Values are checked against their types where they change their placement, and after each function.
    - Before each stage the ranks compare the program, values without a placement, those that all clients have, and
      lists of clients' values; ranks that disagree end the job, and say what differs.
    - ``zero`` of a ``federated_aggregate`` must be neutral for ``merge``.

    Results have the same types as else, and the same values to rounding: Python computes in other widths, and raises
    for some of what compiled code lets pass, such as a Python number divided by zero.  All ranks of a job must be in
    debug mode, or none.  It holds for this thread or task, and blocks may be nested.
    """
    token = _DEBUGGING.set(enabled)
    try:
        yield
    finally:
        _DEBUGGING.reset(token)


def compiler_problem() -> str:
    """Return what to say if Numba has been told not to compile, else ""."""
    numba = sys.modules.get("numba")
    if numba is None:
        disabled = os.environ.get("NUMBA_DISABLE_JIT", "").strip() not in ("", "0")
    else:
        disabled = bool(numba.config.DISABLE_JIT)
    text = "NUMBA_DISABLE_JIT is set, and fedmpi computes with compiled code: unset it"
    return f"{text} (FEDMPI_DEBUG=1 runs local computations as Python)" if disabled else ""


def check_compiler() -> None:
    """Raise `RuntimeError` if Numba has been told not to compile."""
    if problem := compiler_problem():
        raise RuntimeError(problem)
