"""How a script ends with asynchronous calls in line, as real jobs; tests/mpi/test_contexts.py has the rest."""

import re
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.mpijob import TIMED_OUT, run_command, run_job

JOB = Path(__file__).with_name("asynchronous_job.py")
WITHIN = 20  # seconds; the calls themselves take four

pytestmark = [pytest.mark.slow, needs.mpi_jobs]


def run(way, ranks=3):
    result = run_job(ranks, [JOB, way], timeout=60)
    assert result.returncode != TIMED_OUT, result
    assert result.seconds < WITHIN, result
    return result


def test_the_end_of_a_script_waits_for_the_calls_in_line():
    result = run("end")
    assert (result.returncode, result.stderr) == (0, ""), result


def test_sys_exit_waits_for_the_calls_in_line():
    result = run("exit")
    assert result.returncode == 3, result
    assert "waits in" not in result.stderr, result


def test_a_failure_that_nobody_awaited_is_told_at_the_end():
    result = run("fails")
    assert result.returncode == 0, result
    text = r"RuntimeWarning: the call of worked at asynchronous_job\.py:\d+ was not awaited, and failed: KeyError"
    assert len(re.findall(text, result.stderr)) == 3, result


@pytest.mark.parametrize("way", ["raise", "raise on all"])
def test_an_exception_ends_the_job_and_what_is_in_line(way):
    result = run(way)
    assert result.returncode == 1, result
    assert "ValueError: boom on 1" in result.stderr, result


def test_an_exception_that_was_awaited():
    result = run("awaited failure")
    assert result.returncode == 1, result
    assert "client 0 of values (rank 1), in work (asynchronous_job.py:" in result.stderr, result


def test_os_exit():
    result = run("os._exit")
    assert result.returncode != 0, result
    assert re.search(r"rank 1 ended its script after \d calls?", result.stderr), result


def test_a_call_that_the_others_have_not_made():
    result = run("one more call")
    assert result.returncode == 1, result
    assert re.search(r"rank 1 waits in call \d \(worked at asynchronous_job\.py:\d+\)", result.stderr), result


def test_calls_from_one_thread_alone():
    result = run("one thread", 2)
    assert result.returncode == 1, result
    assert "ContextError: MPI has been initialised for calls from one thread" in result.stderr, result
    assert re.search(r"at asynchronous_job\.py:\d+\n(\[rank \d\] )? *hint: leave mpi4py\.rc", result.stderr), result


@pytest.mark.parametrize("way", ["interrupt", "awaited failure"])
def test_in_one_process_an_exception_drops_what_has_not_begun(way):
    result = run_command([sys.executable, str(JOB), way], timeout=60)
    assert result.returncode != 0, result
    assert re.search(r"ended by an exception; [1-4] asynchronous calls in line were not begun", result.stderr), result
