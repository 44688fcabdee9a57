"""One verdict of all ranks on each phase of a test: a failing test takes nothing but itself with it.

Every rank runs pytest by itself, so a test may fail on one rank and pass on another, or leave it in a collective that
nobody else will come to.  So after each phase (setup, call, teardown) the ranks tell each other how it has ended there:

- A phase that failed anywhere, or ended differently on two ranks, has failed on all.  The report names the ranks.
- A rank that waits in a collective while another one has failed is released by an exception, after a second.
- A rank that is in no wait of fedmpi's, and does not come, ends the job after `PATIENCE` seconds, and its name is told.

After a failure on some ranks alone they may have come to different numbers of collectives, and one that was released
leaves its own half done.  The communicator then gets a new duplicate of the world, under which the next test starts.

Verdicts travel over a duplicate of their own, so that nothing that a test leaves on its way can be taken for one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest._code.code import TerminalRepr

from fedmpi.runtime.mpi import line
from fedmpi.runtime.mpi.comm import Communicator, abort_world
from fedmpi.runtime.mpi.launch import LaunchError
from fedmpi.runtime.mpi.stderr import say

# Seconds that the others have for a test that has failed on one rank; a test that compiles may well need them.
PATIENCE = float(os.environ.get("FEDMPI_TEST_PATIENCE", "30"))
# Where nobody has failed one rank may work much longer than the others: what takes longer than this has lost its way.
LOST = 20 * PATIENCE
# Seconds that a rank waits in a collective without one that has failed.
GRACE = 1.0
NAP_FIRST, NAP_LONGEST = 50e-6, 5e-3


class Released(BaseException):
    """Takes a rank out of a collective.  No test and no body of one catches it by accident."""


@dataclass(frozen=True)
class Verdict:
    """How one phase of a test has ended on one rank.

    ``kind`` is "passed", "failed", "skipped", "xfailed" or "xpassed", ``text`` a traceback or a reason, ``crash`` the
    file, line and message of a failure.  ``left`` says where the rank waited until it was released.  ``state`` are
    the numbers that the ranks' communicators must have in common.
    """

    nodeid: str
    when: str
    kind: str
    text: str = ""
    crash: tuple[str, int, str] | None = None
    left: str = ""
    state: tuple[Any, ...] = ()


class Verdicts:
    """What the ranks of the world tell each other."""

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        comm.arrive(0)  # a wait that notices a rank that has left pytest already, as the next line does not
        self.side = comm.mpi.COMM_WORLD.Dup()
        self.others = [rank for rank in range(comm.size) if rank != comm.rank]
        # What has come, by rank, and when.  Nobody is more than one phase ahead of another.
        self.arrived: dict[int, deque[tuple[float, Verdict]]] = {rank: deque() for rank in self.others}
        self.lock = threading.RLock()  # asynchronous calls wait in a thread of their own
        self.sent: list[Any] = []
        self.left = ""  # where this rank waited when it was released, in this phase
        self.quiet = False  # no call of the test may go on
        self.released: list[Released] = []  # their frames have buffers that MPI may still write to
        self.given_up: list[Any] = []

    def settle(self, mine: Verdict) -> list[Verdict]:
        """Tell the others how a phase has ended here, and return how it has on each rank."""
        self.sent = [request for request in self.sent if not request.Test()]
        self.sent += [self.side.isend(mine, rank) for rank in self.others]
        began, nap = time.monotonic(), NAP_FIRST
        while not all(self.arrived.values()):
            self.receive()
            self.lose_patience(mine, began)
            time.sleep(nap)
            nap = min(1.2 * nap, NAP_LONGEST)
        with self.lock:
            self.left = ""
            told = {rank: queue.popleft()[1] for rank, queue in self.arrived.items()} | {self.comm.rank: mine}
        if len({(verdict.nodeid, verdict.when) for verdict in told.values()}) > 1:
            where = [f"rank {rank} in the {told[rank].when} of {told[rank].nodeid}" for rank in sorted(told)]
            self.end(0, f"the ranks have come to different tests: {', '.join(where)}; this ends the job")
        return [told[rank] for rank in sorted(told)]

    def receive(self) -> None:
        """Put what has come where it is waited for."""
        with self.lock:
            while (message := self.side.improbe()) is not None:
                status = self.comm.mpi.Status()
                verdict = message.recv(status)
                self.arrived[status.Get_source()].append((time.monotonic(), verdict))

    def failed(self) -> dict[int, tuple[float, Verdict]]:
        """Return what has come of this phase from ranks on which it has failed, and when."""
        with self.lock:
            here = {rank: queue[0] for rank, queue in self.arrived.items() if queue}
        return {rank: (since, verdict) for rank, (since, verdict) in here.items() if verdict.kind == "failed"}

    def lose_patience(self, mine: Verdict, began: float) -> None:
        """End the job where there is no hope left that the others come."""
        failed = self.failed() | ({self.comm.rank: (began, mine)} if mine.kind == "failed" else {})
        limit, since = (PATIENCE, min(since for since, _ in failed.values())) if failed else (LOST, began)
        if time.monotonic() - since > limit:
            here = [rank for rank, queue in self.arrived.items() if queue] + [self.comm.rank]
            missing = {*range(self.comm.size)} - {*here}
            how = f"failed on {ranks(failed)}" if failed else f"has ended on {ranks(here)}"
            lines = [f"{mine.nodeid} ({mine.when}) {how}; {ranks(missing)} did not come out of it; this ends the job"]
            lines += [f"--- rank {rank}\n{failed[rank][1].text}" for rank in sorted(failed)]
            self.end(min(failed or here), "\n".join(lines))

    def end(self, speaker: int, text: str) -> None:
        """End the job with a text, which one rank says."""
        if self.comm.rank == speaker:
            sys.stdout.flush()
            self.comm.abort(1, text)
        time.sleep(PATIENCE)  # for the other one to do so
        abort_world(1)

    def look(self, comm: Communicator, waited: float) -> None:
        """Leave a wait of ``comm``'s, ``waited`` seconds old, if another rank has failed and will not come to it."""
        if not (waited > GRACE or self.is_over):
            return
        self.receive()
        now = time.monotonic()
        if waited > GRACE and any(now - since > GRACE for since, _ in self.failed().values()):
            self.left = self.left or " at ".join(filter(None, [comm.whereabouts(), own_place()]))
        if self.is_over:
            comm.doing = ""  # else the next call ends the job; all of them end here
            self.release()

    @property
    def is_over(self) -> bool:
        """Whether nothing more of a test can be done on this rank, but to leave it."""
        return bool(self.left or self.quiet)

    def release(self) -> NoReturn:
        """Leave the test, whatever it is in."""
        self.released.append(Released("another rank has failed in this test"))
        raise self.released[-1]

    def renew(self, nodeid: str) -> None:
        """Give the communicator a new duplicate of the world; what knows it, data for one, may go on to do so."""
        self.quiet = True
        line.drop()
        if not idle(PATIENCE):
            self.comm.abort(1, f"an asynchronous call of {nodeid} does not end; this ends the job")
        told = self.settle(Verdict(nodeid, "renewal", "passed", state=self.state()))
        self.quiet = False
        self.given_up.append((self.comm._comm, self.comm._posted))
        Communicator.__init__(self.comm, self.comm.mpi, self.comm.mpi.COMM_WORLD)
        self.comm.call = max(verdict.state[0] for verdict in told)  # what calls have made is known by their numbers

    def state(self) -> tuple[Any, ...]:
        """Return what must be the same on all ranks between two tests; nothing where calls go on."""
        return (self.comm.call, bool(self.comm.doing)) if idle(GRACE) else ()


def idle(seconds: float) -> bool:
    """Wait for asynchronous calls to end, so long at most; tell whether they have."""
    until = time.monotonic() + seconds
    while line.is_busy() and time.monotonic() < until:
        time.sleep(NAP_LONGEST)
    return not line.is_busy()


def own_place() -> str:
    """Return the file and line of the test that has come here; nothing in another thread."""
    for frame, number in traceback.walk_stack(sys._getframe(1)):
        path = Path(frame.f_code.co_filename)
        if path.name.startswith("test_"):
            return f"{path.name}:{number}"
    return ""


_verdicts: Verdicts | None = None


def watch(config: pytest.Config) -> None:
    """Let the waits of communicators notice what has failed elsewhere, and let all hear what ends the job."""
    look, abort = Communicator._look, Communicator.abort
    capturing = config.pluginmanager.getplugin("capturemanager")

    @functools.wraps(look)
    def looks(comm: Communicator, waited: float) -> None:
        look(comm, waited)
        if _verdicts is not None and comm.size > 1:
            _verdicts.look(comm, waited)

    @functools.wraps(abort)
    def aborts(comm: Communicator, code: int, text: str) -> None:
        if _verdicts is not None and _verdicts.is_over:
            _verdicts.release()
        test = os.environ.get("PYTEST_CURRENT_TEST", "pytest")
        with capturing.global_and_fixture_disabled() if capturing is not None else contextlib.nullcontext():
            abort(comm, code, f"in {test}:\n{text}")

    Communicator._look, Communicator.abort = looks, aborts  # type: ignore[method-assign]


def of_the_world() -> Verdicts | None:
    """Return what the ranks tell each other (collective the first time); None where there is one rank alone."""
    global _verdicts
    if _verdicts is None:
        try:
            comm = Communicator.open()
        except LaunchError:  # the tests say so
            return None
        if comm.size > 1:
            _verdicts = Verdicts(comm)
    return _verdicts


def agree(report: pytest.TestReport) -> None:
    """Make one report of those of all ranks."""
    verdicts = of_the_world()
    if verdicts is None:
        return
    told = verdicts.settle(verdict_of(report, verdicts))
    kinds, states = {verdict.kind for verdict in told}, {verdict.state for verdict in told if verdict.state}
    if "failed" not in kinds and len(kinds) == 1 and len(states) < 2:
        return
    report.outcome = "failed"
    vars(report).pop("wasxfail", None)
    report.longrepr = OnRanks(told, report.longrepr)
    if verdicts.comm.rank == 0:
        sys.stdout.flush()
        say(0, f"{report.nodeid}: {report.longrepr.headline()}")  # a later test may end the job before pytest does
    if not alike(told):
        verdicts.renew(report.nodeid)


def verdict_of(report: pytest.TestReport, verdicts: Verdicts) -> Verdict:
    """Return how a phase has ended on this rank."""
    kind = report.outcome
    if hasattr(report, "wasxfail") and kind != "failed":
        kind = "xfailed" if kind == "skipped" else "xpassed"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    crash = getattr(report.longrepr, "reprcrash", None)
    place = None if crash is None else (crash.path, crash.lineno, crash.message)
    return Verdict(report.nodeid, report.when or "", kind, text, place, verdicts.left, verdicts.state())


def alike(told: Sequence[Verdict]) -> bool:
    """Tell whether all ranks have failed in one place, between two calls, and so after the same collectives."""
    places = {verdict.crash and verdict.crash[:2] for verdict in told}
    states = {verdict.state for verdict in told}
    between = len(states) == 1 and all(state and not state[-1] for state in states)
    return between and all(v.kind == "failed" and not v.left for v in told) and len(places) == 1 and None not in places


class OnRanks(TerminalRepr):
    """What pytest shows of a failure: on which ranks, and each text once."""

    def __init__(self, told: Sequence[Verdict], own: Any) -> None:
        self.told = told
        self.reprcrash = getattr(own, "reprcrash", None)
        self.groups: dict[Any, list[int]] = {}  # ranks that have failed in the same way
        for rank, verdict in enumerate(told):
            if verdict.kind == "failed" and not verdict.left:
                self.groups.setdefault(verdict.crash or verdict.text, []).append(rank)
        # Where all have, as pytest would show it without us.
        self.own = own if len(self.groups) == 1 and len(next(iter(self.groups.values()))) == len(told) else None

    def headline(self) -> str:
        """Return in a line how the test has ended on which ranks."""
        parts = [f"rank {rank} waited in {v.left}" for rank, v in enumerate(self.told) if v.left]
        ways: dict[str, list[int]] = {}
        for rank, verdict in enumerate(self.told):
            why = verdict.text.splitlines()[-1:] if verdict.kind in ("skipped", "xfailed") else []
            reason = "".join(f" ({line})" for line in why)
            if not verdict.left:
                ways.setdefault(f"{verdict.kind}{reason}", []).append(rank)
        parts = [f"{way} on {ranks(found)}" for way, found in ways.items()] + parts
        if len({verdict.state[0] for verdict in self.told if verdict.state}) > 1:
            counts = [f"{v.state[0]} on rank {rank}" for rank, v in enumerate(self.told) if v.state]
            parts.append(f"the numbers of calls differ: {', '.join(counts)}")
        return "; ".join(parts)

    def toterminal(self, tw: Any) -> None:
        tw.line(self.headline())
        if isinstance(self.own, TerminalRepr):
            self.own.toterminal(tw)
            return
        for found in self.groups.values():
            tw.sep("- ", ranks(found))
            tw.line(self.told[found[0]].text)


def ranks(found: Iterable[int]) -> str:
    """Return what some ranks are called in texts."""
    numbers = sorted(found)
    return f"rank{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def leave(code: int) -> None:
    """End the job after all reports if a rank was released: MPI_Finalize might wait for what it has left half done."""
    if _verdicts is None:
        return
    told = _verdicts.settle(Verdict("pytest", "end", "released" if _verdicts.released else "passed"))
    if any(verdict.kind == "released" for verdict in told):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if _verdicts.comm.rank == 0:
            abort_world(code or 1)
        time.sleep(PATIENCE)  # for rank 0 to do so
