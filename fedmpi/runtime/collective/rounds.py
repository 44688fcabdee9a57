"""A round: one collective call, begun by a header, in which a failure on one rank becomes the same error on all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from fedmpi.language.errors import ContextError, Report
from fedmpi.language.source import user_location
from fedmpi.local.columns.values import ArgumentError
from fedmpi.local.status import NO_CLIENT, NOW
from fedmpi.runtime.collective import alike, failures
from fedmpi.runtime.collective.failures import ClientError, refuse
from fedmpi.runtime.collective.header import UNKNOWN, Header
from fedmpi.runtime.mpi import forked, line
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.mpi.library import check_thread

Words = np.ndarray[Any, np.dtype[np.int64]]
NOTHING: Words = np.zeros(3, dtype=np.int64)


class _Turn:
    """One call at a time, after those in line: other threads wait for theirs.

    A call inside a call would meet no other rank.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Be free, in a process whose parent may have been in a call."""
        self._lock = threading.Lock()
        self._thread: int | None = None

    def take(self, name: str) -> None:
        """Wait for the call of another thread to end; raise `ContextError` if this thread is in one."""
        if self._thread == threading.get_ident():
            report = Report.here(
                f"{name} is collective and cannot be called inside a local computation, which runs on some ranks only",
                "call it before, and pass the result as an argument",
            )
            raise ContextError(str(report))
        line.wait()
        self._lock.acquire()
        self._thread = threading.get_ident()

    def give(self) -> None:
        self._thread = None
        self._lock.release()


_turn = _Turn()
forked.after_fork(_turn.renew)


class Round:
    """Failures are noted, not raised, until all ranks know of them; a context manager begins and ends the call."""

    def __init__(self, comm: Communicator, name: str) -> None:
        self.comm, self.name = comm, name
        self.number, self.where = 0, ""  # of the call, from its beginning on
        self.failure: BaseException | None = None
        self.failed_client: int | None = None
        self.agreed = False  # all ranks raise the same error
        self.given: list[alike.Alike] = []  # what every rank gives alike
        self.differs = False  # this rank gives something else than rank 0

    def __enter__(self) -> Round:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        NOW.doing, NOW.stage, NOW.stages, NOW.client, NOW.clients = "", -1, 0, NO_CLIENT, 0
        _turn.give()
        # A rank that leaves by an exception of its own is still in the call: those who wait for it must see that.
        if kind is None or self.agreed:
            self.comm.doing = ""

    def begin(self) -> None:
        """Count the call and say what waiting ranks wait for."""
        if self.comm.one_thread:
            check_thread(self.comm.mpi)
        _turn.take(self.name)
        if self.comm.doing and self.comm.size > 1:
            self.comm.abort(
                1,
                f"left {self.comm.whereabouts()} by an exception that no other rank knows of, caught it, and now calls"
                f" {self.name} at {user_location()}; this ends the job",
            )
        self.comm.call += 1
        self.number = self.comm.call
        self.where = user_location()
        self.comm.doing = f"{self.name} at {self.where}"
        NOW.call, NOW.doing = self.number, self.comm.doing

    def open(self, fingerprint: int, clients: int, program: str, payload: int = 0) -> Header:
        """Exchange headers and return rank 0's; a rank that is given other values than rank 0 fails."""
        failed, given, sample = self.failure is not None, UNKNOWN, UNKNOWN
        if self.comm.size > 1 and not failed:
            given, sample = alike.combined(self.given)
        mine = Header(fingerprint, self.comm.call, clients, int(failed), payload, program, given, sample)
        server = mine.exchange(self.comm)
        if not (failed or server is mine or mine.gives_what(server)):
            self.differs, self.failure = True, ValueError(f"{self.name}: the ranks differ in what they pass")
        return server

    def check_in(self, program: str, clients: int, given: Sequence[alike.Alike] = ()) -> None:
        """Exchange headers of a call that sends nothing with them; raise rank 0's failure on all ranks."""
        digest, self.given = hashlib.sha256(program.encode()).digest(), [*given]
        if self.open(int.from_bytes(digest[:8], "little", signed=True), clients, program).status:
            self.raise_of(0)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Run ``action`` unless this rank has failed already; note a failure instead of raising it."""
        if self.failure is not None:
            return None
        cause: BaseException
        try:
            result = action()
        except ClientError as error:
            self.failed_client, cause = error.client, error.cause
        except Exception as error:
            cause = error
        except BaseException as error:
            if forked.is_child():
                forked.end(error)
            raise
        else:
            if forked.is_child():
                forked.end(None)
            return result
        if forked.is_child():
            forked.end(cause)
        refused = issubclass(type(cause), ArgumentError)
        self.failure = refuse(self.name, cast("ArgumentError", cause)) if refused else failures.shared(cause)
        return None

    def agree(self, words: Words = NOTHING) -> Words:
        """Raise the first client's failure on all ranks if any has failed; else return the least of their three words.

        Always four words in all: the agreement in which a rank reports a failure may be another one to the others.
        """
        if self.comm.size == 1 and self.failure is None:
            return words
        mine = failures.NO_FAILURE
        if self.differs:
            mine = failures.differing(self.comm.rank)
        elif self.failure is not None:
            mine = failures.flag(self.comm.rank, self.failed_client)
        least = self.comm.least(np.array([mine, *words], dtype=np.int64))
        if least[0] < 0:
            self.raise_difference()
        if least[0] != failures.NO_FAILURE:
            self.raise_of(failures.rank_of(int(least[0])))
        return least[1:]

    def raise_difference(self) -> None:
        """Raise on every rank how the first that gives something else differs from rank 0."""
        servers = self.comm.bcast_bytes(alike.encoded(self.given) if self.comm.is_server else None)
        found = alike.difference(self.given, servers, self.comm.rank) if not self.comm.is_server else ""
        if self.differs and not found:
            found = alike.unknown_difference(self.comm.rank)
        first = self.comm.arrive(self.comm.rank if found else self.comm.size)
        text = self.comm.bcast_bytes(np.frombuffer(found.encode(), np.uint8), root=first)
        self.agreed = True
        raise ValueError(f"{self.name}: {text.tobytes().decode()}")

    def raise_of(self, rank: int) -> None:
        """Raise the failure of one rank on every rank."""
        failure = self.failure if rank == self.comm.rank else None
        data = self.comm.bcast_bytes(failures.encode(failure, rank) if failure is not None else None, root=rank)
        # A class that one rank does not have, or cannot make, is raised by none: all can catch the same.
        best = -self.comm.arrive(-failures.best(data))
        self.agreed = True
        if failure is not None and best == 0:
            raise failure
        raise failures.decode(data, best, trace=failure is None) from failure
