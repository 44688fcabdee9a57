"""A real Slurm of one node on this machine, for the length of a test run; needs root, Slurm and munge.

Everything lives in one folder with ports, a munge key and a munge socket of its own, so that a Slurm that the machine
already has is not touched.  The daemons are started in the foreground with their streams in files and are stopped by
pid.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedmpi.cli.jobs import MARK
from tests.mpijob import Result, run_command

CPUS = 8  # more than the machine may have: a job of some ranks must not wait for cores
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "squeue", "scancel")
START_SECONDS = 30

CONFIGURATION = """\
ClusterName=fedmpi
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
FirstJobId={first_job}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=pmi2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000
PartitionName=tests Nodes=n1 Default=YES OverSubscribe=FORCE:8 State=UP
"""


def why_not() -> str:
    """Return why there can be no Slurm here; empty if there can."""
    missing = [program for program in PROGRAMS if find(program) is None]
    if missing:
        return f"needs Slurm and munge (Debian: slurm-wlm munge), found no {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root, to start Slurm's daemons"


def find(program: str) -> str | None:
    """Return the program's path; daemons are in folders that are not in everybody's PATH."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


class Node:
    """The running Slurm; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # MPICH names its shared memory by the job's number, and does not start where a killed job has left its own.
        self.first_job = 10_000 + secrets.randbelow(50_000_000)
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Node:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(
        self, *words: str | Path, timeout: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Result:
        """Run a command of Slurm's with this configuration, as if not from within a job."""
        inherited = [f"--unset={name}" for name in os.environ if name.startswith(("SLURM", "SRUN", "SBATCH"))]
        return run_command(
            ["env", f"--chdir={cwd or self.folder}", *inherited, *self._command(words)],
            timeout=timeout,
            env={"SLURM_CONF": str(self._configuration), **(env or {})},
        )

    def submit(self, script: Path, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path) -> str:
        """Give a script to sbatch and return the job's number."""
        # Without the mark by which run_command ends all that it has started: the job outlives sbatch.
        words = ["env", f"--unset={MARK}", *self._command(["sbatch", "--parsable", script, *arguments])]
        result = self.run(*words, timeout=20, env=env, cwd=cwd)
        if result.returncode:
            raise RuntimeError(f"sbatch failed: {result}")
        return result.stdout.strip()

    @staticmethod
    def _command(words: Sequence[str | Path]) -> list[str]:
        return [find(str(words[0])) or str(words[0]), *map(str, words[1:])]

    def wait(self, job: str, timeout: float) -> dict[str, str]:
        """Return what `scontrol show job` says once the job is over."""
        end = time.monotonic() + timeout
        while True:
            text = self.run("scontrol", "show", "job", job, "--oneliner", timeout=20).stdout
            facts = dict(word.split("=", 1) for word in text.split() if "=" in word)
            if facts.get("JobState") not in ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING"):
                return facts
            if time.monotonic() > end:
                self.run("scancel", job, timeout=20)
                raise TimeoutError(f"job {job} is not over after {timeout} s: {text}")
            time.sleep(0.2)

    @property
    def _configuration(self) -> Path:
        return self.folder / "slurm.conf"

    def _start(self) -> None:
        self.folder.chmod(0o755)  # munged wants a socket that every user could reach
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        names = {name: str(self.folder / f"munge.{name}") for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged",
            "--foreground",
            "--force",  # the folder's parents are those of a temporary folder, writable by all
            f"--key-file={key}",
            f"--socket={names['socket']}",
            f"--pid-file={names['pid']}",
            f"--log-file={names['log']}",
            f"--seed-file={names['seed']}",
        )
        self._until(lambda: Path(names["socket"]).exists(), "munged made its socket")
        controller_port, node_port = _free_ports(2)
        text = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0],
            folder=self.folder,
            controller_port=controller_port,
            node_port=node_port,
            cpus=CPUS,
            first_job=self.first_job,
        )
        self._configuration.write_text(text)
        self._daemon("slurmctld", "-D", "-f", self._configuration)
        self._daemon("slurmd", "-D", "-N", "n1", "-f", self._configuration)
        self._until(self._idle, "the node was idle")

    def _idle(self) -> bool:
        return self.run("sinfo", "--noheader", "--format=%T", timeout=20).stdout.strip() == "idle"

    def _daemon(self, program: str, *arguments: str | Path) -> None:
        path = find(program)
        assert path is not None
        with open(self.folder / f"{program}.out", "wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [path, *map(str, arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, "SLURM_CONF": str(self._configuration)},
                )
            )

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not reached():
            dead = [one for one in self._daemons if one.poll() is not None]
            if dead or time.monotonic() > end:
                logs = [path for pattern in ("*.out", "*.log") for path in sorted(self.folder.glob(pattern))]
                tails = "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in logs)
                raise RuntimeError(f"Slurm did not start: not true within {START_SECONDS} s: {what}\n{tails}")
            time.sleep(0.1)

    def _stop(self) -> None:
        """End the jobs, then the daemons in the opposite order."""
        if len(self._daemons) == 3:
            self.run("scancel", "--partition=tests", timeout=20)
            with contextlib.suppress(RuntimeError):
                self._until(self._idle, "all jobs were over")
        for daemon in reversed(self._daemons):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
