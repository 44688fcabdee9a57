"""The run's log: the logger "fedmpi", and the one place that gives it somewhere to write.

A library leaves that to the program: without FEDMPI_LOG, `fedmpi run --log` or a program that configures `logging`
itself, only warnings are written, to stderr, and nothing is timed or hashed (`fedmpi.runtime.watch`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedmpi.local.jit.announcing import set_speaker
from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.stderr import say

__all__ = ["LogError", "aloud", "logger", "write_as_asked", "write_to"]

logger = logging.getLogger("fedmpi")
_NO_WARNING = {"fedmpi_announcement": True}  # what a record has that is told at the level of warnings without being one
_aloud: ContextVar[bool | None] = ContextVar("fedmpi_aloud", default=None)
_handler: logging.Handler | None = None


class LogError(OSError):
    """The log cannot be written where it should be."""


class _LastResort(logging.Handler):
    """Says warnings on stderr while the log has nowhere else to go: no handler here or further up, not even a null one.

    Ranks other than 0 say theirs also where `fedmpi run` silences them.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        if _handlers(logger) == [self]:
            started = launch.detect()
            rank = 0 if started is None else started.rank
            level = "" if hasattr(record, "fedmpi_announcement") else f"{record.levelname.lower()}: "
            say(rank or None, f"fedmpi: {level}{self.format(record)}")


def _handlers(source: logging.Logger | None) -> list[logging.Handler]:
    """Return all handlers that get what a logger is told."""
    found: list[logging.Handler] = []
    while source is not None:
        found += source.handlers
        source = source.parent if source.propagate else None
    return found


_last_resort = _LastResort()
logger.addHandler(_last_resort)


class _Saying(logging.Handler):
    """What ranks other than 0 have to say goes to stderr, also where `fedmpi run` silences them."""

    def __init__(self, rank: int) -> None:
        super().__init__(logging.WARNING)
        self._rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        say(self._rank, self.format(record))


def write_to(target: str, source: str) -> None:
    """Append the log to the file `target` ("-": stderr) from now on, instead of where it went before.

    Rank 0 writes from INFO on; the others give their warnings to stderr.  `source` is what asks for it, such as
    "--log".  Raises `LogError` on rank 0 if the file cannot be opened.
    """
    global _handler
    started = launch.detect()
    rank = 0 if started is None else started.rank
    handler: logging.Handler
    if rank != 0:
        handler = _Saying(rank)
    elif target == "-":
        handler = logging.StreamHandler(sys.stderr)
    else:
        try:
            handler = logging.FileHandler(target, encoding="utf-8")
        except OSError as error:
            raise LogError(f"{source}: cannot write the log to {target!r}: {error.strerror or error}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    if _handler is not None:
        logger.removeHandler(_handler)
        _handler.close()
    _handler = handler
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)


def write_as_asked() -> None:
    """Write the log to the file that the environment's FEDMPI_LOG names, if it names one."""
    target = os.environ.get("FEDMPI_LOG")
    if target:
        write_to(target, "FEDMPI_LOG")


# Announcements of what is compiled.


@contextmanager
def aloud(speaks: bool) -> Iterator[None]:
    """Within the block this rank announces what it compiles, or does not; elsewhere rank 0 does, for all.

    In a stage's client work rank 0 may have no part: there the first rank that hosts clients speaks.
    """
    token = _aloud.set(speaks)
    try:
        yield
    finally:
        _aloud.reset(token)


def _announce(text: str) -> None:
    started, speaks = launch.detect(), _aloud.get()
    rank = 0 if started is None else started.rank
    if rank == 0 if speaks is None else speaks:
        logger.warning(text, extra=_NO_WARNING)


set_speaker(_announce)
