"""`ClientData`: a value at the clients, packed once and kept on the ranks that own its clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.types import Type
from fedmpi.local.columns import Column


@dataclass(frozen=True, eq=False)
class ClientData:
    """One value of ``type`` for each client, as an argument of any computation that takes ``{type}@CLIENTS``.

    ``owner`` int32[number of clients] gives each client's rank; ``column`` holds the values of this rank's clients in
    the order of their indices, and is never copied or sent again.
    """

    type: Type
    owner: np.ndarray[Any, np.dtype[np.int32]]
    rank: int
    column: Column

    def __len__(self) -> int:
        """Return the number of clients on all ranks."""
        return len(self.owner)

    @property
    def owned(self) -> list[int]:
        """Indices of the clients of this rank."""
        return [int(i) for i in np.flatnonzero(self.owner == self.rank)]

    @property
    def complete(self) -> bool:
        """Whether this rank holds all clients."""
        return self.column.count == len(self.owner)

    def __repr__(self) -> str:
        here = f"{self.column.count} on rank {self.rank}, {self.column.nbytes:,} bytes"
        return f"<ClientData {{{self.type}}}@CLIENTS: {len(self)} clients, {here}>"

    @property
    def fedmpi_description(self) -> str:
        """What error messages call this object."""
        return f"ClientData of {{{self.type}}}@CLIENTS"
