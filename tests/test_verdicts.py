"""What one rank's failure does to the others, as jobs: it is told by all, and the tests after it run."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests import needs
from tests.mpijob import ROOT, TIMED_OUT, Result, run_job

pytestmark = needs.mpi_jobs

HEAD = """
import time
import numpy as np, pytest
import fedmpi as fm

@fm.federated_computation(fm.type_at_clients(np.float32))
def mean(readings):
    return fm.federated_mean(readings)

def works(comm):
    assert fm.replicate(mean([1.0, 3.0])) == 2.0
    assert comm.arrive(comm.rank) == 0

def test_before(comm):
    works(comm)
"""
AFTER = """
def test_after(comm):
    works(comm)
"""
ON_ONE = """
def test_on_one(comm):
    works(comm)
    assert comm.rank != 1, "on one"
"""
ON_ALL = """
def test_on_all(comm):
    works(comm)
    assert 1 == 2
"""
TWO_WAYS = """
def test_two_ways(comm):
    assert comm.rank != 1, "two ways: one"
    assert comm.rank != 2, "two ways: two"
"""
IN_A_CALL = """
def test_in_a_call(comm):
    works(comm)
    assert comm.rank != 1, "others in a call"
    fm.replicate(mean([1.0]))
"""
OUTSIDE_A_CALL = """
def test_outside_a_call(comm):
    assert comm.rank, "others outside a call"
    comm.allgather_bytes(np.zeros(3, np.uint8))
"""
IN_A_THREAD = """
def test_in_a_thread(comm):
    assert comm.rank != 2
    with fm.AsyncContext():
        calls = [mean([1.0]), mean([2.0])]
    fm.replicate(1)
"""
# The root of a Bcast may be through before the others have come.
WENT_ON = """
def test_went_on(comm):
    assert comm.rank
    if comm.rank == 1:
        comm._comm.Ibcast(np.full(3, 5), root=1)
"""
FIXTURES = """
@pytest.fixture
def early(comm):
    assert comm.rank != 1, "early"

@pytest.fixture
def late(comm):
    yield
    assert comm.rank != 1, "late"
    comm.arrive(1)

def test_early(comm, early):
    works(comm)

def test_late(comm, late):
    works(comm)
"""
# Made before a failure, used after it.
DATA = """
@pytest.fixture(scope="module")
def data():
    with fm.MpiContext() as context:
        return context, fm.client_data([1.0, 3.0], np.float32)

def test_with_data(comm, data):
    assert comm.rank != 1
    comm.arrive(1)

def test_with_older_data(data):
    context, values = data
    assert context.replicate(context.invoke(mean, values)) == 2.0
"""
SKIPS = """
def test_skips_on_one(comm):
    if comm.rank == 1:
        pytest.skip("not here")

@pytest.mark.xfail(strict=False)
def test_expected_on_one(comm):
    assert comm.rank != 1

def test_skips(comm):
    pytest.skip("nowhere")

@pytest.mark.xfail
def test_expected(comm):
    assert False
"""
COUNTS = """
def test_counts(comm):
    comm.call += comm.rank == 1
"""
GO_ON = (ON_ONE, ON_ALL, TWO_WAYS, IN_A_CALL, OUTSIDE_A_CALL, IN_A_THREAD, WENT_ON, FIXTURES, DATA, SKIPS, COUNTS)
PASSING = "\ndef test_passes(comm):\n    works(comm)\n"


@dataclass
class Report:
    """A job's end, and what pytest counts in its closing line."""

    result: Result
    counts: dict[str, int]

    def has(self, text: str) -> bool:
        return re.search(text, self.result.stdout) is not None and re.search(text, self.result.stderr) is not None


def job(folder, text, ranks=3, patience=30, options=()):
    """Run a file with ``text`` between tests that pass."""
    file = folder / "test_it.py"
    file.write_text(HEAD + text + AFTER)
    plugins = ["-p", "tests.conftest", "-p", "tests.mpi.conftest", "-p", "no:cacheprovider"]
    argv = ["-m", "pytest", "-q", *plugins, "-c", ROOT / "pyproject.toml", "--rootdir", folder, *options, file]
    result = run_job(ranks, argv, timeout=120, env={"FEDMPI_TEST_PATIENCE": str(patience), "COLUMNS": "200"})
    assert result.returncode not in (0, TIMED_OUT), result
    *_, closing = result.stdout.strip().splitlines() or [""]
    found = re.findall(r"(\d+) (passed|failed|errors?|skipped|xfailed)", closing)
    return Report(result, {name: int(number) for number, name in found})


@pytest.mark.slow
def test_a_failure_on_one_rank_is_told_and_the_next_test_runs(tmp_path):
    report = job(tmp_path, ON_ONE, ranks=2)
    assert report.result.returncode == 1, report.result
    assert report.counts == {"failed": 1, "passed": 2}, report.result
    assert report.has("passed on rank 0; failed on rank 1"), report.result
    assert "AssertionError: on one" in report.result.stdout, report.result


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """All failures that a job survives, in one; a test that passes after each."""
    tests = [text + PASSING.replace("passes", f"passes_{number}") for number, text in enumerate(GO_ON)]
    return job(tmp_path_factory.mktemp("go on"), "".join(tests))


@pytest.mark.slow
def test_the_job_goes_on_after_every_failure(report):
    assert report.result.returncode == 1, report.result
    wrong = {"failed": 11, "errors": 2, "skipped": 1, "xfailed": 1}
    assert report.counts == {**wrong, "passed": 2 + len(GO_ON) + 2}, report.result
    assert not re.search(r"FAILED .*test_(passes|after|with_older)", report.result.stdout), report.result


@pytest.mark.slow
def test_each_text_is_shown_once(report):
    shown = report.result.stdout
    assert re.search(r"_ test_on_all _+\nfailed on ranks 0, 1, 2\n(.*\n)+?E +assert 1 == 2\n", shown), report.result
    for text in ("on one", "two ways: one", "two ways: two", "early", "late"):
        assert shown.count(f"E       AssertionError: {text}\n") == 1, report.result
    assert report.has("passed on rank 0; failed on ranks 1, 2"), report.result


@pytest.mark.slow
def test_ranks_that_wait_for_one_that_failed_are_released(report):
    call = r"call \d+ \(mean at test_it\.py:\d+\)"
    assert report.has(
        rf"test_in_a_call.*(\n?)failed on rank 1; rank 0 waited in {call} at test_it\.py:\d+; rank 2 waited in {call}"
    ), report.result
    outside = r"call \d+ \(outside a federated computation\) at test_it\.py:\d+"
    assert report.has(rf"failed on rank 0; rank 1 waited in {outside}; rank 2 waited in {outside}"), report.result
    assert report.has(rf"failed on rank 2; rank 0 waited in {call}; rank 1 waited in {call}"), report.result
    assert report.result.seconds < 60, report.result


@pytest.mark.slow
def test_ranks_must_skip_and_expect_failures_alike(report):
    assert report.has(r"passed on ranks 0, 2; skipped \(.*not here\) on rank 1"), report.result
    assert report.has(r"xpassed on ranks 0, 2; xfailed.* on rank 1"), report.result


@pytest.mark.slow
def test_calls_that_one_rank_alone_has_made(report):
    assert report.has(r"the numbers of calls differ: (\d+) on rank 0, \d+ on rank 1, \1 on rank 2"), report.result


@pytest.mark.slow
def test_the_first_failure_may_be_the_last(tmp_path):
    report = job(tmp_path, IN_A_CALL, options=["-x"])
    assert report.counts == {"failed": 1, "passed": 1}, report.result


@pytest.mark.slow
def test_a_rank_that_cannot_be_released_ends_the_job(tmp_path):
    text = "\ndef test_sleeps(comm):\n    assert comm.rank != 1, 'on one'\n    time.sleep(60)\n"
    result = job(tmp_path, text, patience=2).result
    assert result.seconds < 40, result
    said = r"\[rank 1\] test_it.py::test_sleeps \(call\) failed on rank 1; ranks 0, 2 did not come out of it; this ends"
    assert re.search(said, result.stderr), result
    assert re.search(r"\[rank 1\] E +AssertionError: on one", result.stderr), result


@pytest.mark.slow
def test_a_rank_that_leaves_pytest_ends_the_job(tmp_path):
    text = "\ndef test_leaves(comm):\n    if comm.rank == 1:\n        pytest.exit('enough')\n"
    result = job(tmp_path, text).result
    assert result.seconds < 40, result
    assert "rank 0 in the call of test_it.py::test_leaves, rank 1 in the end of pytest" in result.stderr, result
