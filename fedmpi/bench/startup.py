"""Starting: imports and the whole tutorial on three ranks, each in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fedmpi.bench.rows import Row, Target, Times
from fedmpi.bench.suite import Suite
from fedmpi.runtime.mpi import launch

GROUP = "startup"
RANKS, LIMIT = 3, 300  # seconds until a job is given up
# What launchers leave in the environment of their ranks: a job that is started from one must not see it.
OF_LAUNCHERS = ("PMI_", "PMIX_", "OMPI_MCA_", "OMPI_COMM_", "OMPI_UNIVERSE_", "PRTE_", "MPI_LOCAL", "HYDRA_", "HYDI_")
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def measure(suite: Suite) -> None:
    """Measure the group, if this rank is alone (it starts jobs itself)."""
    if suite.comm.size > 1:
        suite.skip(GROUP, "all", "it starts processes itself: run  fedmpi bench startup  on one rank")
        return
    repeats = suite.pick(min(suite.repeats, 5), 1)
    imports = _in_turn({name: _import(name) for name in ("fedmpi", "numpy", "numba")}, repeats)
    for name in ("numpy", "numba"):
        target = Target(0.5, "figure") if name == "numpy" else None
        text = "in a fresh process, files in the page cache"
        row = Row(
            GROUP, f"import fedmpi / import {name}", text, imports["fedmpi"], f"import {name}", imports[name], target
        )
        suite.add(row)
    launcher = _mpiexec()
    if launcher is None:
        suite.skip(GROUP, "fedmpi tutorial", "there is no mpiexec beside this Python or in PATH")
        return
    _tutorial(suite, [launcher, "-n", str(RANKS), sys.executable], min(repeats, 3))


def _tutorial(suite: Suite, start: list[str], repeats: int) -> None:
    bare = [*start, "-c", "import numpy, numba; from mpi4py import MPI; MPI.COMM_WORLD.Barrier()"]
    tutorial = [*start, "-m", "fedmpi", "tutorial"]
    times = _in_turn({"tutorial": _job(tutorial), "bare": _job(bare)}, repeats)
    text, against = f"{RANKS} ranks, wall clock of the whole job", f"{RANKS} ranks that import NumPy, Numba and mpi4py"
    target = Target(2.5, "figure")
    suite.add(Row(GROUP, "fedmpi tutorial, cached", text, times["tutorial"], against, times["bare"], target))
    if suite.quick:
        suite.skip(GROUP, "fedmpi tutorial, the first time", "it compiles for a while, and this run is a quick one")
        return
    with tempfile.TemporaryDirectory() as empty:
        first = Times((_job(tutorial, {"FEDMPI_CACHE_DIR": empty})(),))
    target = Target(20.0, "figure")
    text = f"{text}, an empty cache"
    suite.add(Row(GROUP, "fedmpi tutorial, the first time", text, first, "the same, cached", times["tutorial"], target))


def _in_turn(actions: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, Times]:
    """Return the seconds that each action says, one after the other at each repeat.

    The first time does not count: it fills the caches.
    """
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            seconds = action()
            if repeat:
                samples[name].append(seconds)
    return {name: Times(tuple(values)) for name, values in samples.items()}


def _import(name: str) -> Callable[[], float]:
    return lambda: float(_run([sys.executable, "-c", IMPORT.format(name)]))


def _job(words: list[str], more: Mapping[str, str] | None = None) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        _run(words, more)
        return time.perf_counter() - started

    return seconds


def _run(words: list[str], more: Mapping[str, str] | None = None) -> str:
    """Run a command outside of this job and return what it prints; raise RuntimeError if it fails."""
    foreign = () if launch.detect() is None else OF_LAUNCHERS
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    env.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")  # three ranks on two cores
    done = subprocess.run(
        words, env=env | dict(more or {}), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"startup: {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _mpiexec() -> str | None:
    """Return the mpiexec beside this Python, else the one in PATH."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")
