"""An exception on one rank becomes the same exception on every rank.

What travels is text (classes, message, traceback), never a pickle.  A class is looked up among the builtins, fedmpi's
errors and the modules that are loaded already; where it is not known, or cannot be made from a text, the nearest of its
bases stands in, and a `RemoteError` where none does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.local.interrupts import is_of_handler

NO_FAILURE = np.iinfo(np.int64).max
_RANKS = 1 << 20
_NO_CLIENT = 1 << 40
# Characters of a traceback that travel: a text of a megabyte would stand in it several times, on every rank.
_LONGEST = 10_000
_NO_CLASS = 1 << 20


class RemoteError(RuntimeError):
    """An exception of another rank whose class this rank does not have."""


def flag(rank: int, client: int | None) -> int:
    """Return the number that orders failures: the smallest client first, whatever the ranks."""
    return (_NO_CLIENT if client is None else client) * _RANKS + rank


def differing(rank: int) -> int:
    """Return the flag of a rank that gives other values than rank 0: before all others, which may come of that."""
    return rank - _RANKS


def rank_of(failure: int) -> int:
    """Return the rank that a flag names."""
    return failure % _RANKS


def who(number: int, arguments: Sequence[str] = (), cohort: np.ndarray[Any, Any] | None = None) -> str:
    """Return what a client of a call is called in texts: its index, and where that is another, its number.

    ``arguments`` are those that have it; ``cohort`` int64[clients] are the indices, None where they are 0, 1, 2, ….
    """
    index = number if cohort is None else int(cohort[number])
    text = f"client {index}" + (f" of {' and '.join(arguments)}" if arguments else "")
    return text + (f" (number {number} of the cohort)" if index != number else "")


def annotated(error: BaseException, where: str, rank: int | None = None) -> BaseException:
    """Return the same kind of exception with a text that says where it arose; the error itself is its cause.

    To ``where`` are added the batch, the rank and the local computation, as far as they are known.  What the handler of
    a signal raised stays as it is.
    """
    if is_of_handler(error):
        return error
    text = text_of(error)
    if (batch := vars(error).pop("fedmpi_batch", None)) is not None:
        where += f", batch {batch}"
    if rank is not None:
        where += f" (rank {rank})"
    if (kernel := vars(error).pop("fedmpi_kernel", None)) is not None:
        where += f", in {kernel}"
    made = _nearest(type(error).__mro__, f"{where}: {text}" if text else where)
    made.__cause__ = error  # its traceback shows the user's line
    return made


def noted(error: BaseException) -> BaseException:
    """Return the error of a function that the program has called itself: its text as it is, the batch as a note."""
    batch, kernel = (vars(error).pop(name, None) for name in ("fedmpi_batch", "fedmpi_kernel"))
    if kernel is not None:
        error.add_note(f"in {kernel}" + (f", batch {batch}" if batch is not None else ""))
    return error


def text_of(error: BaseException) -> str:
    """Return what an exception says, as it was given."""
    if isinstance(error, KeyError) and len(error.args) == 1:
        return str(error.args[0])  # str() of it would add quotes
    own_text = type(error).__str__ is not BaseException.__str__
    if not own_text and len(error.args) > 1 and all(isinstance(a, str | int | tuple) for a in error.args):
        return " ".join(map(str, error.args))  # compiled code raises with what it found as further arguments
    try:
        return str(error)
    except Exception as failed:
        return f"(its text cannot be made: {type(failed).__name__})"


def encode(error: BaseException, rank: int) -> np.ndarray[Any, Any]:
    """Return an exception as bytes."""
    trace = "".join(traceback.format_exception(error)).rstrip()
    if len(trace) > _LONGEST:
        trace = f"{trace[: _LONGEST // 2]}\n[...]\n{trace[-_LONGEST // 2 :]}"
    record = {
        "classes": [[c.__module__, c.__qualname__] for c in type(error).__mro__],
        "text": text_of(error),
        "rank": rank,
        "traceback": trace,
    }
    return np.frombuffer(json.dumps(record).encode("utf-8"), dtype=np.uint8)


def best(data: np.ndarray[Any, Any]) -> int:
    """Return the first of the exception's classes that this rank can make: 0 for its own, 1 for its base and so on."""
    return next((i for i, error in enumerate(_candidates(data, 0)) if error is not None), _NO_CLASS)


def decode(data: np.ndarray[Any, Any], first: int = 0) -> BaseException:
    """Return the exception of another rank, its traceback as a note; ``first`` is the first class to try."""
    record = _read(data)
    made = (error for error in _candidates(data, first) if error is not None)
    error = next(made, None) or RemoteError(f"{record['classes'][0][1]}: {record['text']}")
    error.add_note(f"[rank {record['rank']}] {record['traceback']}")
    return error


def _read(data: np.ndarray[Any, Any]) -> Any:
    return json.loads(data.tobytes().decode("utf-8"))


def _candidates(data: np.ndarray[Any, Any], first: int) -> Iterator[BaseException | None]:
    """Give for each class from ``first`` on what this rank can make of it."""
    record = _read(data)
    name = record["classes"][0][1]
    for module, base in record["classes"][first:]:
        found: Any = sys.modules.get(module)
        for part in base.split("."):
            found = getattr(found, part, None)
        yield _made(found, name, record["text"])


def _nearest(classes: Sequence[type], text: str) -> BaseException:
    """Return an exception of the first of the classes that can be made with this text."""
    name = classes[0].__qualname__
    made = (error for class_ in classes if (error := _made(class_, name, text)) is not None)
    return next(made, None) or RemoteError(f"{name}: {text}")


def _made(class_: Any, name: str, text: str) -> BaseException | None:
    """Return an exception of a class in the place of one of class ``name``; None if it cannot be made or is no help."""
    if not isinstance(class_, type) or not issubclass(class_, Exception):
        return None
    if class_.__qualname__ != name:
        if class_ is Exception:
            return None
        text = f"{name}: {text}"
    # Without its constructor, which may want anything; some builtin classes have a text only with it.
    for make in (class_.__new__, lambda c: c(text)):
        with contextlib.suppress(Exception):
            error: BaseException = make(class_)
            error.args = (text,)
            if str(error) == text or (isinstance(error, KeyError) and str(error) == repr(text)):
                return error
    return None
