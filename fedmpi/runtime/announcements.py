"""Where announcements go: to the log, or to stderr while the log has no place; one rank speaks for those beside it.

Rank 0 says what all ranks compile, and in a stage's client work, which it may have no part in, the first rank that
hosts clients.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedmpi.local.announcing import set_speaker
from fedmpi.runtime import launch
from fedmpi.runtime.log import logger
from fedmpi.runtime.stderr import announce

_OWN = tuple(logger.handlers)  # what is there whether or not the log has a place
_ALOUD: ContextVar[bool | None] = ContextVar("fedmpi_aloud", default=None)


@contextmanager
def aloud(speaks: bool) -> Iterator[None]:
    """Within the block this rank announces what it compiles, or does not."""
    token = _ALOUD.set(speaks)
    try:
        yield
    finally:
        _ALOUD.reset(token)


def _speak(text: str) -> None:
    started, speaks = launch.detect(), _ALOUD.get()
    rank = 0 if started is None else started.rank
    if not (rank == 0 if speaks is None else speaks) or not logger.isEnabledFor(logging.WARNING):
        return
    if logger.hasHandlers() and any(handler not in _OWN for handler in _handlers()):
        logger.warning(text)
    else:
        announce(rank, text)


def _handlers() -> Iterator[logging.Handler]:
    source: logging.Logger | None = logger
    while source is not None:
        yield from source.handlers
        source = source.parent if source.propagate else None


set_speaker(_speak)
