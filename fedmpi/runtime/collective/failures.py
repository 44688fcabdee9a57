"""An exception on one rank becomes the same exception on every rank.

What travels is what it is made of, as plain values (see `exceptions`), and its traceback as text.  Its class is looked
up among the modules that are loaded; where a rank does not have it or cannot make it, all ranks raise a `RemoteError`
that is also an exception of the nearest base that they have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.local.attributes import attributes_of, trace_of
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.local.value_errors import ArgumentError
from fedmpi.runtime.collective import plain
from fedmpi.runtime.collective.exceptions import (
    RemoteError,
    Taken,
    add_note,
    caused,
    make,
    stand_in,
    take_apart,
)
from fedmpi.runtime.mpi import forked

__all__ = [
    "NO_FAILURE",
    "ClientError",
    "RemoteError",
    "annotated",
    "best",
    "decode",
    "encode",
    "flag",
    "noted",
    "rank_of",
    "refuse",
    "shared",
    "who",
]

NO_FAILURE = np.iinfo(np.int64).max
_RANKS = 1 << 20
_NO_CLIENT = 1 << 40
# Characters of a traceback that travel: a text of a megabyte would stand in it several times, on every rank.
_LONGEST = 10_000
_NO_CLASS = 1 << 20


def refuse(name: str, error: ArgumentError) -> TypeError:
    """Return the error of a call: computation, parameter, expected, found, and the user's line."""
    what = "parameter" if error.path else "the argument:"
    return TypeError(str(Report.here(f"{what} {error.text}", error.hint, who=name)))


class ClientError(Exception):
    """What went wrong for one client; the cause is the error itself."""

    reason = ""  # what a report says of a client that is left out

    def __init__(self, client: int, cause: BaseException) -> None:
        super().__init__(client, cause)
        self.client, self.cause = client, cause


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
    """Return the same exception, as other ranks would have it, with a text that says where it arose; its cause is the
    error itself.

    To ``where`` are added the batch, the rank and the local computation, as far as they are known.  What the handler of
    a signal raised stays as it is.
    """
    if forked.is_child() or is_of_handler(error):
        return error  # a child says nothing for its rank
    known = attributes_of(error)
    if (batch := known.pop("fedmpi_batch", None)) is not None:
        where += f", batch {batch}"
    if rank is not None:
        where += f" (rank {rank})"
    if (body := known.pop("fedmpi_body", None)) is not None:
        where += f", in {body}"
    taken = take_apart(error)
    made = make(type(error), taken, where)
    bases = (c for c in type(error).__mro__ if issubclass(c, Exception))
    stand_ins = (stand_in(base, taken, where) for base in bases)
    made = made or next(filter(None, stand_ins), None) or RemoteError(f"{taken.name}: {where}: {taken.text}")
    return caused(made, error)  # its traceback shows the user's line


def noted(error: BaseException) -> BaseException:
    """Return the error of a function that the program has called itself: its text as it is, the batch as a note."""
    known = attributes_of(error)
    batch, body = (known.pop(name, None) for name in ("fedmpi_batch", "fedmpi_body"))
    if body is not None:
        add_note(error, f"in {body}" + (f", batch {batch}" if batch is not None else ""))
    return error


# On the wire.


def encode(error: BaseException, rank: int) -> plain.Bytes:
    """Return an exception as bytes; never raises."""
    try:
        return _encoded(take_apart(error), rank, trace_of(error))
    except BaseException:  # the other ranks are waiting
        name = type(error).__qualname__
        return _encoded(Taken([("", name)], "(it cannot be taken apart)"), rank, f"{name}, without a traceback")


def _encoded(taken: Taken, rank: int, trace: str) -> plain.Bytes:
    if len(trace) > _LONGEST:
        trace = f"{trace[: _LONGEST // 2]}\n[...]\n{trace[-_LONGEST // 2 :]}"
    more = plain.to_bytes(_record(taken)).tobytes()
    return plain.to_bytes(
        {"classes": taken.classes, "text": taken.text, "more": more, "rank": rank, "traceback": trace}
    )


def _record(taken: Taken) -> dict[str, Any]:
    return {**vars(taken), "parts": [_record(part) for part in taken.parts]}


def best(data: plain.Bytes) -> int:
    """Return which of the exceptions that may stand for another one is the first that this rank can make.

    0 is one of its own class, what follows are stand-ins, the nearest base first.
    """
    return next((i for i, error in enumerate(_candidates(_taken(data), 0)) if error is not None), _NO_CLASS)


def decode(data: plain.Bytes, first: int = 0, *, trace: bool = True) -> BaseException:
    """Return the exception of another rank, its traceback as a note; ``first`` is the first candidate to try."""
    taken = _taken(data)
    made = (error for error in _candidates(taken, first) if error is not None)
    error = next(made, None) or RemoteError(f"{taken.name}: {taken.text}")
    if trace:
        record = plain.from_bytes(data)
        add_note(error, f"[rank {record['rank']}] {record['traceback']}")
    return error


def shared(error: BaseException) -> BaseException:
    """Return what all ranks would raise for an exception of this one: itself, if other ranks can have the same."""
    with contextlib.suppress(Exception):
        taken = take_apart(error)
        if taken.whole and plain.found_class(*taken.classes[0]) is type(error):
            return error
        data = encode(error, 0)
        made = decode(data, best(data), trace=False)
        return caused(made, error)
    return error


def _taken(data: plain.Bytes) -> Taken:
    record = plain.from_bytes(data)
    with contextlib.suppress(Exception):  # a dtype that this rank does not know
        return _remade(plain.from_bytes(np.frombuffer(record["more"], np.uint8)))
    return Taken(record["classes"], record["text"])


def _remade(record: dict[str, Any]) -> Taken:
    return Taken(**{**record, "parts": [_remade(part) for part in record["parts"]]})


def _candidates(taken: Taken, first: int) -> Iterator[BaseException | None]:
    """Give from number ``first`` on what this rank can make of an exception."""
    if first == 0:
        yield None if taken.stands_in else make(plain.found_class(*taken.classes[0]), taken)
    for module, name in taken.classes[max(0, first - 1) :]:
        base = plain.found_class(module, name)
        yield stand_in(base, taken) if isinstance(base, type) and issubclass(base, Exception) else None
