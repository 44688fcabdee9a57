"""One round over a million clients: its time, the server's memory, and what a client takes beyond its data."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import fedmpi as fm
from fedmpi.bench import programs, workloads
from fedmpi.bench.rows import Row, Target, Times
from fedmpi.bench.suite import Suite, difference, running

GROUP = "scale"
EXAMPLES, FEATURES, CLASSES, RATE = 20, 10, 2, 0.1  # of each client: one batch
TOLERANCE = 1e-5


def measure(suite: Suite) -> None:
    """Measure these rows (collective)."""
    clients = suite.pick(1_000_000, 5_000)
    writes, token = _writer(suite)
    files = workloads.OnDisk(clients * EXAMPLES, FEATURES, token)
    try:
        if writes:
            files.write()
        suite.comm.arrive(0)
        arrays = files.open()
        suite.comm.arrive(0)
    finally:
        if writes:
            files.remove()  # what is mapped stays until the last rank has ended, however it ends
    _measure(suite, clients, arrays)


def _writer(suite: Suite) -> tuple[bool, int]:
    """Return whether this rank is the first of its machine, and a number that no other run has."""
    word = np.array([os.getpid() * 1_000_000 + time.time_ns() % 1_000_000])
    suite.comm.bcast(word)
    mpi = suite.comm.mpi
    node = mpi.COMM_WORLD.Split_type(mpi.COMM_TYPE_SHARED, suite.comm.rank)
    first = node.Get_rank() == 0
    node.Free()
    return first, int(word[0])


def _measure(suite: Suite, clients: int, arrays: dict[str, Any]) -> None:
    program = programs.softmax(np.float32, FEATURES, CLASSES)
    model = {"weights": np.zeros((FEATURES, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}
    offsets, few = np.arange(clients + 1) * EXAMPLES, min(clients, 100)
    bounds = np.linspace(0, clients * EXAMPLES, suite.hosts + 1).astype(np.int64)

    def packed(limits: Any) -> fm.ClientData:
        fm.set_default_context(suite.context())
        rows = {name: array[: limits[-1]] for name, array in arrays.items()}
        return fm.client_data_from_arrays(rows, limits, program.client, EXAMPLES)

    running(suite.context(), program.train, model, RATE, packed(offsets[: few + 1]))()  # the compiler takes memory, too
    _forget_peak()
    peak, anonymous = _status("VmHWM"), _status("RssAnon")
    started = time.perf_counter()
    data = packed(offsets)
    packing = time.perf_counter() - started
    ours = running(suite.context(), program.train, model, RATE, data)
    found = ours()
    grown = np.array([_status("VmHWM") - peak, _status("RssAnon") - anonymous, len(data.owned)])
    times = suite.time({"fedmpi": ours, "alone": running(suite.context(), program.train, model, RATE, packed(bounds))})
    setting = f"{clients:,} clients of {EXAMPLES} examples x {FEATURES} features, {suite.where()}"
    name = f"one round over {clients:,} clients"
    against = "the arithmetic: one client a rank with the same batches"
    gap = _gap(found, arrays) if suite.server else None
    target = Target(3.0, "figure")
    text = f"{setting}; packed in {packing:.2f} s"
    suite.add(Row(GROUP, name, text, times["fedmpi"], against, times["alone"], target, difference=gap), TOLERANCE)
    _memory(suite, setting, grown, clients)


def _memory(suite: Suite, setting: str, grown: Any, clients: int) -> None:
    """Add what the server and a client take; the last rank, which always has clients, tells rank 0 its numbers.

    `grown` is by how much this rank's peak and its memory beside mapped files have grown, in bytes, and its clients.
    """
    theirs = grown.copy()
    suite.comm.bcast(theirs, suite.comm.size - 1)
    peak, beside, owned = (int(number) for number in theirs)
    model, data = 4 * (FEATURES * CLASSES + CLASSES), 4 * EXAMPLES * (FEATURES + 1)
    name, text = "a client's memory beyond its data", f"on the last rank, which has {owned:,} clients"
    text = f"{setting}; growth of memory beside mapped files {text}; its peak grew by {peak / 1e6:.0f} MB"
    figure, yardstick = Times((max(beside, 0) / max(owned, 1),)), Times((float(data),))
    suite.add(Row(GROUP, name, text, figure, "a client's data", yardstick, Target(64, "figure"), unit="B"))
    if suite.comm.size > 1:
        name, text = "the server's memory", f"{setting}; growth of its peak, {grown[0] / clients:.1f} B a client"
        figure, yardstick = Times((float(max(grown[0], 0)),)), Times((float(model),))
        suite.add(Row(GROUP, name, text, figure, "the model", yardstick, unit="B"))


def _gap(found: Any, arrays: dict[str, Any]) -> float:
    """Return how far the model is from one step on all examples: every client makes one, all with as many examples."""
    weights, bias = np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)
    total, part = len(arrays["y"]), 1_000_000
    for start in range(0, total, part):
        x, y = (np.asarray(arrays[key][start : start + part]) for key in "xy")
        by_class = np.where(np.arange(CLASSES) == y[:, None], -0.5, 0.5)  # softmax(0) - one-hot
        weights -= RATE / total * (x.T.astype(np.float64) @ by_class)
        bias -= RATE / total * by_class.sum(axis=0)
    return difference([found["weights"], found["bias"]], [weights, bias])


def _forget_peak() -> None:
    """Let the kernel measure this process's peak memory from now on (Linux; elsewhere it stays that of all time)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Return a number of bytes that the kernel knows of this process: VmHWM, RssAnon; 0 where it does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
