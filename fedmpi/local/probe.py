"""Probing: running a local computation's plain Python function on tiny examples, to see the types it returns.

While a probe runs, `Kernel` objects answer with their NumPy twins, so that nothing is compiled for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_PROBING: ContextVar[bool] = ContextVar("fedmpi_probing", default=False)


def probing() -> bool:
    """Whether a probe is running in this thread (or task)."""
    return _PROBING.get()


@contextmanager
def probe() -> Iterator[None]:
    """Within the block, `probing()` is true, and ``breakpoint()`` does nothing: a probe is no call of the user's."""
    token = _PROBING.set(True)
    hook, sys.breakpointhook = sys.breakpointhook, lambda *args, **keywords: None
    try:
        yield
    finally:
        sys.breakpointhook = hook
        _PROBING.reset(token)
