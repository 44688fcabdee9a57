"""Whole rounds on all ranks: the tutorial's and a cross-device one next to the same by hand, and an empty one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fedmpi as fm
from fedmpi.bench import by_hand, programs, workloads
from fedmpi.bench.rows import Row, Target
from fedmpi.bench.suite import Action, Reduction, Suite, difference, running
from fedmpi.runtime.mpi.comm import Communicator

GROUP = "round"
FEATURES, CLASSES = 784, 10
REDUCTIONS: tuple[Reduction, ...] = ("exact", "float64", "fast")
TOLERANCE = 2e-4  # float32, a hundred batches
BY_HAND = "NumPy + mpi4py by hand, BLAS on one thread, the server naps between tests"


def measure(suite: Suite) -> None:
    """Measure the group (collective)."""
    _tutorial(suite)
    _cross_device(suite)
    _empty(suite, 2, {"fast": Target(1.5), "exact": Target(3.0)})
    if suite.comm.size > 2:
        _empty(suite, suite.comm.size, {})
    fm.set_default_context(None)


class Both:
    """One round by fedmpi, by each reduction, and by hand, from the same model."""

    def __init__(self, suite: Suite, computation: Any, data: fm.ClientData, hand: by_hand.FederatedAveraging) -> None:
        self.suite, self.computation, self.data, self.hand = suite, computation, data, hand
        self.vector = np.zeros((FEATURES + 1) * CLASSES, np.float32)
        self.rate = np.float32(0)

    def start(self, rate: float, cohorts: Sequence[Any]) -> None:
        """Train by hand for a round on each cohort, so that what is measured is not the first round."""
        self.rate = np.float32(rate)
        for cohort in cohorts:
            found = self.hand.round(self.vector, self.rate, cohort)
            self.vector = self.vector if found is None else found

    def fedmpi(self, reduction: Reduction, select: Any = None) -> Action:
        """Return the action of a round; `select` returns the next cohort."""
        context, model = self.suite.context(reduction), unpacked(self.vector)

        def action() -> Any:
            data = self.data if select is None else self.data.select(select())
            return running(context, self.computation, model, self.rate, data)()

        return action

    def compare(self, cohort: Any, data: fm.ClientData) -> float | None:
        """Return how far a round by fedmpi on `data` is from one by hand on `cohort`; None but on rank 0."""
        found = running(self.suite.context(), self.computation, unpacked(self.vector), self.rate, data)()
        expected = self.hand.round(self.vector, self.rate, cohort)
        if expected is None:
            return None
        model = unpacked(expected)
        return difference([found["weights"], found["bias"]], [model["weights"], model["bias"]])


def unpacked(vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the model of fedmpi's programs from the vector of `by_hand.Softmax`."""
    cut = FEATURES * CLASSES
    return {"weights": np.ascontiguousarray(vector[:cut].reshape(CLASSES, FEATURES).T), "bias": vector[cut:].copy()}


def _rows(suite: Suite, name: str, setting: str, actions: dict[str, Action], gap: Any, targets: Any) -> None:
    """Time fedmpi's reductions and the program by hand; add a row for the default and one for each other reduction."""
    times = suite.time(actions)
    faster, over = targets
    row = Row(GROUP, f"{name} / by hand", setting, times["exact"], BY_HAND, times["hand"], faster, difference=gap)
    suite.add(row, TOLERANCE)
    title, against = f"{name}: exact / float64", 'the same with reduction="float64"'
    suite.add(Row(GROUP, title, setting, times["exact"], against, times["float64"], over, by="minimum"))
    title, against = f"{name}: exact / fast", 'the same with reduction="fast"'
    suite.add(Row(GROUP, title, setting, times["exact"], against, times["fast"], by="minimum"))


def _tutorial(suite: Suite) -> None:
    from fedmpi.tutorial import CLIENT_DATA_TYPE, federated_train

    batches = fm.data.by_digit(suite.mnist.train, suite.pick(1000, 100))
    fm.set_default_context(suite.context())
    data = fm.client_data(batches, CLIENT_DATA_TYPE)
    clients = [
        (np.concatenate([b["x"] for b in client]), np.concatenate([b["y"] for b in client])) for client in batches
    ]
    model = by_hand.Softmax(FEATURES, CLASSES, 100)
    both = Both(suite, federated_train, data, by_hand.FederatedAveraging(suite.comm, clients, model, by_examples=False))
    everyone = range(len(batches))
    both.start(0.1, [everyone] * 3)
    gap = both.compare(everyone, data)
    actions: dict[str, Action] = {kind: both.fedmpi(kind) for kind in REDUCTIONS}
    actions["hand"] = lambda: both.hand.round(both.vector, both.rate, everyone)
    examples = sum(len(b["y"]) for client in batches for b in client)
    setting = f"{len(batches)} clients, {examples:,} examples, batch 100, {suite.where()}"
    _rows(suite, "tutorial round", setting, actions, gap, (Target(4.0, "speedup"), Target(1.1)))


def _cross_device(suite: Suite) -> None:
    clients, cohort_size = suite.pick((1000, 100), (100, 10))
    batch, rate = 10, 0.03
    sizes = workloads.pareto_sizes(clients)
    offsets = workloads.offsets_of(sizes)
    arrays = workloads.examples(suite.mnist.train, int(offsets[-1]))
    program = programs.softmax(np.float32, FEATURES, CLASSES)
    fm.set_default_context(suite.context())
    data = fm.client_data_from_arrays(arrays, offsets, program.client, batch)
    parts = [slice(offsets[i], offsets[i + 1]) for i in range(clients)]
    theirs = [(arrays["x"][part], arrays["y"][part]) for part in parts]
    model = by_hand.Softmax(FEATURES, CLASSES, batch)
    hand = by_hand.FederatedAveraging(suite.comm, theirs, model, by_examples=True)
    both = Both(suite, program.train_by_examples, data, hand)
    drawn = [cohort.tolist() for cohort in workloads.cohorts(clients, cohort_size, 10)]
    both.start(rate, drawn[:5])
    gap = both.compare(drawn[0], data.select(drawn[0]))
    # Each side goes through the same cohorts in the same order.
    actions: dict[str, Action] = {
        kind: both.fedmpi(kind, functools.partial(next, itertools.cycle(drawn))) for kind in REDUCTIONS
    }
    cohort = functools.partial(next, itertools.cycle(drawn))
    actions["hand"] = lambda: hand.round(both.vector, both.rate, cohort())
    setting = (
        f"{clients:,} clients of {sizes.min()} to {sizes.max()} examples (pareto), {offsets[-1]:,} in all, "
        f"batch {batch}, {cohort_size} clients a round, mean by examples, {suite.where()}"
    )
    _rows(suite, "cross-device round", setting, actions, gap, (Target(6.0, "speedup"), Target(1.2)))


def _empty(suite: Suite, ranks: int, targets: dict[str, Target]) -> None:
    """Compare a round without local work with Bcast and Reduce of the same model in float32, on the first ranks."""
    if suite.comm.size < ranks:
        suite.skip(GROUP, "empty round", f"it needs {ranks} ranks")
        return
    mpi = suite.comm.mpi
    raw = mpi.COMM_WORLD.Split(0 if suite.comm.rank < ranks else mpi.UNDEFINED, suite.comm.rank)
    if raw != mpi.COMM_NULL:
        _empty_on(suite, raw, targets)
    suite.comm.arrive(0)


def _empty_on(suite: Suite, raw: Any, targets: dict[str, Target]) -> None:
    comm = Communicator.open(raw)
    rng = np.random.default_rng(6)
    vector = rng.standard_normal((FEATURES + 1) * CLASSES).astype(np.float32)
    model, computation = unpacked(vector), programs.empty_round(FEATURES, CLASSES)
    fm.set_default_context(suite.context("exact", raw))
    marks = fm.client_data([1.0] * (comm.size - 1), programs.MARK)
    actions: dict[str, Action] = {
        kind: running(suite.context(kind, raw), computation, model, marks) for kind in REDUCTIONS
    }
    received = np.empty_like(vector)
    message = vector.copy()

    def exchange() -> None:
        raw.Bcast(message, 0)
        raw.Reduce(message, received if comm.is_server else None, comm.mpi.SUM, 0)

    actions["raw"] = exchange
    found = actions["exact"]()
    actions["bare"] = _bare(suite.context("exact", raw), computation, raw, comm)
    gap = difference([found["weights"], found["bias"]], list(model.values())) if comm.is_server else None
    times = suite.time(actions, comm)
    setting = f"model of {vector.nbytes:,} B, {comm.size - 1} clients, {comm.size} of {suite.comm.size} ranks"
    against = "mpi4py's Bcast and Reduce of float32, blocking"
    for kind in REDUCTIONS:
        name = f"empty round on {comm.size} ranks, {kind} / Bcast + Reduce"
        row = Row(GROUP, name, setting, times[kind], against, times["raw"], targets.get(kind), difference=gap)
        suite.add(row, 1e-6)
    over = 1e6 * (times["exact"].minimum - times["bare"].minimum)
    name = f"empty round on {comm.size} ranks, exact / its four collectives"
    against = "a Bcast of 96 B, one of the model, an Allreduce of 32 B, a Reduce of the planes in use, blocking"
    row = Row(GROUP, name, f"{setting}, {over:.0f} µs more", times["exact"], against, times["bare"], by="minimum")
    suite.add(row, 1e-6)


def _bare(context: fm.MpiContext, computation: Any, raw: Any, comm: Communicator) -> Action:
    """Return the action of a round's four collectives alone, as large as those of its last call (rank 0 knows)."""
    program = context.program(computation)
    down = int(program.stages[0].bytes_down or 0)
    layout = program.stages[0].layout
    planes = np.array([program.planes_in_use(0) if comm.is_server else 0])
    comm.bcast(planes)
    exact = int(planes[0]) * (0 if layout is None else layout.exact)
    header, word, least = np.zeros(12, np.int64), np.zeros(4, np.int64), np.zeros(4, np.int64)
    model, sums = np.zeros(down, np.uint8), np.zeros(exact)
    total = np.zeros_like(sums) if comm.is_server else None

    def action() -> None:
        raw.Bcast(header, 0)
        raw.Bcast(model, 0)
        raw.Allreduce(word, least, comm.mpi.MIN)
        raw.Reduce(sums, total, comm.mpi.SUM, 0)

    return action
