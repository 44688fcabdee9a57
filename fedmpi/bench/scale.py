"""Many clients: the cost of one more, linearity over three decades, a million of them, and balance between ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fedmpi as fm
from fedmpi.bench import million, programs, workloads
from fedmpi.bench.rows import Row, Target, Times
from fedmpi.bench.suite import Reduction, Suite, difference, running
from fedmpi.runtime.arguments.ownership import assign

GROUP = "scale"
FEATURES, CLASSES, RATE = 4, 2, 0.1  # a model of ten parameters
TOLERANCE = 1e-5


def measure(suite: Suite) -> None:
    """Measure the group (collective)."""
    _one_more(suite)
    _linear(suite, "clients", suite.pick((1_000, 10_000, 100_000, 1_000_000), (100, 1_000)), _tiny)
    _linear(suite, "examples", suite.pick((1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)), _long)
    million.measure(suite)
    suite.alone(lambda: _balance(suite))
    fm.set_default_context(None)


def zeros(features: int, classes: int) -> dict[str, Any]:
    """Return the model to begin with."""
    return {"weights": np.zeros((features, classes), np.float32), "bias": np.zeros(classes, np.float32)}


def one_step(x: Any, y: Any, rate: float) -> list[Any]:
    """Return weights and bias after one step from zero on the mean loss of two classes, in float64.

    Where every client makes one step with as many examples as any other, this is the mean of the clients' models.
    """
    by_class = np.where(np.arange(2) == np.asarray(y)[:, None], -0.5, 0.5)  # softmax(0) - one-hot
    return [-rate * (np.asarray(x, np.float64).T @ by_class) / len(y), -rate * by_class.mean(axis=0)]


def _tiny(suite: Suite, count: int) -> fm.ClientData:
    """Return clients of one example each."""
    arrays = workloads.random_examples(count, FEATURES)
    return _packed(suite, arrays, np.arange(count + 1), 1)


def _long(suite: Suite, count: int) -> fm.ClientData:
    """Return one client a rank, with `count` examples between them in batches of one."""
    arrays = workloads.random_examples(count, FEATURES)
    return _packed(suite, arrays, np.linspace(0, count, suite.hosts + 1).astype(np.int64), 1)


def _packed(suite: Suite, arrays: Any, offsets: Any, batch: int) -> fm.ClientData:
    fm.set_default_context(suite.context())
    client = programs.softmax(np.float32, FEATURES, CLASSES).client
    return fm.client_data_from_arrays(arrays, offsets, client, batch)


def _gap(suite: Suite, count: int, data: fm.ClientData) -> float | None:
    """Return how far the mean over `_tiny` clients is from one step on all examples; None but on rank 0."""
    computation = programs.softmax(np.float32, FEATURES, CLASSES).train
    found = running(suite.context(), computation, zeros(FEATURES, CLASSES), RATE, data)()
    if not suite.server:
        return None
    arrays = workloads.random_examples(count, FEATURES)
    return difference([found["weights"], found["bias"]], one_step(arrays["x"], arrays["y"], RATE))


def _one_more(suite: Suite) -> None:
    """Measure the slope of a round's time over the number of tiny clients, and that of their arithmetic alone."""
    few, many = (n * suite.hosts for n in suite.pick((1_000, 11_000), (1_000, 5_000)))
    computation = programs.softmax(np.float32, FEATURES, CLASSES).train
    model = zeros(FEATURES, CLASSES)
    kinds: tuple[Reduction, ...] = ("fast", "float64", "exact")
    actions = {}
    gap = None
    for count in (few, many):
        tiny, long = _tiny(suite, count), _long(suite, count)
        gap = _gap(suite, count, tiny)
        for kind in kinds:
            actions[f"{kind} {count}"] = running(suite.context(kind), computation, model, RATE, tiny)
        actions[f"alone {count}"] = running(suite.context("float64"), computation, model, RATE, long)
    times = suite.time(actions)
    each = suite.hosts / (many - few)

    def slope(name: str) -> Times:
        return times[f"{name} {many}"].minus(times[f"{name} {few}"]).scaled(each)

    for kind in kinds:
        setting = (
            f"{FEATURES * CLASSES + CLASSES} parameters, 1 example; slope from {few:,} to {many:,} clients, "
            f"{suite.where()}"
        )
        target = None if kind == "exact" else Target(1.5e-6, "excess")
        figure, against = slope(kind), "its arithmetic: one more batch of 1 of a client that is there"
        name = f"one more tiny client on a rank, {kind}"
        suite.add(Row(GROUP, name, setting, figure, against, slope("alone"), target, difference=gap), TOLERANCE)


def _linear(suite: Suite, what: str, counts: Sequence[int], make: Callable[[Suite, int], fm.ClientData]) -> None:
    """Measure a round at each count; the row compares the time per client (or example) at both ends."""
    computation = programs.softmax(np.float32, FEATURES, CLASSES).train
    each = []
    for count in counts:
        action = running(suite.context(), computation, zeros(FEATURES, CLASSES), RATE, make(suite, count))
        each.append(suite.time({"round": action})["round"].scaled(1 / count))
    steps = ", ".join(f"{n:,}: {t.median * 1e6:.3g} us" for n, t in zip(counts, each, strict=True))
    setting = f"{steps} each; {suite.where()}"
    name = f"a round's time / {what}, {counts[-1]:,} over {counts[0]:,}"
    suite.add(Row(GROUP, name, setting, each[-1], f"the same at {counts[0]:,} {what}", each[0]))


def _balance(suite: Suite) -> None:
    """Compute the makespan over the ideal for 16 ranks; no rank is needed for it."""
    ranks, clients, cohort_size = list(range(16)), 2_000, 100
    sizes = np.ceil(60 * np.random.default_rng(8).lognormal(0, 1, clients)).astype(np.int64)
    elapsed = []
    for _ in range(suite.repeats):
        start = time.perf_counter()
        owner = assign(sizes, ranks)
        elapsed.append(time.perf_counter() - start)
    drawn = workloads.cohorts(clients, cohort_size, suite.pick(200, 20))
    text = f"{len(ranks)} ranks, {clients:,} clients, log-normal sizes (sigma 1, {sizes.max()} at most)"
    against = "the ideal: examples / ranks, or the largest client if that is more"
    cases = [
        ("makespan, all clients", [(sizes, owner)], Target(1.01)),
        ("makespan, cohorts of 100, fixed homes", [(sizes[c], owner[c]) for c in drawn], None),
        (
            "makespan, cohorts of 100, balanced again",
            [(sizes[c], assign(sizes[c], ranks)) for c in drawn],
            Target(1.05),
        ),
    ]
    for name, parts, target in cases:
        loads = [np.bincount(where, weights=part, minlength=len(ranks)).max() for part, where in parts]
        ideals = [max(part.sum() / len(ranks), part.max()) for part, _ in parts]
        setting = f"{text}; examples on the fullest rank, mean of {len(parts)}"
        figure, ideal = Times((float(np.mean(loads)),)), Times((float(np.mean(ideals)),))
        suite.add(Row(GROUP, name, setting, figure, against, ideal, target, unit="1"))
    start = time.perf_counter()
    np.argsort(-sizes, kind="stable")
    sort = Times((time.perf_counter() - start,))
    target = Target(5e-3, "figure")
    suite.add(Row(GROUP, "homes of 2,000 clients", text, Times(tuple(elapsed)), "sorting them in NumPy", sort, target))
