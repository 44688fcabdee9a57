"""Terms of sums and means that are infinite or NaN: told once a call, with the first client that has one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fedmpi.runtime.log import logger

NONFINITE = ("propagate", "raise")


@dataclass(frozen=True)
class NotFinite:
    """How many such terms there are, and of the first of them the client, the reduction, leaf and kind."""

    count: int
    client: int
    reduction: int
    leaf: str
    kind: str

    @property
    def first(self) -> str:
        return f"client {self.client} has {self.kind} in {self.leaf}"

    def __str__(self) -> str:
        return self.first + (f" ({self.count} such terms in all)" if self.count > 1 else "")


Found = list[tuple[NotFinite, str]]  # in a call, stage by stage or operator by operator, with the operator's place


def tell(found: Found, call: str) -> None:
    """Log one warning for a call in which something was found: what came first, for others may follow from it."""
    first, operator = found[0]
    count = sum(terms.count for terms, _ in found)
    logger.warning("%s: %s: %s", call, operator, dataclasses.replace(first, count=count))
