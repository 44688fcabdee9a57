"""An exception on one rank becomes the same exception on every rank.

What travels is text (class, message, traceback), never a pickle.  The class is looked up among the builtins, fedmpi's
errors and the modules that are loaded already; an exception that cannot be rebuilt becomes a `RemoteError`.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import numpy as np

NO_FAILURE = np.iinfo(np.int64).max
_RANKS = 1 << 20
_NO_CLIENT = 1 << 40


class RemoteError(RuntimeError):
    """An exception of another rank whose class this rank does not have."""


def flag(rank: int, client: int | None) -> int:
    """Return the number that orders failures: the smallest client first, whatever the ranks."""
    return (_NO_CLIENT if client is None else client) * _RANKS + rank


def rank_of(failure: int) -> int:
    """Return the rank that a flag names."""
    return failure % _RANKS


def annotated(error: BaseException, where: str) -> BaseException:
    """Return the same kind of exception with a text that says where it arose."""
    return _rebuild(type(error).__module__, type(error).__qualname__, f"{where}: {text_of(error)}", type(error))


def text_of(error: BaseException) -> str:
    """Return what an exception says, as it was given."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])  # str() of it would add quotes
    if len(error.args) > 1 and all(isinstance(a, str | int | tuple) for a in error.args):
        return " ".join(map(str, error.args))  # compiled code raises with what it found as further arguments
    return str(error)


def encode(error: BaseException, rank: int) -> np.ndarray[Any, Any]:
    """Return an exception as bytes."""
    record = {
        "module": type(error).__module__,
        "class": type(error).__qualname__,
        "text": text_of(error),
        "rank": rank,
        "traceback": "".join(traceback.format_exception(error)),
    }
    return np.frombuffer(json.dumps(record).encode("utf-8"), dtype=np.uint8)


def decode(data: np.ndarray[Any, Any]) -> BaseException:
    """Return the exception of another rank, its traceback as a note."""
    record = json.loads(data.tobytes().decode("utf-8"))
    error = _rebuild(record["module"], record["class"], record["text"])
    error.add_note(f"[rank {record['rank']}] {record['traceback'].rstrip()}")
    return error


def _rebuild(module: str, name: str, text: str, class_: Any = None) -> BaseException:
    found: Any = class_ or sys.modules.get(module)
    for part in name.split(".") if class_ is None else ():
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception):
        error = found.__new__(found)
        error.args = (text,)
        try:
            if str(error) == text or (issubclass(found, KeyError) and str(error) == repr(text)):
                return error
        except Exception:  # a class whose text needs more than its arguments
            pass
        plain = next((base for base in found.__mro__ if base.__module__ == "builtins" and base is not object), None)
        if plain is not None and plain not in (Exception, BaseException):
            return plain(text) if plain is not UnicodeDecodeError else RemoteError(text)
    return RemoteError(f"{name}: {text}")
