"""The data that is measured on: MNIST in several shapes, and clients whose sizes spread as in cross-device learning."""

from __future__ import annotations

import getpass
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.data.mnist import Split
from fedmpi.data.partitions import PIXEL

Ints = NDArray[np.int64]
SMALLEST, LARGEST, MEAN = 10, 600, 60


def examples(split: Split, count: int, dtype: Any = np.float32) -> dict[str, NDArray[Any]]:
    """Return x [count, 784] and y int32[count]: images in random order, with repetition where there are too few."""
    rng = np.random.default_rng(1)
    there = len(split)
    rows = rng.permutation(there)[:count] if count <= there else rng.integers(0, there, count)
    pixels = PIXEL.astype(dtype)
    return {"x": pixels[split.images[rows].reshape(count, 784)], "y": split.labels[rows].astype(np.int32)}


def pareto_sizes(clients: int) -> Ints:
    """Return sizes of 10 to 600 with a mean of 60: Pareto's law, clipped, its shape (about 1) found by bisection."""
    spread = np.random.default_rng(2).exponential(1.0, clients)
    low, high = 0.1, 10.0
    for _ in range(60):
        inverse = (low + high) / 2
        sizes: Ints = np.minimum(np.rint(SMALLEST * np.exp(inverse * spread)), LARGEST).astype(np.int64)
        low, high = (inverse, high) if sizes.sum() < MEAN * clients else (low, inverse)
    missing = MEAN * clients - int(sizes.sum())  # a few, by rounding
    room = np.flatnonzero(sizes < LARGEST) if missing > 0 else np.flatnonzero(sizes > SMALLEST)
    sizes[room[: abs(missing)]] += np.sign(missing)
    return sizes


def offsets_of(sizes: Any) -> Ints:
    """Return int64[clients + 1]: where each client's examples begin."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def cohorts(clients: int, size: int, rounds: int) -> list[Ints]:
    """Return the clients of each round, drawn without repetition."""
    rng = np.random.default_rng(3)
    return [np.sort(rng.choice(clients, size, replace=False)) for _ in range(rounds)]


def random_examples(count: int, features: int) -> dict[str, NDArray[Any]]:
    """Return x float32[count, features] in [0, 1) and y int32[count] in 0..1."""
    rng = np.random.default_rng(4)
    return {"x": rng.random((count, features), np.float32), "y": rng.integers(0, 2, count, np.int32)}


class OnDisk:
    """Random examples in two files in the machine's temporary folder, to be opened by every rank of that machine.

    `write` makes them a part at a time, `open` maps them, `remove` removes them: three steps that ranks agree between.
    """

    PART = 1_000_000

    def __init__(self, count: int, features: int, token: int) -> None:
        self.count, self.features = count, features
        self._folder = Path(tempfile.gettempdir(), f"fedmpi-bench-{getpass.getuser()}-{token}")

    def write(self) -> None:
        """Make the files (one rank of a machine)."""
        self._folder.mkdir(mode=0o700)
        rng = np.random.default_rng(5)
        with (self._folder / "x").open("wb") as x, (self._folder / "y").open("wb") as y:
            for start in range(0, self.count, self.PART):
                part = min(self.PART, self.count - start)
                x.write(rng.random((part, self.features), np.float32).data)
                y.write(rng.integers(0, 2, part, np.int32).data)

    def open(self) -> dict[str, NDArray[Any]]:
        """Return the examples as memory-mapped arrays."""
        x = np.memmap(self._folder / "x", np.float32, "r", shape=(self.count, self.features))
        return {"x": x, "y": np.memmap(self._folder / "y", np.int32, "r", shape=(self.count,))}

    def remove(self) -> None:
        """Remove the files (the rank that made them)."""
        for name in ("x", "y"):
            (self._folder / name).unlink(missing_ok=True)
        if self._folder.is_dir():
            self._folder.rmdir()
