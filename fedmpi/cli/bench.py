"""Measure fedmpi on this machine, each figure next to a yardstick that is measured in the same run.

    mpirun -n 3 fedmpi bench
    mpirun -n 3 fedmpi bench round --json round.json

kernels      passes over MNIST on one rank, next to SGEMM and NumPy
round        whole rounds, next to the same written by hand in NumPy and mpi4py
collectives  what goes over the wire, next to MPI's Bcast and Reduce
operators    each operator in a compiled loop, next to its clients run one by one
scale        one more client, a million clients, balance between ranks
startup      imports and the tutorial in fresh processes (on one rank)

Targets are for two cores.  One that is missed is reported and no error; the exit code is 1 if the two sides of a row
have computed different results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpi.cli import info
from fedmpi.cli.output import write

if TYPE_CHECKING:
    from fedmpi.bench.suite import Suite
    from fedmpi.data import Mnist
    from fedmpi.runtime.mpi.comm import Communicator

SUMMARY = "measure figures next to yardsticks from the same run"
GROUPS = {
    "kernels": "fedmpi.bench.kernels",
    "round": "fedmpi.bench.rounds",
    "collectives": "fedmpi.bench.collectives",
    "operators": "fedmpi.bench.operators",
    "scale": "fedmpi.bench.scale",
    "startup": "fedmpi.bench.startup",
}

TOLD = ("OPENBLAS_", "MKL_", "BLIS_", "OMP_", "NUMBA_")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "groups", nargs="*", type=_group, metavar="GROUP", help=f"{', '.join(GROUPS)} (default: all of them)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything into this file, the single repeats too")
    parser.add_argument("--quick", action="store_true", help="few repeats of small settings: does it run?")
    parser.add_argument("--repeats", type=_repeats, metavar="N", help="repeats of each measurement (default: 11)")
    parser.add_argument(
        "--data", metavar="FOLDER", help="take the 60,000 examples of cross-device rounds from MNIST in this folder"
    )


def _group(text: str) -> str:
    if text not in GROUPS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(GROUPS)}, found {text!r}")
    return text


def _repeats(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, found {text!r}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Measure on the ranks of this job; raises CommandError if something is missing or results disagree."""
    from fedmpi.cli.agreement import agree
    from fedmpi.runtime.mpi.comm import Communicator

    comm = Communicator.open()
    agree(comm, _writable(options.json) if comm.is_server and options.json is not None else "")
    mnist, problem = _read(options.data)
    agree(comm, problem)
    assert mnist is not None
    suite = _suite(comm, mnist, options)
    header = _header(suite)
    if suite.server:
        for name, text in header.items():
            write(f"{name:<13}{text}")
    for name in options.groups or GROUPS:
        _measure(suite, name)
    if suite.server and options.json is not None:
        _save(Path(options.json), suite, header)
    agree(comm, "\n".join(suite.problems))
    return 0


def _suite(comm: Communicator, mnist: Mnist, options: argparse.Namespace) -> Suite:
    from fedmpi.bench import suite as suites
    from fedmpi.local.loops.compiled import prepare_numba

    prepare_numba()  # one thread for every BLAS: the yardsticks' too
    repeats = options.repeats or (suites.REPEATS_QUICK if options.quick else suites.REPEATS)
    return suites.Suite(comm, mnist, options.quick, repeats, lambda row: write("\n".join(row.lines())))


def _measure(suite: Suite, name: str) -> None:
    """Measure one group and print its rows."""
    from fedmpi.bench.rows import HEADING

    known = len(suite.skipped)
    if suite.server:
        write(f"\n{name}\n{HEADING}")
    importlib.import_module(GROUPS[name]).measure(suite)
    for text in suite.skipped[known:]:
        write(f"  {text}")


def _read(folder: str | None) -> tuple[Mnist | None, str]:
    """Return the images, or what is wrong with them."""
    from fedmpi.data import mnist

    try:
        return mnist(folder), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def _header(suite: Suite) -> dict[str, str]:
    """Return what the numbers belong to: machine, MPI library, versions, threads, thoroughness."""
    comm, own = suite.comm, info.about_rank(suite.comm.rank)
    cores = len(own["cores"])
    versions = ", ".join(f"{name} {text.split(' (')[0]}" for name, text in own["versions"].items())
    return {
        "machine": f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {platform.system()}",
        "MPI library": info.library_name(comm.library),
        "ranks": f"{comm.size}, {comm.ranks_on_node} of them on the server's node; {suite.hosts} with clients",
        "BLAS": _blas(),
        "environment": _environment(),
        "versions": versions,
        "data": suite.mnist.source,
        "repeats": f"{suite.repeats}, both sides in turn{'; a quick run, small settings' if suite.quick else ''}",
    }


def _blas() -> str:
    """Return every BLAS that is loaded (NumPy's, SciPy's), what processor it thinks this is, and its threads."""
    from threadpoolctl import threadpool_info

    found = []
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            threads = "1 thread" if pool["num_threads"] == 1 else f"{pool['num_threads']} threads"
            found.append(f"{pool['internal_api']} {pool['version']} for {pool.get('architecture', '?')}, {threads}")
    return "; ".join(found) or "unknown to threadpoolctl"


def _environment() -> str:
    """Return what the environment says to BLAS, OpenMP and Numba: it can make a yardstick slow."""
    told = {name: value for name, value in os.environ.items() if name.startswith(TOLD)}
    return ", ".join(f"{name}={value}" for name, value in sorted(told.items())) or "says nothing to BLAS, OpenMP, Numba"


def _processor() -> str:
    """Return the model of the processor, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _writable(path: str) -> str:
    """Return what is in the way of writing the file, before minutes of measuring are spent."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        return f"--json {path}: expected a file, found a folder"
    return "" if os.access(folder, os.W_OK) else f"--json {path}: expected a folder to write to at {folder}"


def _save(path: Path, suite: Suite, header: dict[str, Any]) -> None:
    """Write header and rows, whole or not at all."""
    report = {
        "header": header,
        "rows": [row.as_json() for row in suite.rows],
        "skipped": suite.skipped,
        "disagreements": suite.problems,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, path)
