"""The run of a suite: timing two sides in turn on all ranks, contexts to run in, and the rows collected so far."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

import fedmpi as fm
from fedmpi.bench.rows import Row, Target, Times
from fedmpi.data import Mnist
from fedmpi.runtime import slowly
from fedmpi.runtime.mpi.comm import Communicator

Action = Callable[[], Any]
Reduction = Literal["exact", "float64", "fast"]
# Seconds that one repeat lasts at least (short calls are made several times), and that all repeats of one comparison
# last at most, as far as that leaves one of them; in a quick run.
SAMPLE, BUDGET = 20e-3, 30.0
SAMPLE_QUICK, BUDGET_QUICK = 2e-3, 0.5
REPEATS, REPEATS_QUICK = 11, 3
# A call that lasts longer than this needs no other call before it to fill the caches.
LONG = 0.5


@dataclass
class Suite:
    """One run: the ranks, how thorough it is, its data, and on rank 0 the rows."""

    comm: Communicator
    mnist: Mnist
    quick: bool
    repeats: int
    show: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    _contexts: dict[Any, fm.MpiContext] = field(default_factory=dict)

    @property
    def server(self) -> bool:
        """Whether this is rank 0, which keeps the rows."""
        return self.comm.is_server

    @property
    def hosts(self) -> int:
        """The number of ranks that host clients."""
        return max(self.comm.size - 1, 1)

    def where(self) -> str:
        """Return on which ranks a row was measured, as text."""
        alone = "1 rank, server and clients at once"
        return alone if self.comm.size == 1 else f"{self.comm.size} ranks, {self.hosts} with clients"

    def pick(self, full: Any, quick: Any) -> Any:
        """Return the setting of a thorough or of a quick run."""
        return quick if self.quick else full

    def context(self, reduction: Reduction = "exact", over: Any = None) -> fm.MpiContext:
        """Return the context over `over` (an mpi4py communicator; default: all ranks), always the same one."""
        key = reduction, None if over is None else over.handle
        if key not in self._contexts:
            self._contexts[key] = fm.MpiContext(over, reduction=reduction)
        return self._contexts[key]

    def alone(self, measure: Callable[[], None]) -> None:
        """Call `measure` on rank 0 while the other ranks wait without using their cores (collective)."""
        if self.server:
            measure()
        self.comm.arrive(0)

    def time(self, actions: Mapping[str, Action], comm: Communicator | None = None) -> dict[str, Times]:
        """Return how long each action takes on rank 0, the actions in turn at each repeat (collective over `comm`).

        Each is called once before (it may compile) and, unless that took long, once more to see how long it takes.
        Repeats of short calls begin with one that is not counted, so that the caches hold what this action uses and not
        what the one before it did.
        """
        comm = comm or self.comm
        least, budget = self.pick((SAMPLE, BUDGET), (SAMPLE_QUICK, BUDGET_QUICK))
        calls: dict[str, int] = {}
        short: dict[str, bool] = {}
        sweep = 0.0
        for name, action in actions.items():
            seconds = _shared(comm, _timed(comm, action, 1))
            if seconds < budget / 2:
                seconds = _shared(comm, _timed(comm, action, 1))
            short[name] = seconds < LONG
            calls[name] = max(1, min(1000, math.ceil(least / seconds)))
            sweep += seconds * (calls[name] + short[name])
        samples: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(max(1, min(self.repeats, int(budget / sweep)))):
            for name, action in actions.items():
                if short[name]:
                    comm.arrive(0)
                    action()
                samples[name].append(_timed(comm, action, calls[name]))
        return {name: Times(tuple(values)) for name, values in samples.items()}

    def add(self, row: Row, tolerance: float = math.inf) -> None:
        """Keep and show a row (rank 0; elsewhere it does nothing); note if its two sides disagree."""
        if not self.server:
            return
        if self.quick:
            row = dataclasses.replace(row, target=None)  # it belongs to the setting of a thorough run
        row = dataclasses.replace(row, slowly=tuple(slowly.taken()))
        self.rows.append(row)
        self.show(row)
        if row.difference is not None and not row.difference <= tolerance:  # NaN is a disagreement
            self.problems.append(
                f"{row.group}: {row.name}: expected the result of {row.against} within {tolerance:.0e} (relative), "
                f"found a difference of {row.difference:.1e}"
            )

    def skip(self, group: str, what: str, reason: str) -> None:
        """Note what this run cannot measure."""
        if self.server:
            self.skipped.append(f"{group}: {what}: skipped, {reason}")


def _timed(comm: Communicator, action: Action, calls: int) -> float:
    comm.arrive(0)
    start = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - start) / calls


def _shared(comm: Communicator, seconds: float) -> float:
    """Return rank 0's number on all ranks, so that all make the same number of calls."""
    word = np.array([seconds])
    comm.bcast(word)
    return max(float(word[0]), 1e-9)


def running(context: fm.MpiContext, computation: Any, *arguments: Any) -> Action:
    """Return the action that calls a computation in a context."""

    def action() -> Any:
        fm.set_default_context(context)
        return computation(*arguments)

    return action


def difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the largest difference of two lists of arrays, relative to the largest of all expected numbers.

    Of all: a bias of ten equally frequent digits is a sum that cancels to rounding errors.
    """
    shapes = [np.shape(part) for part in found], [np.shape(part) for part in expected]
    if shapes[0] != shapes[1]:
        raise ValueError(f"difference: expected arrays of the shapes {shapes[1]}, found {shapes[0]}")
    ours, theirs = (np.concatenate([np.ravel(part) for part in side], dtype=np.float64) for side in (found, expected))
    gap, scale = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    return gap / scale if scale else gap


__all__ = ["Action", "Reduction", "Suite", "Target", "difference", "running"]
