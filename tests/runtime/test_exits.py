"""A rank that leaves while others wait ends the job, as real jobs under plain mpiexec."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.cli.jobs import members_of
from tests import needs
from tests.mpijob import ROOT, TIMED_OUT, WITHIN, command, run_command, run_job

JOB = Path(__file__).with_name("exits_job.py")
WAITS = r"rank [012] waits in call {} \(federated_train at train\.py:30\)"

pytestmark = pytest.mark.slow


def run(way, ranks=3):
    result = run_job(ranks, [JOB, way], timeout=60)
    assert result.returncode != TIMED_OUT, result
    return result


def of_rank(rank, result):
    """Return the lines that a rank has signed."""
    return "\n".join(line for line in result.stderr.splitlines() if line.startswith(f"[rank {rank}]"))


def no_abort(result):
    return "abort" not in result.stderr.lower() and "waits in" not in result.stderr


@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_an_exception_ends_the_job_with_its_traceback_and_who_waits(ranks):
    result = run("raise", ranks)
    assert result.returncode == 1, result
    assert result.seconds < WITHIN
    text = of_rank(ranks - 1, result)
    assert f"[rank {ranks - 1}] Traceback (most recent call last):" in text, result
    assert f"[rank {ranks - 1}] ValueError: boom on {ranks - 1}" in text, result
    assert f"rank {ranks - 1} ended its script after 2 calls with ValueError; rank 0 waits in call 3" in text, result


@needs.mpi_jobs
def test_an_exception_inside_a_call_counts_the_calls_before_it():
    result = run("raise in the call")
    assert result.returncode == 1, result
    text = of_rank(2, result)
    assert "ended its script after 2 calls with ValueError, in call 3 (federated_train at train.py:30)" in text, result
    assert re.search(WAITS.format(3), text), result


@needs.mpi_jobs
@pytest.mark.parametrize("way", ["raise on all", "raise on all before MPI"])
def test_an_exception_on_all_ranks_is_printed_by_all_and_needs_no_abort(way):
    result = run(way)
    assert result.returncode == 1, result
    assert [f"[rank {rank}] ValueError: boom on {rank}" in result.stderr for rank in range(3)] == [True] * 3, result
    assert no_abort(result), result


@needs.mpi_jobs
def test_exceptions_on_two_ranks_are_both_printed():
    result = run("raise on two")
    assert result.returncode == 1, result
    assert "[rank 1] ValueError: boom on 1" in result.stderr, result
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result
    assert re.search(WAITS.format(3), result.stderr), result


@needs.mpi_jobs
def test_an_exception_after_the_last_call_of_all_lets_the_others_finish():
    result = run("raise after the last call")
    assert result.returncode == 1, result
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result
    assert no_abort(result), result


@needs.mpi_jobs
@pytest.mark.parametrize("way", ["raise while others work", "before MPI: raise while others work"])
def test_an_exception_ends_the_job_though_nobody_waits(way):
    result = run(way)
    assert result.returncode not in (0, TIMED_OUT), result
    assert result.seconds < WITHIN, result
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result


@needs.mpi_jobs
@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("sys.exit(3)", 3, r"\[rank 2\] sys\.exit\(3\) was called at\n\[rank 2\]   File .*exits_job\.py\", line \d+"),
        ("sys.exit(0)", 1, r"\[rank 2\] sys\.exit\(0\) was called at\n\[rank 2\]   File .*exits_job\.py\", line \d+"),
        ("sys.exit('sorry')", 1, r"(?s)^sorry\n.*\[rank 2\] sys\.exit\('sorry'\) was called at\n"),
        ("raise SystemExit(4)", 1, ""),
        ("end", 1, ""),
        ("sys.exit(3) in the call", 3, r"\[rank 2\] sys\.exit\(3\) was called at\n(.*\n)+.*line \d+, in call\n"),
        ("catch sys.exit, then end early", 1, ""),
    ],
)
def test_leaving_while_others_wait_ends_the_job(way, code, said):
    result = run(way)
    assert result.returncode == code, result
    assert result.seconds < WITHIN
    assert re.search(said, result.stderr), result
    calls, waited = ("1 call", 2) if "early" in way else ("2 calls", 3)
    assert re.search(rf"\[rank 2\] rank 2 ended its script after {calls}(, in call 3 \(.*\))?; rank", result.stderr), (
        result
    )
    assert re.search(WAITS.format(waited), result.stderr), result
    assert ("was called at" in result.stderr) == bool(said), result


@needs.mpi_jobs
@pytest.mark.parametrize(
    ("way", "code"), [("before MPI: raise", 1), ("before MPI: sys.exit(3)", 3), ("before MPI: end", 1)]
)
def test_leaving_before_mpi_is_initialised_ends_the_job(way, code):
    result = run(way)
    assert result.returncode == code, result
    assert result.seconds < WITHIN
    assert "[rank 2] rank 2 ended its script after 0 calls" in result.stderr, result
    assert re.search(WAITS.format(1), result.stderr), result
    assert ("[rank 2] ValueError: boom on 2" in result.stderr) == way.endswith("raise"), result


@needs.mpi_jobs
def test_an_exception_after_the_program_has_initialised_mpi_itself():
    result = run("initialised by the user")
    assert result.returncode == 1, result
    assert result.seconds < WITHIN
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result


@needs.mpi_jobs
@pytest.mark.parametrize(
    "way", ["end on all", "nothing at all", "finalised by the user", "catch and go on", "a child process"]
)
def test_normal_ends_are_silent(way):
    result = run(way)
    assert result.returncode == 0, result
    assert result.stderr == "", result
    if way in ("end on all", "catch and go on"):
        assert result.stdout.count("done") == 3, result


@needs.mpi_jobs
def test_sys_exit_on_all_ranks_is_just_that():
    result = run("sys.exit(3) on all")
    assert result.returncode == 3, result
    assert no_abort(result), result
    assert "was called at" not in result.stderr, result


@needs.mpi_jobs
def test_long_work_after_the_last_call_is_no_error_and_has_the_cores_for_itself():
    result = run("long work on rank 0")
    assert result.returncode == 0, result
    assert result.stderr == ""
    assert "worked" in result.stdout
    used = [float(seconds) for seconds in re.findall(r"waited with ([\d.]+) s of CPU", result.stdout)]
    assert len(used) == 2, result
    assert max(used) < 0.5  # of 1.5 s


@needs.mpi_jobs
def test_another_excepthook_has_its_say():
    result = run("another excepthook")
    assert result.returncode == 1, result
    assert "a hook of mine: boom on 2" in result.stderr, result
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result
    assert re.search(WAITS.format(2), result.stderr), result


@needs.mpi_jobs
def test_an_earlier_excepthook_is_called():
    result = run("an earlier excepthook")
    assert result.returncode == 1, result
    assert "[rank 2] ValueError on rank 2:\na hook of mine: boom on 2\n" in result.stderr, result
    assert re.search(WAITS.format(2), result.stderr), result


@needs.mpi_jobs
def test_ctrl_c_has_its_exit_code():
    result = run("Ctrl-C")
    assert result.returncode == 130, result
    assert "[rank 2] KeyboardInterrupt" in result.stderr, result


@needs.mpi_jobs
@pytest.mark.parametrize("way", ["os._exit(3)", "kill"])
def test_a_rank_that_dies_is_the_launchers_business(way):
    result = run(way)
    assert result.returncode != 0, result
    assert result.seconds < WITHIN


@needs.mpi_jobs
def test_a_waiting_rank_gives_up_by_itself_if_the_other_is_deaf():
    result = run("goodbye without an ear")
    assert result.returncode == 1, result
    assert result.seconds < WITHIN
    text = (
        r"\[rank [01]\] waits in call 3 \(federated_train at train\.py:30\), but rank 2 ended its script after 2 calls"
    )
    assert re.search(text, result.stderr), result


@needs.mpi_jobs
def test_waiting_outside_a_call_for_ranks_that_have_all_left():
    result = run("outside a call", ranks=2)
    assert result.returncode == 1, result
    assert result.seconds < WITHIN
    assert "rank 1 ended its script after 2 calls; rank 0 waits in call 2 (outside a federated" in result.stderr, result


@needs.mpi_jobs
def test_pytest_under_mpi_leaves_normally(tmp_path):
    (tmp_path / "test_sum.py").write_text(
        "import numpy as np, pytest, sys\n"
        "from fedmpi.runtime.collective import exits\n"
        "from fedmpi.runtime.mpi.comm import Communicator\n"
        "exits.watch()\n"
        "def test_passes():\n"
        "    comm = Communicator.open()\n"
        "    assert comm.arrive(3) == 3\n"
        "    with pytest.raises(SystemExit):\n"
        "        sys.exit(4)\n"
        "def test_fails():\n"
        "    assert False\n"
    )
    for chosen, code in (("test_passes", 0), ("test_fails", 1), ("test_", 1)):
        argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, tmp_path]
        result = run_job(3, argv, timeout=60)
        assert result.returncode == code, result
        assert no_abort(result), result


@needs.mpi_jobs
@pytest.mark.parametrize("environ", [{"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3"}])
def test_a_world_of_one_among_several_is_refused_briefly(environ):
    """As under `srun --mpi=none`: the library starts, but finds nobody."""
    result = run_command(command([JOB, "end on all"]), timeout=60, env=environ)
    assert result.returncode == 1, result
    lines = result.stderr.strip().splitlines()
    assert len(lines) <= 4, result
    assert lines[0].startswith("[rank 1] fedmpi: srun started 3 processes, but the MPI library of this Python"), result
    assert lines[1].startswith("[rank 1] Start it with  srun --mpi=pmi"), result


@needs.mpi_jobs
def test_the_test_launcher_leaves_nothing_behind():
    program = "import os, time; os.write(1, os.environ['FEDMPI_JOB'].encode()); time.sleep(60)"
    result = run_job(2, ["-c", program], timeout=5)
    assert result.returncode == TIMED_OUT
    marks = re.findall("[0-9a-f]{32}", result.stdout)
    assert len(marks) == 2, result
    assert members_of(marks[0]) == []


def test_watching_costs_nothing_without_a_launcher():
    program = (
        "import sys; from fedmpi.runtime.collective import exits; before = sys.exit, sys.excepthook; exits.watch()\n"
    )
    program += "print(before == (sys.exit, sys.excepthook), 'mpi4py' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"
