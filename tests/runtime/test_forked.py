"""A process made by os.fork leaves MPI alone and ends by itself, as real jobs under plain mpiexec."""

from pathlib import Path

import pytest

from tests import needs
from tests.mpijob import TIMED_OUT, WITHIN, command, run_command, run_job

JOB = Path(__file__).with_name("fork_job.py")

pytestmark = [needs.mpi_jobs, pytest.mark.slow]


def run(name, ranks):
    result = run_job(ranks, [JOB, name], timeout=90) if ranks else run_command(command([JOB, name]), timeout=90)
    assert result.returncode != TIMED_OUT, result
    return result


@pytest.mark.parametrize("ranks", [0, 2, 3])
def test_children_of_a_clients_function(ranks):
    result = run("in_a_client", ranks)
    assert result.returncode == 0, result
    assert result.stdout.count("done") == max(ranks, 1), result
    assert result.stderr.count("\nValueError: boom in the child\n") == 2, result  # plain, once for each client
    assert result.stderr.count("has returned from the local computation that made it") == 2, result
    assert result.stderr.count("sorry\n") == 2, result
    assert "[rank" not in result.stderr, result


@pytest.mark.parametrize("name", ["in_a_thread", "outside", "pool", "before_mpi"])
@pytest.mark.parametrize("ranks", [0, 2])
def test_other_children(name, ranks):
    result = run(name, ranks)
    assert result.returncode == 0, result
    assert result.stdout.count("done") == max(ranks, 1), result
    assert "[rank" not in result.stderr, result


def test_an_exception_whose_attributes_raise_ends_the_job():
    result = run("proxy_raises", 2)
    assert result.returncode == 1, result
    assert "Proxy: text of the proxy" in result.stderr, result
    assert result.seconds < WITHIN, result
