"""A rank that waits in MPI_Init says so."""

import re
import shlex
import sys
from importlib import metadata

import pytest

from tests import needs
from tests.mpijob import TIMED_OUT, mpiexec, run_command, run_job

pytestmark = [needs.mpi_jobs, pytest.mark.slow]
WAITED = r"\[rank 0 of 2, host \S+, pid \d+\] has waited \d+ s in MPI_Init: some of 2 ranks have not started; .*"
PROGRAM = "import fedmpi as fm\nfm.replicate(1)\n"
SHORT = {"FEDMPI_PATIENCE": "0.02"}
MPICH = any(name.metadata["Name"].lower() == "mpich" for name in metadata.distributions())


def test_a_rank_that_waits_for_another_says_so(tmp_path):
    script = tmp_path / "late.py"
    script.write_text(
        "import os, time\nfrom fedmpi.runtime.mpi import launch\nif launch.detect().rank: time.sleep(4)\n" + PROGRAM
    )
    result = run_job(2, [script], timeout=60, env=SHORT)
    assert result.returncode == 0, result
    assert len(re.findall(WAITED, result.stderr)) == 1, result
    assert "standard input" not in result.stderr, result
    result = run_job(2, [script], timeout=60)
    assert result.returncode == 0, result
    assert result.stderr == "", result


@pytest.mark.skipif(not MPICH, reason="Open MPI's mpiexec does not end what it gives to rank 0")
@pytest.mark.parametrize("program", ["- <", "<"])
def test_a_program_from_standard_input_is_told_why_it_waits(tmp_path, program):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    line = f"exec {shlex.quote(mpiexec())} -n 2 {shlex.quote(sys.executable)} {program} {shlex.quote(str(script))}"
    result = run_command(["sh", "-c", line], timeout=8, env=SHORT)
    assert result.returncode == TIMED_OUT, result
    cause = "read from standard input, which .* gives to one rank alone.*write it to a file"
    assert re.search(WAITED + cause, result.stderr), result


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "MULTIPLE RETURN"),
        ("mpi4py.rc.threads = False", "SINGLE RETURN"),
        ("mpi4py.rc.errors = 'fatal'", "MULTIPLE FATAL"),
    ],
)
def test_mpi_is_initialised_as_mpi4py_would(options, told):
    program = (
        f"import mpi4py\n{options}\nimport fedmpi as fm\nfm.is_server()\nfrom mpi4py import MPI\n"
        "levels = {MPI.THREAD_MULTIPLE: 'MULTIPLE', MPI.THREAD_SINGLE: 'SINGLE'}\n"
        "handlers = [MPI.COMM_WORLD.Get_errhandler(), MPI.COMM_SELF.Get_errhandler()]\n"
        "print(levels[MPI.Query_thread()], *{'RETURN' if h == MPI.ERRORS_RETURN else 'FATAL' for h in handlers})\n"
    )
    result = run_command([sys.executable, "-c", program], timeout=60)
    assert result.stdout.strip() == told, result
    result = run_job(2, ["-c", program], timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.split("\n")[:2] == [told, told], result
