"""Ranks that call different programs end the job and say how they differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import needs
from tests.mpijob import TIMED_OUT, WITHIN, run_job

JOB = Path(__file__).with_name("disagree_job.py")
pytestmark = [needs.mpi_jobs, pytest.mark.slow]
ONE_NAME = (
    "they run different programs (of one name: a constant, a type, a local computation or a context's option differs)"
)


def lines(trouble, rank_0, rank_1):
    return [f"the ranks disagree: {trouble}", f"  rank 0 calls {rank_0}", f"  rank 1 calls {rank_1}"]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("program", lines("they run different programs", "mean", "total")),
        ("literal", lines(ONE_NAME, "lambda", "lambda")),
        ("large literal", lines(ONE_NAME, "lambda", "lambda")),
        ("constant of a kernel", lines(ONE_NAME, "lambda", "lambda")),
        ("function argument", lines(ONE_NAME, "lambda", "lambda")),
        ("skip", lines("they run different programs", "mean", "total")),
        ("replicate", lines("they run different programs", "mean", "replicate")),
        (
            "client data",
            lines("they run different programs", "client_data, auto, of float32", "client_data, auto, of int32"),
        ),
        ("resident", lines(ONE_NAME, "lambda", "lambda")),
        ("reduction", lines(ONE_NAME, "mean", "mean")),
    ],
)
def test_ranks_that_disagree(way, said):
    result = run_job(3, [JOB, way], timeout=60)
    assert result.returncode not in (0, TIMED_OUT), result
    assert result.seconds < WITHIN, result
    text = "\n".join(line for line in result.stderr.splitlines() if line.startswith("[rank 1]"))
    for line in said:
        assert f"[rank 1] {line}" in text, result
    if way == "program":
        assert re.search(r"rank 0 calls mean \(disagree_job\.py:\d+\) \(its call \d+, 2 clients\)", text), result


def test_ranks_that_agree():
    result = run_job(3, [JOB, "nothing"], timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.count("agreed") == 3
