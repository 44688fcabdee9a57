"""Run a program on several numbers of ranks and compare what its computations return, bit by bit.

    fedmpi verify train.py --rounds 3
    fedmpi verify -n 1,2,4 --server-trains -m package.train

Every computation's result is hashed (SHA-256) where it comes back to the program.  All equal: exit code 0.  Otherwise
the first result that differs is printed, or what a run failed with, and the exit code is 1.  The output of the program
is that of the first run; of another run it is shown if that one fails.  To see whether a program gives the same results
twice at all, give a number twice: -n 1,1.  Where clients are run client by client and the program has not asked for
that, the reason is told below the run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fedmpi.cli import jobs
from fedmpi.cli.errors import CommandError, UsageError
from fedmpi.cli.output import write
from fedmpi.cli.run import add_program, program_words
from fedmpi.runtime.mpi import launch

SUMMARY = "run a program on several numbers of ranks and compare all results bit by bit"
TAIL = 30  # lines of a failed run's output
# More ranks than cores: Open MPI refuses them otherwise (version 5, version 4); others do not look at these.
OVERSUBSCRIBE = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """How a run differs from the others."""

    ranks: int
    server_trains: bool = False

    def __str__(self) -> str:
        text = f"{self.ranks} {'rank' if self.ranks == 1 else 'ranks'}"
        return f"{text}, server trains" if self.server_trains else text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.usage = (
        "fedmpi verify [-h] [-n N,N,...] [--server-trains] [--launcher COMMAND] [--timeout SECONDS] "
        "(SCRIPT | -m MODULE) [ARGUMENT ...]"
    )
    parser.add_argument(
        "-n", dest="ranks", type=_counts, default=(1, 2, 3, 5), metavar="N,N,...", help="default: 1,2,3,5"
    )
    parser.add_argument(
        "--server-trains",
        action="store_true",
        help="run each number of ranks above 1 once more with clients on rank 0 too (in the default context)",
    )
    parser.add_argument(
        "--launcher",
        metavar="COMMAND",
        help="what starts ranks, such as 'srun --mpi=pmi2 --wait=60'; -n N follows"
        " (default: the mpiexec of this Python)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=3600.0, metavar="SECONDS", help="of one run (default: %(default).0f)"
    )
    add_program(parser)


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) if part.strip().isdecimal() else 0 for part in text.split(","))
    if not all(counts):
        raise argparse.ArgumentTypeError(f"expected numbers of ranks such as 1,2,3, found {text!r}")
    return counts


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, found {text!r}")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Compare the runs; raises CommandError at the first that fails or differs from the first one."""
    program = program_words(options)
    settings = [Setting(n, trains) for n in options.ranks for trains in (False, True) if _wanted(n, trains, options)]
    if len(settings) < 2:
        raise UsageError("fedmpi verify: argument -n: expected at least two numbers of ranks to compare")
    launcher = _launcher(options.launcher)
    first: list[Record] = []
    for index, setting in enumerate(settings):
        started = time.monotonic()
        records = _results(launcher, setting, program, options.timeout, shown=index == 0)
        seconds = time.monotonic() - started
        if index == 0:
            first = records
            if not first:
                raise CommandError(
                    f"{setting}: the program finished, but no result of a computation was recorded: there is nothing to"
                    " compare (rank 0 must be on this host)"
                )
        else:
            _compare(settings[0], first, setting, records)
        equal = ", all equal" if index else ""
        write(f"{setting}: {len(records)} {'result' if len(records) == 1 else 'results'}{equal} ({seconds:.1f} s)")
        for text in dict.fromkeys(text for record in records for text in record["slowly"]):
            write(f"  {text}")
    return 0


def _wanted(ranks: int, server_trains: bool, options: argparse.Namespace) -> bool:
    return not server_trains or (bool(options.server_trains) and ranks > 1)


def _launcher(command: str | None) -> list[str]:
    """Return the words that start ranks."""
    started = launch.detect()
    if started is not None and (started.size > 1 or started.name != "srun"):  # srun --pty bash is a shell
        raise UsageError(f"fedmpi verify: start it without {started.name}: it starts the ranks itself")
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"fedmpi verify: argument --launcher: {error}: {command!r}") from None
        if not words:
            raise UsageError("fedmpi verify: argument --launcher: expected a command, found an empty text")
        return words
    found = jobs.mpiexec()
    if found is None:
        raise CommandError("no mpiexec beside this Python or in PATH: say with --launcher what starts ranks")
    return [found]


def _results(launcher: list[str], setting: Setting, program: list[str], timeout: float, *, shown: bool) -> list[Record]:
    """Run the program once and return what was recorded; raise CommandError if it fails."""
    with tempfile.TemporaryDirectory(prefix="fedmpi-verify-") as folder:
        path = Path(folder, "results.jsonl")
        # By `env`, because not every launcher hands the environment to ranks on other hosts.
        variables = [f"FEDMPI_RECORD={path}", f"FEDMPI_SERVER_TRAINS={int(setting.server_trains)}"]
        words = [*launcher, "-n", str(setting.ranks), "env", *variables, sys.executable, *program]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            sys.stdout.flush()
            files = {} if shown else {"stdout": out, "stderr": err}
            # mpiexec's own limit is for the case that this process is killed.
            env = {**OVERSUBSCRIBE, "MPIEXEC_TIMEOUT": str(int(timeout) + 10), **os.environ}
            try:
                code = jobs.run(words, env=env, timeout=timeout, **files)
            except OSError as error:
                raise CommandError(f"cannot start {shlex.join(launcher)}: {error.strerror or error}") from None
            if code != 0:
                how = f"not finished after {timeout:g} s" if code is None else f"failed with exit code {code}"
                raise CommandError("\n".join([f"{setting}: {how}", *_tail(out, "stdout"), *_tail(err, "stderr")]))
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _tail(file: IO[bytes], name: str) -> list[str]:
    """Return a heading and the last lines of a file; nothing for an empty one."""
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    cut = f" (the last {TAIL} of {len(lines)} lines)" if len(lines) > TAIL else ""
    return [f"--- {name}{cut}", *lines[-TAIL:]] if lines else []


def _compare(one: Setting, first: Sequence[Record], other: Setting, second: Sequence[Record]) -> None:
    """Raise CommandError at the first result that differs."""
    for mine, theirs in zip(first, second, strict=False):
        if all(mine[key] == theirs[key] for key in ("number", "name", "where", "type", "sha256")):
            continue  # how it was run may differ
        number = mine["number"]
        if any(mine[key] != theirs[key] for key in ("name", "where", "type")):
            text = f"result {number} is not of the same computation"
            lines = [_line(one, _computation(mine)), _line(other, _computation(theirs))]
        else:
            text = f"result {number} differs: {_computation(mine)}"
            lines = [_line(one, f"sha256 {mine['sha256']}"), _line(other, f"sha256 {theirs['sha256']}")]
        raise CommandError("\n".join([text, *lines]))
    if len(first) != len(second):
        more = max(first, second, key=len)[min(len(first), len(second))]
        lines = [_line(setting, f"{len(results)} results") for setting, results in ((one, first), (other, second))]
        raise CommandError("\n".join([f"result {more['number']} is missing: {_computation(more)}", *lines]))


def _computation(record: Record) -> str:
    return f"{record['name']} called at {record['where']}, type {record['type']}"


def _line(setting: Setting, text: str) -> str:
    return f"  {f'{setting}:':<9} {text}"
