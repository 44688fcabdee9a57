"""Where announcements go: to the log, of which stderr is the last resort; one rank speaks for those beside it.

Rank 0 says what all ranks compile, and in a stage's client work, which it may have no part in, the first rank that
hosts clients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedmpi.local.announcing import set_speaker
from fedmpi.runtime import launch
from fedmpi.runtime.log import NO_WARNING, logger

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
    if rank == 0 if speaks is None else speaks:
        logger.warning(text, extra=NO_WARNING)


set_speaker(_speak)
