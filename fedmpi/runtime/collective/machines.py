"""The same bits need the same CPUs and libraries: the ranks compare theirs when they meet."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import warnings

import numpy as np

from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.version import __version__

_LIBRARIES = ("numpy", "numba", "llvmlite", "scipy", "mpi4py")


def here() -> dict[str, str]:
    """Return what results depend on besides the program: versions, and the type of the CPU."""
    found = {"fedmpi": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {**found, "CPU": _cpu()}


def _cpu() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def differences(machines: list[dict[str, str]]) -> list[str]:
    """Return a line for each thing in which a rank's machine differs from rank 0's."""
    lines = []
    for name in sorted({name for machine in machines for name in machine}):
        groups: dict[str, list[int]] = {}
        for rank, machine in enumerate(machines):
            groups.setdefault(machine.get(name, "none"), []).append(rank)
        if len(groups) > 1:
            lines.append(f"{name}: " + ", ".join(f"{value} on {_ranks(ranks)}" for value, ranks in groups.items()))
    return lines


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:3])) + (f" and {len(ranks) - 3} more" if len(ranks) > 3 else "")
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"


def compare(comm: Communicator) -> None:
    """Warn on rank 0 where the ranks' machines differ (collective)."""
    with Round(comm, "start") as step:
        step.check_in("start", UNKNOWN)
        mine = np.frombuffer(json.dumps(here()).encode("utf-8"), dtype=np.uint8)
        machines = [json.loads(part.tobytes()) for part in comm.allgather_bytes(mine)]
    lines = differences(machines)
    if lines and comm.is_server:
        text = "the ranks differ, so that results may depend on which rank hosts which client:\n  " + "\n  ".join(lines)
        warnings.warn(text, RuntimeWarning, stacklevel=2)
