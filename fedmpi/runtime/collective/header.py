"""The header that begins every call: what rank 0 is about to do, checked by every other rank.

Ranks that run different programs, are one call apart or pass different numbers of clients would otherwise hang, or
compute nonsense without a word (MPI does not compare what the ranks of a collective pass).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.runtime.mpi.comm import Communicator

_WORDS = 12
_TEXT = 7  # the first words are numbers, the rest is the beginning of the program's name
UNKNOWN = -1


@dataclass(frozen=True)
class Header:
    """``status`` is 1 after a failure on rank 0; ``payload`` is in bytes; ``given`` is a hash of what every rank gives
    alike, ``sample`` one of a few of the values in it.  ``clients``, ``given`` and ``sample`` may be `UNKNOWN`.
    """

    fingerprint: int
    call: int
    clients: int
    status: int
    payload: int
    program: str
    given: int = UNKNOWN
    sample: int = UNKNOWN

    def exchange(self, comm: Communicator) -> Header:
        """Return rank 0's header; a rank that makes another call ends the job."""
        if comm.size == 1:
            return self
        words = np.zeros(_WORDS, dtype=np.int64)
        if comm.is_server:
            numbers = self.fingerprint, self.call, self.clients, self.status, self.payload, self.given, self.sample
            words[:_TEXT] = numbers
            name = self.program.encode("utf-8")[: 8 * (_WORDS - _TEXT)]
            words[_TEXT:].view(np.uint8)[: len(name)] = np.frombuffer(name, dtype=np.uint8)
        comm.bcast(words)
        if comm.is_server:
            return self
        text = words[_TEXT:].tobytes().rstrip(b"\0").decode("utf-8", errors="ignore")
        fingerprint, call, clients, status, payload, given, sample = (int(word) for word in words[:_TEXT])
        server = Header(fingerprint, call, clients, status, payload, text, given, sample)
        trouble = self._differs(server)
        if trouble:
            comm.abort(
                1,
                f"the ranks disagree: {trouble}\n"
                f"  rank 0 calls {server.program} (its call {server.call}, {_clients(server.clients)})\n"
                f"  rank {comm.rank} calls {self.program} (its call {self.call}, {_clients(self.clients)})\n"
                "  every rank must run the same calls in the same order with the same arguments",
            )
        return server

    def _differs(self, server: Header) -> str:
        if self.fingerprint != server.fingerprint:
            # The text may be cut, and says nothing of what a program is made of.
            same = server.program == self.program[: len(server.program)]
            details = " (of one name: a constant, a type, a local computation or a context's option differs)"
            return f"they run different programs{details if same else ''}"
        if self.call != server.call:
            return "they are calls apart"
        return ""

    def gives_what(self, server: Header) -> bool:
        """Tell whether this rank gives the call what rank 0 does, as far as both know."""
        pairs = (self.clients, server.clients), (self.given, server.given), (self.sample, server.sample)
        return all(mine == servers or UNKNOWN in (mine, servers) for mine, servers in pairs)


def _clients(count: int) -> str:
    return "no clients counted" if count == UNKNOWN else f"{count} client" + "s" * (count != 1)
