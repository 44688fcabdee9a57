"""That a stage's clients are run client by client where the program has not asked for that: said once, and reported.

Rank 0 says it on stderr when it is found; `fedmpi bench` and `fedmpi verify` tell it beside what they report.
"""

from __future__ import annotations

from collections import deque

from fedmpi.runtime.mpi.log import logger

_told: deque[str] = deque(maxlen=1000)  # since a report was made; nobody may make one


def tell(name: str, reason: str) -> None:
    """Say on rank 0 that a computation runs the clients of a stage one by one, for a reason."""
    text = f"{name}: its clients are run client by client, for {reason}"
    _told.append(text)
    logger.warning("%s", text)


def taken() -> list[str]:
    """Return what was told since this was called last."""
    found = list(_told)
    _told.clear()
    return found
