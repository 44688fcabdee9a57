"""Exceptions that a signal's handler raises while compiled code runs: they arrive as themselves.

Python runs a handler when the main thread comes back to Python: in the middle of making a compiled function's result
into Python objects, for one.  The interpreter then finds a result and an exception, and raises a `SystemError` that
hides the `KeyboardInterrupt` in its cause; ``except Exception`` would take it for a mistake of some client's.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from typing import Any

from fedmpi.local.attributes import traceback_of


def run(entry: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what compiled code returns: the one way in which Python calls it."""
    try:
        return entry(*args, **kwargs)
    except SystemError as error:
        found: BaseException = error
        while isinstance(found, SystemError) and found.__cause__ is not None:
            found = found.__cause__  # each C function on the way up has made one
        if isinstance(found, SystemError):
            raise
        raise found from None


def is_of_handler(error: BaseException) -> bool:
    """Tell whether an exception came out of the handler of a signal: it is nobody's failure."""
    codes = [_code(signal.getsignal(number)) for number in signal.valid_signals()]
    trace = traceback_of(error)
    while trace is not None:
        if any(trace.tb_frame.f_code is code for code in codes):
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> Any:
    """Return the code of a handler that is written in Python; nothing is None's (no frame has that)."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not callable(handler):  # there is none, or the system's
        return None
    return getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
