"""Where a value can live: at the server or at the clients."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, repr=False)
class PlacementLiteral:
    """A placement; two are equal if their ``uri`` is.

    ``default_all_equal`` says whether a value placed here is, unless told otherwise, the same everywhere.
    """

    name: str = field(compare=False)
    uri: str
    default_all_equal: bool = field(compare=False)
    description: str = field(compare=False, default="")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"PlacementLiteral('{self.uri}')"

    def __reduce__(self) -> str:
        return self.name  # copies and pickles are the module's own object


CLIENTS = PlacementLiteral("CLIENTS", "clients", False, "All clients of a computation.")
SERVER = PlacementLiteral("SERVER", "server", True, "The server of a computation.")
