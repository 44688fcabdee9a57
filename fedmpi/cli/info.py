"""What this job consists of: versions, the MPI library, ranks and hosts, cores and threads.

fedmpi info
mpirun -n 3 fedmpi info
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import sys
from importlib import metadata
from itertools import groupby
from typing import Any

from fedmpi.cli.output import is_first, write
from fedmpi.runtime.mpi import cores, launch
from fedmpi.version import __version__

SUMMARY = "versions, MPI library, ranks, hosts, cores and threads"
PACKAGES = ("numpy", "numba", "scipy", "mpi4py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(_: argparse.Namespace) -> int:
    """Print the report on rank 0; return 1 if the processes do not form one MPI world."""
    problem: launch.LaunchError | None = None
    library, reports = "", [about_rank(0)]
    try:
        library, reports = _collect()
    except launch.LaunchError as error:
        problem = error
    if is_first():
        for line in report(reports, library, str(problem or "")):
            write(line)
    # A missing library is an answer; processes that do not find each other are an error.
    return 0 if problem is None or isinstance(problem, launch.MissingMPIError) else 1


def _collect() -> tuple[str, list[dict[str, Any]]]:
    """Return the MPI library's text and, on rank 0, what each rank says of itself (collective)."""
    import numpy as np

    from fedmpi.runtime.mpi.comm import Communicator

    comm = Communicator.open()
    own = json.dumps(about_rank(comm.rank)).encode()
    gathered = comm.gather_bytes(np.frombuffer(own, np.uint8)) or []
    return comm.library, [json.loads(part.tobytes()) for part in gathered]


def about_rank(rank: int) -> dict[str, Any]:
    """Return what one process knows of itself: host, cores, threads, versions, cache folder."""
    from fedmpi.local.jit.cache_folder import folder

    cache = folder()
    return {
        "rank": rank,
        "host": socket.gethostname(),
        "cores": sorted(cores.own()),
        "threads": _threads(),
        "versions": versions(),
        "cache": None if cache is None else str(cache),
    }


def versions() -> dict[str, str]:
    """Return the versions of fedmpi, Python and the packages below it; "missing" for one that is not installed."""
    found = {"fedmpi": __version__, "Python": f"{platform.python_version()} ({sys.executable})"}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def _threads() -> dict[str, int]:
    """Return the number of threads of Numba and of each loaded BLAS, as in a computation."""
    counts = {}
    try:
        import numba
        from threadpoolctl import threadpool_info

        from fedmpi.local.loops.compiled import prepare_numba

        prepare_numba()
        counts["Numba"] = int(numba.get_num_threads())
        for pool in threadpool_info():
            if pool["user_api"] == "blas":
                name = f"{pool['internal_api']} {pool.get('version') or ''}".rstrip()
                counts[name] = max(counts.get(name, 0), int(pool["num_threads"]))
    except (ImportError, RuntimeError) as error:  # not installed, or switched off
        counts[f"unknown ({error})"] = 0
    return counts


def report(reports: list[dict[str, Any]], library: str, problem: str) -> list[str]:
    """Return the lines to print; `reports` are those of `about_rank`, by rank."""
    first = reports[0]
    lines = [f"{name:<13}{text}" for name, text in first["versions"].items()]
    lines.append(f"{'MPI library':<13}{library_name(library) if library else 'none'}")
    started = launch.detect()
    if started is not None:
        lines.append(f"{'launcher':<13}{started.name}, {started.size} processes")
    if not problem:
        lines.append(f"{'ranks':<13}{len(reports)}; rank 0 is the server{_hosting(len(reports))}")
        lines += _hosts(reports)
    lines.append(f"{'threads':<13}{_threads_text(first)}")
    lines.append(f"{'cache':<13}{first['cache'] or 'none: compiled code is not kept'}")
    lines += [f"warning: rank {other['rank']} differs: {text}" for other in reports for text in _differs(other, first)]
    return [*lines, *([f"\n{problem}"] if problem else [])]


def library_name(text: str) -> str:
    """Return name and version from what an MPI library says about itself ("MPICH Version:      5.0.2\\n...")."""
    line = text.strip("\0 \n").split("\n")[0].split(",")[0]
    return " ".join(line.replace("Version:", "").split())


def spans(numbers: list[int]) -> str:
    """Return the numbers as text, runs of them as "0-3"."""
    groups = groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in group] for _, group in groups]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ends)


def _hosting(ranks: int) -> str:
    if ranks == 1:
        return " and hosts the clients"
    return ", rank 1 hosts the clients" if ranks == 2 else f", ranks 1-{ranks - 1} host the clients"


def _hosts(reports: list[dict[str, Any]]) -> list[str]:
    """Return a line for each host: its ranks, and the cores that they may run on."""
    lines = []
    for host in dict.fromkeys(one["host"] for one in reports):
        there = [one for one in reports if one["host"] == host]
        cores = sorted({core for one in there for core in one["cores"]})
        noun = "rank" if len(there) == 1 else "ranks"
        crowded = len(there) > len(cores)
        lines.append(
            f"{'host':<13}{host}: {noun} {spans([one['rank'] for one in there])} on "
            f"{len(cores)} {'core' if len(cores) == 1 else 'cores'} ({spans(cores)})"
            f"{'; more ranks than cores' if crowded else ''}"
        )
    return lines


def _threads_text(one: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {count}" if count else name for name, count in sorted(one["threads"].items()))


def _differs(other: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """Return in which versions or threads a rank differs from rank 0: both can change the results' bits."""
    pairs = [*first["versions"].items(), ("threads", _threads_text(first))]
    theirs = {**other["versions"], "threads": _threads_text(other)}
    return [f"{name} {theirs.get(name)} instead of {text}" for name, text in pairs if theirs.get(name) != text]
