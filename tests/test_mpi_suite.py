"""The tests in tests/mpi as MPI jobs of 1, 2, 3 and 4 ranks."""

from __future__ import annotations

import re

import pytest

from tests import needs
from tests.mpijob import ROOT, run_job

MPI = ROOT / "tests" / "mpi"


@needs.mpi_jobs
def test_the_quick_part_on_three_ranks():
    assert passed(3, MPI / "test_programs.py", MPI / "test_operators.py") > 50


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_on_ranks(ranks):
    assert passed(ranks, ROOT / "tests") > 500


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("name", ["test_programs.py", "test_random_programs.py", "test_client_data.py"])
def test_in_debug_mode(name):
    """What the mode is part of is the same as in the reference evaluator, to the bit."""
    assert passed(3, MPI / name, env={"FEDMPI_DEBUG": "1"}) >= 1


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [5, 8])
def test_sums_on_more_ranks(ranks):
    assert passed(ranks, MPI / "test_sums.py") > 20


def passed(ranks, *paths, env=None):
    """Run the tests of files or folders on some ranks; return how many have passed, which all must."""
    argv = ["-m", "pytest", "--with-mpi", "-p", "no:cacheprovider", "-q", "--rootdir", str(ROOT), *map(str, paths)]
    result = run_job(ranks, argv, timeout=1800, env=env)
    print(result)  # pytest shows it if the test fails
    assert result.returncode == 0
    assert "skipped" not in result.stdout
    found = re.search(r"(\d+) passed", result.stdout)
    assert found is not None
    return int(found.group(1))
