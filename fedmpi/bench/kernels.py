"""Local work on one rank: passes over 10,000 MNIST images in a compiled loop, next to SGEMM and to NumPy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fedmpi as fm
from fedmpi.bench import by_hand, programs, workloads
from fedmpi.bench.rows import Row, Target
from fedmpi.bench.suite import Suite, difference, running
from fedmpi.runtime.mpi.comm import Communicator

GROUP = "kernels"
FEATURES, CLASSES, RATE = 784, 10, 0.1
SGEMM = 1024  # rows and columns of its matrices
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}
NUMPY = "NumPy, in place, weights [c, d], BLAS on one thread"


def measure(suite: Suite) -> None:
    """Measure the group (collective; rank 0 works)."""
    suite.alone(functools.partial(_measure, suite))
    fm.set_default_context(None)


def _measure(suite: Suite) -> None:
    count = suite.pick(10_000, 1_000)
    _epoch(suite, count, np.float32, 100, headline=True)
    _epoch(suite, count, np.float64, 100)
    _epoch(suite, count, np.float32, 10)
    _epoch(suite, count, np.float32, count)
    _epoch(suite, count, np.float32, 100, storage="sparse")
    _evaluation(suite, count)


class Case:
    """One client with all examples on a context of this rank alone, and the same in NumPy."""

    def __init__(self, suite: Suite, count: int, dtype: Any, batch: int, storage: str = "auto") -> None:
        here = suite.comm.mpi.COMM_SELF
        self.comm, self.context = Communicator.open(here), suite.context(over=here)
        self.program = programs.softmax(dtype, FEATURES, CLASSES)
        arrays = workloads.examples(suite.mnist.train, count, dtype)
        self.x, self.y = arrays["x"], arrays["y"]
        batches = [{"x": self.x[i : i + batch], "y": self.y[i : i + batch]} for i in range(0, count, batch)]
        fm.set_default_context(self.context)
        self.data = fm.client_data([batches], self.program.client, storage=storage)
        self.model = {"weights": np.zeros((FEATURES, CLASSES), dtype), "bias": np.zeros(CLASSES, dtype)}
        self.numpy = by_hand.Softmax(FEATURES, CLASSES, batch, dtype)

    def train(self) -> Any:
        """Return the model after a pass, by fedmpi."""
        return running(self.context, self.program.train, self.model, RATE, self.data)()

    def train_numpy(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the model after a pass, by NumPy."""
        self.numpy.vector.fill(0)
        self.numpy.train(self.x, self.y, RATE)
        return self.numpy.weights.T, self.numpy.bias[:, 0]


def _epoch(suite: Suite, count: int, dtype: Any, batch: int, storage: str = "auto", *, headline: bool = False) -> None:
    """Compare a pass in one dtype, size of batches and storage; the tutorial's with SGEMM too."""
    case = Case(suite, count, dtype, batch, storage)
    name = np.dtype(dtype).name
    trained = case.train()
    gap = difference([trained["weights"], trained["bias"]], case.train_numpy())
    actions = {"fedmpi": case.train, "numpy": case.train_numpy}
    square = np.random.default_rng(0).random((SGEMM, SGEMM), np.float32)
    room = np.empty_like(square)

    def plain() -> None:
        weights, bias = np.zeros((FEATURES, CLASSES), dtype), np.zeros(CLASSES, dtype)
        by_hand.train_row_major(case.x, case.y, weights, bias, batch, RATE)

    if headline:
        actions["sgemm"] = lambda: np.matmul(square, square, out=room)
        actions["plain"] = plain
    times = suite.time(actions, case.comm)
    flops = 4 * count * FEATURES * CLASSES
    setting = f"{count:,} x {FEATURES} x {CLASSES}, {name}, batch {batch:,}, {_storage(case.data, storage)}"
    speed = f"{flops / times['fedmpi'].median / 1e9:.1f} GFLOP/s"
    if headline:
        ideal = times["sgemm"].scaled(flops / (2 * SGEMM**3))
        against = f"SGEMM of {SGEMM} x {SGEMM} on one thread, {2 * SGEMM**3 / times['sgemm'].median / 1e9:.1f} GFLOP/s"
        target = Target(2.0, then=1.6)
        suite.add(
            Row(GROUP, "local pass / its FLOP as SGEMM", f"{setting}, {speed}", times["fedmpi"], against, ideal, target)
        )
        faster = Target(2.0, "speedup")
        against = NUMPY.replace("[c, d]", "[d, c]")
        suite.add(Row(GROUP, "local pass / plain NumPy", setting, times["fedmpi"], against, times["plain"], faster))
    row = Row(
        GROUP,
        f"local pass, {name}, batch {batch:,}{', sparse' * (storage == 'sparse')} / NumPy",
        f"{setting}, {speed}",
        times["fedmpi"],
        NUMPY,
        times["numpy"],
        Target(2.0, "speedup") if headline else None,
        difference=gap,
    )
    suite.add(row, TOLERANCE[name])


def _evaluation(suite: Suite, count: int) -> None:
    """Compare loss and accuracy of all examples."""
    case = Case(suite, count, np.float32, 100)
    model = case.train()
    case.train_numpy()

    def ours() -> Any:
        return running(case.context, case.program.evaluate, model, case.data)()

    def theirs() -> Any:
        return case.numpy.evaluate(case.x, case.y)

    found, expected = ours(), theirs()
    gap = difference([found["loss"], found["correct"]], expected)
    times = suite.time({"fedmpi": ours, "numpy": theirs}, case.comm)
    setting = f"{count:,} x {FEATURES} x {CLASSES}, float32, batch 100, {_storage(case.data, 'auto')}"
    row = Row(GROUP, "loss and accuracy / NumPy", setting, times["fedmpi"], NUMPY, times["numpy"], difference=gap)
    suite.add(row, 1e-3)  # an example between two classes may fall to either


def _storage(data: Any, asked: str) -> str:
    return f"{data.column.nbytes / 1e6:.1f} MB packed{' as asked: ' + asked if asked != 'auto' else ''}"
