"""Probing: running a local computation's plain Python function on tiny examples, to see the types it returns.

While a probe runs, `Kernel` objects answer with their NumPy twins, so that nothing is compiled for it.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any

from fedmpi.local.jit.debugging import debugging

_PROBING: ContextVar[bool] = ContextVar("fedmpi_probing", default=False)


def probing() -> bool:
    """Whether a probe is running in this thread (or task)."""
    return _PROBING.get()


@contextmanager
def probe() -> Iterator[None]:
    """Within the block, `probing()` is true; breakpoints and `print` do nothing: a probe is no call of the user's."""
    token = _PROBING.set(True)
    stops = [(sys, "breakpointhook")]
    if debugging():  # elsewhere Numba refuses the module, which takes its time to load
        stops.append((importlib.import_module("pdb"), "set_trace"))
    before = [getattr(module, name) for module, name in stops]
    for module, name in stops:
        setattr(module, name, _pass_by)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for (module, name), function in zip(stops, before, strict=True):
            setattr(module, name, function)
        _PROBING.reset(token)


def _pass_by(*args: Any, **keywords: Any) -> None:
    """Stand for a breakpoint."""
