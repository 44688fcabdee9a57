"""The header that begins every call: what rank 0 is about to do, checked by every other rank.

Ranks that run different programs, are one call apart or pass different numbers of clients would otherwise hang, or
compute nonsense without a word (MPI does not compare what the ranks of a collective pass).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.runtime.comm import Communicator

_WORDS = 12
_TEXT = 6  # the first words are numbers, the rest is the beginning of the program's name
UNKNOWN = -1


@dataclass(frozen=True)
class Header:
    """``status`` is 1 after a failure on rank 0; ``payload`` is in bytes; ``homes`` is a hash of what every rank gives:
    clients, the ranks that own them, values without a placement; ``clients`` and ``homes`` may be `UNKNOWN`.
    """

    fingerprint: int
    call: int
    clients: int
    status: int
    payload: int
    program: str
    homes: int = UNKNOWN

    def exchange(self, comm: Communicator) -> Header:
        """Return rank 0's header; a rank that disagrees with it ends the job."""
        words = np.zeros(_WORDS, dtype=np.int64)
        if comm.rank == 0:
            words[:_TEXT] = self.fingerprint, self.call, self.clients, self.status, self.payload, self.homes
            name = self.program.encode("utf-8")[: 8 * (_WORDS - _TEXT)]
            words[_TEXT:].view(np.uint8)[: len(name)] = np.frombuffer(name, dtype=np.uint8)
        comm.bcast(words)
        if comm.rank == 0:
            return self
        text = words[_TEXT:].tobytes().rstrip(b"\0").decode("utf-8", errors="ignore")
        fingerprint, call, clients, status, payload, homes = (int(word) for word in words[:_TEXT])
        server = Header(fingerprint, call, clients, status, payload, text, homes)
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
        if UNKNOWN not in (self.clients, server.clients) and self.clients != server.clients:
            return "they pass different numbers of clients"
        if UNKNOWN not in (self.homes, server.homes) and self.homes != server.homes:
            return "they pass different arguments: values without a placement, clients, or which rank owns which client"
        return ""


def _clients(count: int) -> str:
    return "no clients counted" if count == UNKNOWN else f"{count} client" + "s" * (count != 1)
