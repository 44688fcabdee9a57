"""Terms of sums and means that are infinite or NaN: told once a call, with the first client that has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.runtime.collective import failures
from fedmpi.runtime.mpi.log import logger

Cohort = np.ndarray[Any, np.dtype[np.int64]] | None
NONFINITE = ("propagate", "raise")


@dataclass(frozen=True)
class NotFinite:
    """How many such terms there are, and of the first of them the client, the reduction, leaf and kind."""

    count: int
    client: int
    reduction: int
    leaf: str
    kind: str

    def first(self, cohort: Cohort = None) -> str:
        """Return what the first of them is; ``cohort`` as in `failures.who`."""
        return f"{failures.who(self.client, cohort=cohort)} has {self.kind} in {self.leaf}"


Found = list[tuple[NotFinite, str]]  # in a call, stage by stage or operator by operator, with the operator's place


def tell(found: Found, call: str, cohort: Cohort = None) -> None:
    """Log one warning for a call in which something was found: what came first, for others may follow from it."""
    first, operator = found[0]
    count = sum(terms.count for terms, _ in found)
    more = f" ({count} such terms in all)" if count > 1 else ""
    logger.warning("%s: %s: %s%s", call, operator, first.first(cohort), more)
