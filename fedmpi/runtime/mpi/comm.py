"""The communicator: typed messages between the ranks, waits that notice a rank that has left, and one way to abort.

MPI is loaded when the first `Communicator` is opened (`library`).  Buffers are NumPy arrays and travel by the
upper-case, typed methods; nothing is pickled.  A world of one rank is the same code.

Waiting.  A blocking MPI call cannot notice that the rank it waits for has ended its script (MPI then waits for ever),
and MPICH's spins on a core that a working rank may need.  So where a rank may wait long (the header of a round, the
agreement at its end) it starts the non-blocking collective and tests it: for a moment as fast as it can, then with
short sleeps, and looks for goodbyes in between (exits.py has the other side).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmpi.local.status import NOW
from fedmpi.runtime.mpi import cores, forked, library
from fedmpi.runtime.mpi.library import abort_world, check_thread, is_active, load
from fedmpi.runtime.mpi.stderr import say

__all__ = ["Communicator", "Departure", "abort_world", "is_active", "opened", "watch_openings"]

Bytes = NDArray[np.uint8]

# Tags on the private communicator.
GOODBYE, WAITING, DATA = 1, 2, 3
# MPI counts are 32-bit before MPI-4 (Open MPI 5 is MPI 3.1), so longer messages go in pieces of this many bytes.
PIECE = 1 << 30
# A sum longer than this goes in several MPI_Reduces: pieces that stay in the cache are two to eight times faster
# (0.8 GB on 3 ranks of 2 cores: MPICH 7.4 s in pieces of 1 GiB, 0.86 s in these; Open MPI 1.7 and 0.27 s).
REDUCE_PIECE = 1 << 22
# Seconds of testing without sleep while a rank waits: where ranks share cores, and where each has its own.
SPIN_CROWDED, SPIN = 50e-6, 1.0
# Seconds of one sleep between two tests, from the first to the longest.
NAP_FIRST, NAP_LONGEST = 50e-6, 1e-3
# Seconds after which a rank that waits in vain ends the job itself; the rank that left does so before, with its stack.
IN_VAIN = 5.0
OTHERS = "the other ranks"  # whom a rank waits for that waits for all


class Departure(NamedTuple):
    """A goodbye: how many calls its rank has completed, and whether it left by an exception."""

    calls: int
    raised: bool


class Communicator:
    """A private duplicate of an MPI communicator.

    `rank`, `size`, `host`; `cores` that this process may run on; `ranks_on_node` of this communicator.
    `call` and `doing` are written by the executor: the number of the current federated call, counted from 1, and its
    text, such as "federated_train at train.py:30".  `doing` is empty between calls: a rank that leaves then has
    completed `call` calls, and one that leaves in the middle of a call has completed `call - 1`.
    """

    @classmethod
    def open(cls, comm: Any = None) -> Communicator:
        """Return the communicator over `comm` (an mpi4py intracommunicator; the world by default).

        Collective over `comm` the first time; afterwards the same object is returned.  Loads and initialises MPI.

        Raises:
            LaunchError: The processes cannot form one world, or there is no MPI library.
            ContextError: This is another thread than that of MPI_Init, which is the only one that may call MPI.
            ValueError: `comm` is an intercommunicator or null.

        """
        global _key
        forked.check()
        with library.one_thread:
            mpi = load()
            check_thread(mpi)
            given = mpi.COMM_WORLD if comm is None else comm
            if given == mpi.COMM_NULL or given.Is_inter():
                raise ValueError("the communicator must be an intracommunicator that this rank belongs to")
            if _key is None:
                _key = mpi.Comm.Create_keyval()
            known = given.Get_attr(_key)
            if known is None:
                known = cls(mpi, given)
                given.Set_attr(_key, known)
                _opened.append(known)
                if _at_opening is not None:
                    _at_opening(known)
            return known  # type: ignore[no-any-return]

    def __init__(self, mpi: Any, given: Any) -> None:
        """Duplicate `given`; use `open`."""
        self._mpi = mpi
        _meet(given)
        self._comm = given.Dup()
        # What a rank is called in the text of errors, whatever it is in this communicator.
        self.in_world: list[int] = given.Get_group().Translate_ranks(None, mpi.COMM_WORLD.Get_group())
        self.rank: int = self._comm.Get_rank()
        self.size: int = self._comm.Get_size()
        self.is_server: bool = self.rank == 0
        self.host = socket.gethostname()
        self.cores = len(cores.own())
        self.ranks_on_node, node_cores = cores.survey(self._comm, mpi)
        self.call = 0
        self.doing = ""
        self.departed: dict[int, Departure] = {}  # by rank
        self.secrets: dict[tuple[int, ...], Any] = {}  # see `secure`
        self.masked = 0
        self.sent = 0  # bytes of sums, gathered and moved values that this rank has sent
        self._told: set[int] = set()  # departed ranks that know that we wait
        self._posted: list[Any] = []  # requests of small messages and their buffers
        # Ranks bound to cores by the launcher each see only their own: what counts is the cores of all of them.
        self._spin = SPIN_CROWDED if self.ranks_on_node > node_cores else SPIN
        self._status = mpi.Status()
        self.one_thread = mpi.Query_thread() < mpi.THREAD_SERIALIZED  # that of MPI_Init alone may call
        self._fetching = threading.Lock()

    def __repr__(self) -> str:
        return f"<Communicator rank {self.rank} of {self.size} on {self.host}>"

    @property
    def ranks(self) -> Communicator | None:
        """What a `ClientData` that is made here says of whose ranks own its clients: None of one rank."""
        return self if self.size > 1 else None

    @property
    def library(self) -> str:
        """What the MPI library says about itself, many lines of it."""
        return str(self._mpi.Get_library_version())

    @property
    def mpi(self) -> Any:
        """The module mpi4py.MPI, for those who measure what it does without fedmpi."""
        return self._mpi

    # Collectives of a round.

    def bcast(self, buffer: NDArray[Any], root: int = 0) -> None:
        """Send `buffer` of rank `root` to all, in place.

        `buffer` is C-contiguous, of one size and type on all ranks, of any numeric dtype and size.  Always waited for
        with an eye on goodbyes: a rank that relays what `root` sends may have left, though `root` is here.
        """
        if self.size == 1 or buffer.nbytes == 0:
            return
        if not buffer.flags.c_contiguous:
            raise ValueError("a buffer for MPI must be C-contiguous")
        short = [(root, [buffer, buffer.nbytes, self._mpi.BYTE])]
        for _, piece in short if buffer.nbytes <= PIECE else self._pieces({root: buffer}):
            self._wait(self._comm.Ibcast(piece, root), OTHERS if self.rank == root else f"rank {self.in_world[root]}")

    def arrive(self, flag: int) -> int:
        """Return the smallest `flag` of all ranks, once every rank has called this."""
        return int(self.least(np.array([flag], dtype=np.int64))[0])

    def least(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the elementwise minimum of the ranks' `words`, once every rank has called this.

        Waits politely, however long another rank works; the blocking Reduce that follows is then short.
        """
        agreed = words.copy()
        if self.size > 1:
            self._wait(self._comm.Iallreduce(words, agreed, self._mpi.MIN))
        return agreed

    def reduce(self, buffer: NDArray[Any], by: str | Callable[[Any, Any, Any], None] = "SUM") -> None:
        """Combine the ranks' `buffer`s (contiguous) on rank 0, in place, by MPI_Ireduce; others' are unchanged.

        `by` is the name of an MPI operation, or a function that combines the bytes of one buffer into another's; it is
        always given whole ones.
        """
        if self.size == 1 or not buffer.size:
            return
        self.sent += 0 if self.is_server else buffer.nbytes
        if callable(by):
            whole = self._mpi.BYTE.Create_contiguous(buffer.nbytes).Commit()
            operation = self._mpi.Op.Create(by, commute=True)
            self._ireduce([buffer, 1, whole], operation)
            operation.Free()
            whole.Free()
            return
        flat = buffer.reshape(-1)
        step = REDUCE_PIECE // buffer.itemsize
        for start in range(0, flat.size, step):
            self._ireduce(flat[start : start + step], getattr(self._mpi, by))

    def _ireduce(self, message: Any, operation: Any) -> None:
        sent, received = (self._mpi.IN_PLACE, message) if self.is_server else (message, None)
        self._wait(self._comm.Ireduce(sent, received, operation, 0))

    # Bytes of sizes that the receiver does not know.

    def bcast_bytes(self, data: Bytes | None, root: int = 0) -> Bytes:
        """Return `data` (uint8) of rank `root` on every rank; elsewhere the argument is ignored."""
        size = np.array([0 if data is None else data.size], np.int64)
        self.bcast(size, root)
        if self.rank == root:
            if data is None:
                raise TypeError(f"rank {root} must give the bytes to broadcast")
            received = np.ascontiguousarray(data, np.uint8)
        else:
            received = np.empty(int(size[0]), np.uint8)
        self.bcast(received, root)
        return received

    def gather_bytes(self, data: Bytes) -> list[Bytes] | None:
        """Return the `data` (uint8[n], n differs) of all ranks by rank, on rank 0; None on the others."""
        sizes = np.zeros(self.size if self.is_server else 0, np.int64)
        self._wait(self._comm.Igather(np.array([data.size], np.int64), sizes if self.is_server else None, 0))
        if not self.is_server:
            self._deliver({0: data}, {})
            return None
        received = [np.empty(int(size), np.uint8) for size in sizes]
        received[0][:] = data
        self._deliver({}, {source: received[source] for source in range(1, self.size)})
        return received

    def allgather_bytes(self, data: Bytes) -> list[Bytes]:
        """Return the `data` (uint8[n], n differs) of all ranks by rank, on every rank."""
        return self.exchange_bytes([data] * self.size)

    def exchange_bytes(self, data: Sequence[Bytes]) -> list[Bytes]:
        """Send `data[r]` (uint8[n], n differs) to rank r; return what the ranks sent here, by rank."""
        if len(data) != self.size:
            raise ValueError(f"exchange_bytes: one array for each of {self.size} ranks expected, found {len(data)}")
        sizes = np.zeros(self.size, np.int64)
        self._wait(self._comm.Ialltoall(np.array([part.size for part in data], np.int64), sizes))
        received = [np.empty(int(size), np.uint8) for size in sizes]
        received[self.rank][:] = data[self.rank]
        others = [rank for rank in range(self.size) if rank != self.rank]
        self._deliver({rank: data[rank] for rank in others}, {rank: received[rank] for rank in others})
        return received

    def _deliver(self, outgoing: dict[int, NDArray[Any]], incoming: dict[int, NDArray[Any]]) -> None:
        """Send and receive bytes of known sizes by rank, without an order that could block; empty ones are not sent.

        Point to point instead of MPI_Gatherv and MPI_Alltoallv, whose counts and displacements are 32-bit before MPI-4.
        """
        self.sent += sum(part.nbytes for part in outgoing.values())
        requests = [self._comm.Irecv(piece, source, DATA) for source, piece in self._pieces(incoming)]
        requests += [self._comm.Isend(piece, target, DATA) for target, piece in self._pieces(outgoing)]
        for request in requests:
            self._wait(request)

    def _pieces(self, parts: dict[int, NDArray[Any]]) -> Iterator[tuple[int, list[Any]]]:
        for rank, part in parts.items():
            flat = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            for start in range(0, flat.size, PIECE):
                yield rank, [flat[start : start + PIECE], self._mpi.BYTE]

    # Waiting.

    def _wait(self, request: Any, whom: str = OTHERS) -> None:
        """Test `request` until it is complete: spin, then sleep in short steps; look for goodbyes meanwhile."""
        test = request.Test
        if test():
            return
        NOW.waiting_for, NOW.waiting_since = whom, time.perf_counter()
        try:
            self._wait_long(test, NOW.waiting_since)
        finally:
            NOW.waiting_for = ""

    def _wait_long(self, test: Callable[[], bool], start: float) -> None:
        while (waited := time.perf_counter() - start) < self._spin:
            for _ in range(10):
                for _ in range(10):
                    if test():
                        return
                # Where ranks share cores this is what makes spinning cheap: 3 ranks on 2 cores, 95 instead of 900 us
                # for a round of 31 kB.  Where they do not it costs nothing that could be measured.
                _yield()
            self._look(waited)
        while not test():
            # Late by a fiftieth of the time waited, on average; shorter naps would steal more of the workers' cores.
            time.sleep(min(max(waited / 25, NAP_FIRST), NAP_LONGEST))
            waited = time.perf_counter() - start
            self._look(waited)

    def _look(self, waited: float) -> None:
        """Receive goodbyes; tell a rank that has left too early that we wait, and give up when it does not react.

        `waited`: seconds in this wait.  Too early is with fewer calls than the one we wait in, or, two seconds after
        all others have left, in any case: nobody is there who could still send.
        """
        self.receive_goodbyes()
        if not self.departed:
            return
        alone = len(self.departed) == self.size - 1 and waited > 2.0
        # A rank that raised what all raise in this call has done its part: we are about to hear of the error ourselves.
        outside = not self.doing
        early = [
            rank for rank, gone in self.departed.items() if gone.calls < self.call or (gone.raised and outside) or alone
        ]
        for rank in early:
            if rank not in self._told:
                self._told.add(rank)
                self.post(rank, WAITING, np.frombuffer(self.whereabouts().encode(errors="backslashreplace"), np.uint8))
        if early and waited > IN_VAIN:
            gone, rank = self.departed[early[0]], self.in_world[early[0]]
            self.abort(1, f"waits in {self.whereabouts()}, but rank {rank} ended its script after {gone.calls} calls")

    def whereabouts(self) -> str:
        """Return the current call as text: its number and what it does."""
        return f"call {self.call} ({self.doing or 'outside a federated computation'})"

    def completed(self) -> int:
        """Return how many federated calls this rank has completed."""
        return self.call - bool(self.doing)

    # Small messages between a rank that leaves and those that stay.

    def say_goodbye(self, *, raised: bool) -> None:
        """Tell every other rank that this one has ended its script."""
        news = np.array([self.completed(), raised], np.int64)
        for rank in range(self.size):
            if rank != self.rank:
                self.post(rank, GOODBYE, news.view(np.uint8))

    def receive_goodbyes(self) -> None:
        """Note in `departed` the ranks that have said goodbye since the last look."""
        while (message := self.fetch(GOODBYE)) is not None:
            source, data = message
            calls, raised = data.view(np.int64)
            self.departed[source] = Departure(int(calls), bool(raised))

    def post(self, target: int, tag: int, data: Bytes) -> None:
        """Send a small message without waiting for it to be received."""
        self._posted.append((self._comm.Isend([data, self._mpi.BYTE], target, tag), data))

    def fetch(self, tag: int) -> tuple[int, Bytes] | None:
        """Return sender and bytes of a message with this tag, or None if there is none yet."""
        with self._fetching:  # a thread that leaves and one that waits must not see the same message
            if not self._comm.Iprobe(self._mpi.ANY_SOURCE, tag, self._status):
                return None
            source: int = self._status.Get_source()
            data = np.empty(self._status.Get_count(self._mpi.BYTE), np.uint8)
            self._comm.Recv([data, self._mpi.BYTE], source, tag)
        return source, data

    def abort(self, code: int, text: str) -> None:
        """End the whole job with exit code `code` and print `text` after "[rank r]" first.  Does not return."""
        say(self.in_world[self.rank], text)
        abort_world(code)


_opened: list[Communicator] = []
_at_opening: Callable[[Communicator], None] | None = None
_key: int | None = None  # the attribute under which a communicator of the user's holds ours; it dies with the user's


def opened() -> list[Communicator]:
    """Return the communicators that have been opened, none of them once MPI is finalised."""
    return list(_opened) if is_active() else []


# Where there is none of its kind a sleep of no time gives way too.
_yield: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0))


class _Gone:
    """Stands for the communicator of MPI in a process that was forked from a rank."""

    def __init__(self, kept: Any) -> None:
        self.__dict__["kept"] = kept  # it must not be freed, which may call MPI

    def __getattr__(self, name: str) -> Any:
        forked.check()
        raise AttributeError(name)


def _lose_all() -> None:
    if forked.is_child():
        for comm in _opened:
            comm._comm = _Gone(comm._comm)


forked.after_fork(_lose_all)


def _meet(given: Any) -> None:
    """Wait until all ranks of `given` are here to open it; look meanwhile for ranks that have left others."""
    request = given.Ibarrier()
    start = time.perf_counter()
    while not request.Test():
        time.sleep(NAP_LONGEST)
        for comm in _opened:
            comm._look(time.perf_counter() - start)


def watch_openings(action: Callable[[Communicator], None]) -> None:
    """Call `action` with every communicator that will be opened."""
    global _at_opening
    _at_opening = action
