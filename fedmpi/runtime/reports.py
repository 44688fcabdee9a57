"""What a call reports: who was left out, where the time went, what travelled; kept on each rank for its last call."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.local.status import NOW
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.plan.dropping import Dropped


@dataclass(frozen=True)
class Seconds:
    """Where the time of a call went on one rank, in seconds: each moment counts once, and `total` is all of them.

    ``arguments`` are checks, packing and placing of arguments; ``compiling`` is Numba's work, wherever it comes up;
    ``server`` the functions at the server; ``local`` the work of the rank's clients; ``bcast`` the broadcasts of
    values; ``reduce`` what brings values up: MPI_Reduce, what is gathered, the end of sums at the server; ``waiting``
    the time in which the rank waits for others to begin a call or to end their work.
    """

    arguments: float = 0.0
    compiling: float = 0.0
    server: float = 0.0
    local: float = 0.0
    bcast: float = 0.0
    reduce: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """The seconds of the whole call."""
        return float(sum(dataclasses.astuple(self)))


@dataclass(frozen=True)
class CallReport:
    """One call of a computation with placements, as one rank has seen it.

    ``name`` is the computation's, ``where`` the line that called it, ``number`` that of the call (0 of a
    `ReferenceContext`), ``seconds`` where the time went.  ``bytes_broadcast`` is what the rank has sent or received by
    broadcasts of values, ``bytes_sent`` what it has sent to other ranks besides: its sums, gathered and moved values.
    ``clients`` is how many the call began with, on all ranks (None: it knows of none); ``dropped`` are those that
    were left out (see `fm.on_client_error`), ``uncompiled`` the stages whose clients were run client by client, each
    with why.  ``nonfinite`` is how many terms of sums and means were infinite or NaN, as rank 0 knows it (None on
    other ranks).  ``error`` is the first line of what ended the call ("" if it has returned).
    """

    name: str
    where: str
    number: int
    seconds: Seconds
    bytes_broadcast: int = 0
    bytes_sent: int = 0
    clients: int | None = None
    dropped: tuple[Dropped, ...] = ()
    uncompiled: tuple[tuple[int, str], ...] = ()
    nonfinite: int | None = None
    error: str = ""

    @property
    def idle(self) -> float:
        """The share of the call's time in which this rank waited for others, from 0 to 1."""
        total = self.seconds.total
        return self.seconds.waiting / total if total else 0.0

    def __str__(self) -> str:
        """Return a few lines for people."""
        parts = [
            f"{name} {1e3 * seconds:.1f}"
            for name, seconds in dataclasses.asdict(self.seconds).items()
            if seconds >= 5e-5
        ]
        lines = [
            f"call {self.number} {self.name} at {self.where}: {1e3 * self.seconds.total:.1f} ms ({', '.join(parts)})",
            f"{self.bytes_broadcast} bytes broadcast, {self.bytes_sent} sent",
        ]
        if self.clients is not None:
            gone = f", {len(self.dropped)} of them dropped" if self.dropped else ""
            lines[1] += f"; {self.clients} clients{gone}"
        lines += [f"dropped: client {each.client} in stage {each.stage}: {each.reason}" for each in self.dropped]
        lines += [f"stage {stage} is run client by client, for {why}" for stage, why in self.uncompiled]
        if self.nonfinite:
            lines.append(f"{self.nonfinite} terms are infinite or NaN")
        return "\n".join([*lines, *([f"ended by {self.error}"] if self.error else [])])


OnReport = Callable[[CallReport], Any] | None
KINDS = tuple(field.name for field in dataclasses.fields(Seconds))


class Clock:
    """The seconds of one call: `to` says what the time from now on is spent on."""

    __slots__ = ("kind", "marks")

    def __init__(self) -> None:
        self.kind = "arguments"
        self.marks = [(self.kind, time.perf_counter(), NOW.compiled)]

    def to(self, kind: str) -> str:
        """Begin to count for ``kind``; return what was counted for until now."""
        before, self.kind = self.kind, kind
        self.marks.append((kind, time.perf_counter(), NOW.compiled))
        return before

    def seconds(self) -> Seconds:
        """Return what has been counted up to the last mark."""
        spent = dict.fromkeys(KINDS, 0.0)
        for (kind, began, compiled), (_, ended, compiled_then) in itertools.pairwise(self.marks):
            compiling = min(compiled_then - compiled, ended - began)
            spent["compiling"] += compiling
            spent[kind] += ended - began - compiling
        return Seconds(**spent)


def written(
    name: str, where: str, number: int, clock: Clock, broadcast: int, sent: int, clients: int | None,
    dropped: list[Dropped], uncompiled: list[tuple[int, str]], nonfinite: int | None, error: str,
) -> CallReport:  # fmt: skip
    """Return a report of what a call has noted."""
    gone, slow = tuple(dropped), tuple(uncompiled)
    return CallReport(name, where, number, clock.seconds(), broadcast, sent, clients, gone, slow, nonfinite, error)


_last: CallReport | Callable[[], CallReport] | None = None


def made(report: Callable[[], CallReport], on_report: OnReport) -> None:
    """Keep the report of the last call, which is written when somebody reads it, and hand it to who wants it.

    It must hold nothing of the call that is large.
    """
    global _last
    _last = report
    if on_report is not None:
        _last = of_call = report()
        on_report(of_call)


def _written() -> CallReport | None:
    global _last
    if callable(_last):
        _last = _last()
    return _last


def checked_callback(who: str, on_report: Any) -> OnReport:
    """Return a context's ``on_report``, or raise `TypeError`."""
    if on_report is not None and not callable(on_report):
        raise TypeError(f"{who}: on_report must be a function of a fm.CallReport or None, found {on_report!r}")
    return on_report  # type: ignore[no-any-return]


def last_report() -> CallReport | None:
    """Return what this process knows of its last call that has ended, well or by an error; None before the first.

    A call is that of a computation with placements.  Each rank knows its own seconds and bytes; `fm.last_reports` has
    those of all ranks.  A context hands each report to its ``on_report``, on the thread of the call, after the call:
    what that raises comes out of the call, on its rank alone.
    """
    return _written()


def gathered(comm: Communicator) -> tuple[CallReport, ...]:
    """Return the last report of each rank, by rank, on all of them (collective); nothing if one has none."""
    with Round(comm, "last_reports") as step:
        step.check_in("last_reports", UNKNOWN)
        last = _written()
        mine = json.dumps(None if last is None else dataclasses.asdict(last)).encode()
        parts = comm.allgather_bytes(np.frombuffer(mine, np.uint8))
    found = [json.loads(part.tobytes()) for part in parts]
    return () if None in found else tuple(map(_from_plain, found))


def _from_plain(fields: dict[str, Any]) -> CallReport:
    seconds = Seconds(**fields.pop("seconds"))
    dropped = tuple(Dropped(**each) for each in fields.pop("dropped"))
    uncompiled = tuple((stage, why) for stage, why in fields.pop("uncompiled"))
    return CallReport(**fields, seconds=seconds, dropped=dropped, uncompiled=uncompiled)
