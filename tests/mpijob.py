"""Start an MPI job from a test: the only way in which tests do it.  When a job is over, nothing of it is left."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmpi.cli import jobs
from fedmpi.cli.jobs import mpiexec
from fedmpi.runtime.mpi import launch

ROOT = Path(__file__).resolve().parent.parent
TIMED_OUT = 124
# Seconds in which a job ends in which something goes wrong: the promise, and what starting ranks takes where other
# tests have the cores.
WITHIN = 10 + 20
# What launchers leave in the environment of their ranks: a job started from within a rank must not see it.
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "HYDRA_", "HYDI_")


ANNOUNCED = "(compiling|compiled|waiting for another process that compiles) "


@dataclass(frozen=True)
class Result:
    """How a job ended; `returncode` is 124 if it had to be stopped after its time-out."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        return f"exit code {self.returncode} after {self.seconds:.1f} s\n{self.stdout}\n--- stderr\n{self.stderr}"


def run_job(n: int, argv: Sequence[str | Path], *, timeout: float, env: Mapping[str, str] | None = None) -> Result:
    """Run `mpiexec -n <n> <argv>` and return how it ended.

    `argv` is a command, or, if it begins with a *.py file or an option, the arguments of this Python.  `env` is added
    to the environment.  After `timeout` seconds everything is killed.
    """
    launcher = mpiexec()
    if launcher is None:
        raise RuntimeError("no mpiexec beside this Python or in PATH")
    return run_command([launcher, "-n", str(n), *command(argv)], timeout=timeout, env=env)


def command(argv: Sequence[str | Path]) -> list[str]:
    """Return `argv`, with this Python before it if it begins with a *.py file or an option."""
    words = [str(word) for word in argv]
    return [sys.executable, *words] if words[0].endswith(".py") or words[0].startswith("-") else words


def run_command(words: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> Result:
    """Run a command line, such as one of mpiexec, srun or plain Python, with nothing left of it afterwards."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        code = jobs.run(
            words, env={**environment(timeout), **(env or {})}, timeout=timeout, stdout=stdout, stderr=stderr
        )
        seconds = time.monotonic() - started
        texts = [(file.seek(0), file.read().decode(errors="replace"))[1] for file in (stdout, stderr)]
    return Result(TIMED_OUT if code is None else code, texts[0], without_announcements(texts[1]), seconds)


def without_announcements(stderr: str) -> str:
    """Leave out what says that something is compiled: whether, and for how long, depends on the machine's cache."""
    return re.sub(rf"^(\[rank \d+\] )?fedmpi: {ANNOUNCED}.*\n", "", stderr, flags=re.MULTILINE)


def environment(timeout: float) -> dict[str, str]:
    """Return the environment of a command: this repository importable, nothing of a job around it."""
    env = dict(os.environ)
    if launch.detect() is not None:
        env = {name: value for name, value in env.items() if not name.startswith(LAUNCHER_VARIABLES)}
    env.pop("PYTHONUNBUFFERED", None)  # pieces of what two ranks print would be mixed
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env["MPIEXEC_TIMEOUT"] = str(int(timeout) + 10)  # in case that nobody is left to end the session
    env.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    if os.geteuid() == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return env
