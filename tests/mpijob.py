"""Start an MPI job from a test: the only way in which tests do it.

When a job is over, in whatever way, nothing of it is left: a rank that hangs spins on a core.  Ending the launcher is
not enough, and no group or session has all of a job in it (Open MPI gives each rank a process group of its own, MPICH a
session), so every process is found by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmpi.runtime import launch

ROOT = Path(__file__).resolve().parent.parent
TIMED_OUT = 124
# What launchers leave in the environment of their ranks: a job started from within a rank must not see it.
MARK = "FEDMPI_TEST_JOB"
LAUNCHER_VARIABLES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "MPI_LOCAL", "HYDRA_", "HYDI_")


@dataclass(frozen=True)
class Result:
    """How a job ended; `returncode` is 124 if it had to be stopped after its time-out."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        return f"exit code {self.returncode} after {self.seconds:.1f} s\n{self.stdout}\n--- stderr\n{self.stderr}"


def mpiexec() -> str | None:
    """Return the mpiexec of this environment: the one beside the interpreter, else the one in PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")


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
    job = uuid.uuid4().hex
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        # Files instead of pipes: a pipe stays open as long as anything that the job left behind.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=_environment(timeout) | dict(env or {}) | {MARK: job},
            start_new_session=True,
        )
        try:
            returncode = process.wait(timeout)
        except subprocess.TimeoutExpired:
            returncode = TIMED_OUT
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        finally:
            seconds = time.monotonic() - started
            _end(job)
            process.wait()
        texts = [(file.seek(0), file.read().decode(errors="replace"))[1] for file in (stdout, stderr)]
    return Result(returncode, texts[0], texts[1], seconds)


def _environment(timeout: float) -> dict[str, str]:
    env = dict(os.environ)
    if launch.detect() is not None:
        env = {name: value for name, value in env.items() if not name.startswith(LAUNCHER_VARIABLES)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    env["MPIEXEC_TIMEOUT"] = str(int(timeout) + 10)  # in case that nobody is left to end the session
    env.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    if os.geteuid() == 0:
        env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return env


def _end(job: str) -> None:
    """Kill every process of a job until there is none."""
    while members := members_of(job):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def members_of(job: str) -> list[int]:
    """Return the processes that were started within a job and are alive (a zombie has no environment any more)."""
    mark = f"{MARK}={job}".encode()
    members = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # of another user, or gone meanwhile
            if mark in path.read_bytes().split(b"\0"):
                members.append(int(path.parent.name))
    return members
