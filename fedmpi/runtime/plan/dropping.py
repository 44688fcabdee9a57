"""What happens to a call one of whose clients fails: the error of all ranks, or a client less."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedmpi.language.errors import Report

POLICIES = ("raise", "drop")
_MOST = 1 << 40  # clients; it is a part of the programs' fingerprints


class ClientErrors(NamedTuple):
    """Whether clients that fail are dropped, and how many must be left."""

    drop: bool = False
    minimum: int = 0


@dataclass(frozen=True)
class Dropped:
    """A client that was left out of a call: its index, the stage in which it failed, and why, as the error says it."""

    client: int
    stage: int
    reason: str

    def __str__(self) -> str:
        return f"client {self.client}: {self.reason}"


def too_few(name: str, clients: int, dropped: Sequence[Dropped], minimum: int) -> RuntimeError:
    """Return the error of a call of ``clients`` that has fewer left than are wanted."""
    text = f"{name}: {clients - len(dropped)} of {clients} clients are left, minimum_reports={minimum} are wanted"
    if dropped:
        text += f"; the first that failed is {dropped[0]}"
    return RuntimeError(text)


_OVERRIDE: ContextVar[ClientErrors | None] = ContextVar("fedmpi_on_client_error", default=None)


def checked(who: str, policy: Any, minimum_reports: Any) -> ClientErrors:
    """Return a policy, or raise `ValueError` for options that are none."""
    if not isinstance(policy, str) or policy not in POLICIES:
        text = f"on_client_error must be {' or '.join(map(repr, POLICIES))}, found {policy!r}"
        raise ValueError(str(Report.here(text, who=who)))
    try:
        minimum = operator.index(minimum_reports)
        if not 0 <= minimum < _MOST or isinstance(minimum_reports, bool):
            raise TypeError
    except TypeError:
        text = f"minimum_reports must be a number of clients, found {minimum_reports!r}"
        raise ValueError(str(Report.here(text, who=who))) from None
    return ClientErrors(policy == "drop", minimum)


@contextmanager
def on_client_error(policy: str, *, minimum_reports: int = 0) -> Iterator[None]:
    """Within the block, a client that fails is an error on all ranks ("raise"), or is left out of its call ("drop").

    A client fails by an exception of a function that runs for it, by a weight that is none, by a number that a secure
    sum does not take.  A client that is dropped in a stage takes no part in it and in later ones: sums, means (their
    divisors too), least and greatest values and secure sums are those of the same stage without it, to the bit; what
    earlier stages have summed stays; results at the clients are those of the others, with their indices.  Are all
    dropped, it is as with no clients.  With fewer than ``minimum_reports`` clients left the call is a `RuntimeError` on
    all ranks.  `fm.last_report` says who was dropped, where and why.  It holds for this thread or task, for contexts
    of any policy; all ranks of a job must be in such a block, or none.
    """
    token = _OVERRIDE.set(checked("on_client_error", policy, minimum_reports))
    try:
        yield
    finally:
        _OVERRIDE.reset(token)


def policy_here(of_context: ClientErrors) -> ClientErrors:
    """Return the policy of this thread (or task): of the innermost block, else of the context."""
    return _OVERRIDE.get() or of_context
