"""What this process is doing now: one object, written where things are done, read by anybody at any time.

Who writes what: the round its call, the executor the stage, runners and compiled loops the client, the
compiler what it compiles, the communicator for whom it waits.  A write is an assignment; no lock, no call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

NO_CLIENT: Any = np.full(1, -1, np.int64)


class Now:
    """What is going on; `NOW` is the only one."""

    def __init__(self) -> None:
        self.call, self.doing = 0, ""  # the call's number and text; no text between calls
        self.stage, self.stages = -1, 0  # the stage that runs, from 0 on, -1 before the first; how many there are
        self.client, self.clients = NO_CLIENT, 0  # int64[1], which a loop writes: the client, of so many of this rank
        self.compiling, self.compiling_since = "", 0.0  # what, and when it began (`time.perf_counter`)
        self.compiled = 0.0  # seconds of all compiles of this process that have ended
        self.waiting_for, self.waiting_since = "", 0.0


NOW = Now()


@dataclass(frozen=True)
class Status:
    """What a rank is doing.

    ``call`` counts the collective calls of the process from 1 on, ``doing`` is the text of the one that runs (""
    between calls), ``stage`` the stage of it that runs, from 0 on (None before the first), of ``stages``.  ``client``
    is which of the rank's ``clients`` is at work, from 0 on (None if none is).  ``compiling`` is what is compiled, for
    ``compiling_seconds`` so far; ``waiting_for`` whom the rank waits for, for ``waiting_seconds`` so far.
    """

    call: int
    doing: str
    stage: int | None
    stages: int
    client: int | None
    clients: int
    compiling: str
    compiling_seconds: float
    waiting_for: str
    waiting_seconds: float

    def __str__(self) -> str:
        """Return one line, such as "call 3 (train at t.py:9), client 17 of 100 here, compiling f for 2 s"."""
        text = f"call {self.call} ({self.doing})" if self.doing else f"after call {self.call}"
        if self.stage is not None:
            text += f", stage {self.stage + 1} of {self.stages}"
        if self.client is not None:
            text += f", client {self.client + 1} of {self.clients} here"
        if self.compiling:
            text += f", compiling {self.compiling} for {self.compiling_seconds:.0f} s"
        if self.waiting_for:
            text += f", waiting for {self.waiting_for} for {self.waiting_seconds:.0f} s"
        return text


def status() -> Status:
    """Return what this process is doing: a value, which another thread may ask for while a call runs.

    It costs the call nothing.  Nothing is said of calls in a `ReferenceContext`, nor of those without placements.
    """
    now, seconds, client = NOW, time.perf_counter(), int(NOW.client[0])
    return Status(
        now.call, now.doing, None if now.stage < 0 else now.stage, now.stages,
        None if client < 0 else client, now.clients,
        now.compiling, seconds - now.compiling_since if now.compiling else 0.0,
        now.waiting_for, seconds - now.waiting_since if now.waiting_for else 0.0,
    )  # fmt: skip
