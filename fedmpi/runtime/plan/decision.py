"""How a stage's clients are run: decided before the first of them, from what all ranks know.

Compiling takes seconds, a client that is run from Python a tenth of a millisecond.  So loops over sequences are
compiled at once, anything else from `COMPILED_FROM` clients of a call on.  What earlier calls did plays no part: a
round that has run once compiles nothing when it runs again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_ONLY: ContextVar[bool] = ContextVar("fedmpi_compiled_only", default=False)
COMPILED_FROM = 100  # clients of a call, on all ranks


@dataclass(frozen=True)
class Yes:
    """By one compiled loop, whatever the number of clients."""


@dataclass(frozen=True)
class No:
    """Client by client, because of what the reason says; ``asked`` tells that the program asked for it."""

    reason: str
    asked: bool = False


@dataclass(frozen=True)
class From:
    """By one compiled loop from so many clients of a call on, else client by client."""

    clients: int


Decision = Yes | No | From


def only() -> bool:
    """Tell whether `compiled_only` holds in this thread (or task)."""
    return _ONLY.get()


@contextmanager
def compiled_only() -> Iterator[None]:
    """Within the block, run clients by compiled loops alone, however few there are.

    A call with a stage whose clients would be run client by client raises `RuntimeError`, on all ranks and before any
    work, with the reason; so does one whose loop Numba refuses.  All ranks of a job must be in such a block, or none.
    It holds for this thread or task.
    """
    token = _ONLY.set(True)
    try:
        yield
    finally:
        _ONLY.reset(token)


def is_compiled(decision: Decision, clients: int, *, sparse: bool) -> bool:
    """Tell whether a call of so many clients, on all ranks, runs them by a compiled loop.

    Sparse rows always, where that can be: a client that is run from Python would get them as arrays, with other last
    bits.
    """
    match decision:
        case Yes():
            return True
        case From(least):
            return sparse or clients >= least
    return False


def why_not(decision: Decision) -> str:
    """Return why the clients of a call are run client by client, where they are."""
    match decision:
        case No(reason):
            return reason
        case From(least):
            return f"there are fewer than {least} of them"
    return ""


def in_words(decision: Decision, clients: int | None, *, may_be_sparse: bool) -> str:
    """Return what the plan says, for a number of clients if there is one."""
    match decision:
        case Yes():
            return "one compiled loop"
        case No(reason):
            return f"client by client, for {reason}"
        case From(least):
            sparse = " (sparse rows always)" if may_be_sparse else ""
            loop = f"one compiled loop from {least} clients a call on{sparse}"
            if clients is None:
                return f"{loop}, else client by client"
            return "one compiled loop" if clients >= least else f"client by client ({loop})"
