"""One verdict of all ranks on something that each of them has tried."""

from __future__ import annotations

import numpy as np

from fedmpi.cli.errors import CommandError
from fedmpi.runtime.mpi.comm import Communicator


def agree(comm: Communicator, problem: str, error: type[Exception] = CommandError) -> None:
    """Raise ``error`` on every rank if one of them has a problem; an empty text is none (collective).

    What several ranks have found is said once.
    """
    texts = [part.tobytes().decode() for part in comm.allgather_bytes(np.frombuffer(problem.encode(), np.uint8))]
    ranks_with = {text: [rank for rank, said in enumerate(texts) if said == text] for text in texts if text}
    if ranks_with:
        raise error("\n".join(_signed(text, ranks) for text, ranks in ranks_with.items()))


def _signed(text: str, ranks: list[int]) -> str:
    return text if ranks[0] == 0 else f"[rank {ranks[0]}] {text}"
