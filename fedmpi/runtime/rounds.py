"""A round: one collective call, begun by a header, in which a failure on one rank becomes the same error on all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fedmpi.language.source import user_location
from fedmpi.local.values import ArgumentError
from fedmpi.runtime import failures
from fedmpi.runtime.arguments import ClientError, refuse
from fedmpi.runtime.comm import Communicator
from fedmpi.runtime.header import Header


class Round:
    """Failures are noted, not raised, until all ranks know of them; a context manager begins and ends the call."""

    def __init__(self, comm: Communicator, name: str) -> None:
        self.comm, self.name = comm, name
        self.failure: BaseException | None = None
        self.failed_client: int | None = None
        self.agreed = False  # all ranks raise the same error

    def __enter__(self) -> Round:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # A rank that leaves by an exception of its own is still in the call: those who wait for it must see that.
        if kind is None or self.agreed:
            self.comm.doing = ""

    def begin(self) -> None:
        """Count the call and say what waiting ranks wait for."""
        self.comm.call += 1
        self.comm.doing = f"{self.name} at {user_location()}"

    def open(self, fingerprint: int, clients: int, program: str, payload: int = 0) -> Header:
        """Exchange headers and return rank 0's."""
        failed = int(self.failure is not None)
        return Header(fingerprint, self.comm.call, clients, failed, payload, program).exchange(self.comm)

    def check_in(self, program: str, clients: int) -> None:
        """Exchange headers of a call that sends nothing with them; raise rank 0's failure on all ranks."""
        digest = hashlib.sha256(f"{self.name} {program}".encode()).digest()
        if self.open(int.from_bytes(digest[:8], "little", signed=True), clients, self.name).status:
            self.raise_of(0)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Run ``action`` unless this rank has failed already; note a failure instead of raising it."""
        if self.failure is not None:
            return None
        cause: BaseException
        try:
            return action()
        except ClientError as error:
            self.failed_client, cause = error.client, error.cause
        except Exception as error:
            cause = error
        self.failure = refuse(self.name, cause) if isinstance(cause, ArgumentError) else cause
        return None

    def agree(self) -> None:
        """Raise the first client's failure on all ranks if any rank has failed."""
        mine = failures.NO_FAILURE
        if self.failure is not None:
            mine = failures.flag(self.comm.rank, self.failed_client)
        first = self.comm.arrive(int(mine))
        if first != failures.NO_FAILURE:
            self.raise_of(failures.rank_of(first))

    def raise_of(self, rank: int) -> None:
        """Raise the failure of one rank on every rank."""
        failure = self.failure if rank == self.comm.rank else None
        self.agreed = True
        data = self.comm.bcast_bytes(failures.encode(failure, rank) if failure is not None else None, root=rank)
        raise failure if failure is not None else failures.decode(data)
