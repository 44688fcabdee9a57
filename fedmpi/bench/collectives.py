"""Messages alone: fedmpi's way down and up, with header and agreement, next to MPI's at several sizes.

Each side goes down and up once, one way with the message and the other with one number: without an answer, ranks would
run ahead of each other and the time would be that of filling buffers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fedmpi as fm
from fedmpi.bench import programs
from fedmpi.bench.rows import Row, quantity
from fedmpi.bench.suite import Action, Reduction, Suite, difference, running

GROUP = "collectives"
SIZES = (10, 7_850, 250_000, 8_000_000)  # of float32
SIZES_QUICK = SIZES[:2]


def measure(suite: Suite) -> None:
    """Measure the group (collective)."""
    raw = suite.comm.mpi.COMM_WORLD.Dup()
    if suite.comm.size == 1:
        suite.skip(GROUP, "all", "they need 2 ranks")
        return
    for size in suite.pick(SIZES, SIZES_QUICK):
        _down(suite, raw, size)
        _up(suite, raw, size)
    fm.set_default_context(None)


def _exchange(suite: Suite, raw: Any, sent: NDArray[Any], summed: NDArray[Any]) -> Action:
    """Return the action of a blocking Bcast of `sent` and a Reduce of `summed`."""
    received = np.empty_like(summed) if suite.server else None

    def action() -> Any:
        raw.Bcast(sent, 0)
        raw.Reduce(summed, received, suite.comm.mpi.SUM, 0)
        return received

    return action


def _down(suite: Suite, raw: Any, size: int) -> None:
    computation = programs.down(size)
    values = np.arange(1, size + 1, dtype=np.float32)
    fm.set_default_context(suite.context())
    marks = fm.client_data([1.0] * suite.hosts, programs.MARK)
    own = np.array([0.0 if suite.server else values[0]], np.float32)
    ours = running(suite.context(), computation, values, marks)
    theirs = _exchange(suite, raw, values.copy(), own)
    _add(suite, "Bcast", size, computation, "exact", (ours, theirs), "MPI's Bcast of the same and Reduce of one number")


def _up(suite: Suite, raw: Any, size: int) -> None:
    computation = programs.up(size)
    values = np.random.default_rng(7).standard_normal(size).astype(np.float32)
    fm.set_default_context(suite.context())
    data = fm.client_data([values] * suite.hosts, (np.float32, [size]))
    own = np.zeros_like(values) if suite.server else values
    theirs = _exchange(suite, raw, np.zeros(1, np.float32), own)
    kinds: tuple[Reduction, ...] = ("fast", "exact")
    for kind in kinds:
        ours = running(suite.context(kind), computation, data)
        _add(
            suite,
            "Reduce",
            size,
            computation,
            kind,
            (ours, theirs),
            "MPI's Bcast of one number and Reduce of the same in float32",
        )


def _add(
    suite: Suite, name: str, size: int, computation: Any, kind: str, actions: tuple[Action, Action], against: str
) -> None:
    ours, theirs = actions
    found, expected = ours(), theirs()
    gap = difference([found], [expected if name == "Reduce" else expected[0]]) if suite.server else None
    times = suite.time({"fedmpi": ours, "raw": theirs})
    nbytes = 4 * size
    steps = [line.strip() for line in str(fm.plan(computation)).splitlines()[1:]]
    rates = f"{quantity(nbytes / times['fedmpi'].median, 'B')}/s, MPI {quantity(nbytes / times['raw'].median, 'B')}/s"
    setting = f"{rates}; plan: {' | '.join(steps)}; {suite.where()}"
    title = f"{name} of {quantity(nbytes, 'B')}, {kind} / MPI"
    suite.add(Row(GROUP, title, setting, times["fedmpi"], against, times["raw"], difference=gap), 1e-5)
