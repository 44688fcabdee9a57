"""What exceptions hold and say, whatever their classes make of being asked."""

from __future__ import annotations

import contextlib
import traceback
from types import GetSetDescriptorType, TracebackType
from typing import Any, cast

LONGEST = 1 << 21  # characters of a text: what is longer is cut in its middle
_ARGUMENTS = cast("GetSetDescriptorType", vars(BaseException)["args"])


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the dictionary of an exception, to read and to write what its class would refuse or answer in its way."""
    found: dict[str, Any] = vars(BaseException)["__dict__"].__get__(error)
    return found


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception."""
    found: TracebackType | None = vars(BaseException)["__traceback__"].__get__(error)
    return found


def arguments_of(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments of an exception, whatever its class has by the name of ``args``."""
    return cast("tuple[Any, ...]", _ARGUMENTS.__get__(error, type(error)))


def text_of(error: BaseException) -> str:
    """Return what an exception says, as it was given, at most `LONGEST` characters."""
    try:
        text = _own_text(error)
    except BaseException as failed:
        return f"(its text cannot be made: {type(failed).__name__})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}[...]{text[-LONGEST // 2 :]}"


def in_a_line(error: BaseException) -> str:
    """Return the class of an exception, and the first line of its text, of which at most 500 characters."""
    return f"{type(error).__name__}: {text_of(error).partition(chr(10))[0][:500]}"


def trace_of(error: BaseException) -> str:
    """Return the traceback of an exception as Python prints it, or as much of it as its class lets one see."""
    with contextlib.suppress(Exception):
        return "".join(traceback.format_exception(error)).rstrip()
    frames = "".join(traceback.format_tb(traceback_of(error)))
    return f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}: {text_of(error)}"


def _own_text(error: BaseException) -> str:
    args = arguments_of(error)
    if issubclass(type(error), KeyError) and type(error).__str__ is KeyError.__str__ and len(args) == 1:
        text = str(args[0])  # str() of it would add quotes
    elif (
        type(error).__str__ is BaseException.__str__
        and len(args) > 1
        and all(isinstance(a, str | int | tuple) for a in args)
    ):
        text = " ".join(map(str, args))  # compiled code raises with what it found as further arguments
    else:
        text = str(error)
    return str.__str__(text)  # a subclass may have methods of its own
