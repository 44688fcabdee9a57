"""The attributes of exceptions, whatever their classes make of being asked."""

from __future__ import annotations

from types import TracebackType
from typing import Any


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the dictionary of an exception, to read and to write what its class would refuse or answer in its way."""
    found: dict[str, Any] = vars(BaseException)["__dict__"].__get__(error)
    return found


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception."""
    found: TracebackType | None = vars(BaseException)["__traceback__"].__get__(error)
    return found
