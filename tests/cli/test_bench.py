"""`fedmpi bench`: its rows are there and sound, and both sides agree; how fast they are is not for a test."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from fedmpi.bench import by_hand, suite, workloads
from fedmpi.bench.rows import Row, Target, Times, quantity
from fedmpi.cli import bench
from fedmpi.cli.main import main
from fedmpi.runtime import slowly
from tests import needs
from tests.mpijob import run_job

ROWS = {
    "kernels": [
        "local pass / its FLOP as SGEMM",
        "local pass, float32, batch 100 / NumPy",
        "loss and accuracy / NumPy",
    ],
    "round": ["tutorial round / by hand", "cross-device round / by hand", "tutorial round: exact / float64"],
    "collectives": [],
    "operators": ["federated_aggregate", "federated_select", "federated_secure_sum, as a loop"],
    "scale": ["one more tiny client on a rank, fast", "one round over 5,000 clients", "makespan, all clients"],
}


@needs.mpi_jobs
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_quick_run(tmp_path, ranks):
    path = tmp_path / "bench.json"
    words = [sys.executable, "-m", "fedmpi", "bench", *ROWS, "--quick", "--json", str(path)]
    done = run_job(ranks, words, timeout=300)
    assert done.returncode == 0, done
    report = json.loads(path.read_text())
    names = {group: [row["name"] for row in report["rows"] if row["group"] == group] for group in ROWS}
    for group, expected in ROWS.items():
        assert set(expected) <= set(names[group])
    if ranks == 3:
        assert "empty round on 2 ranks, fast / Bcast + Reduce" in names["round"]
        assert "Reduce of 31.4 kB, exact / MPI" in names["collectives"]
        assert not report["skipped"]
    else:
        assert len(report["skipped"]) == 2  # what needs ranks that talk to each other
    for row in report["rows"]:
        assert row["name"] in done.stdout
        assert math.isfinite(row["ratio"])
        assert row["ratio"] > 0 or (row["unit"] == "B" and row["ratio"] == 0), row  # memory may not grow
        assert len(row["figure"]["repeats"]) >= 1
        assert row["difference"] is None or row["difference"] < 1e-3
    assert report["disagreements"] == []
    for name in ("machine", "MPI library", "ranks", "BLAS", "environment", "versions", "data", "repeats"):
        assert report["header"][name]
    assert "threads" not in report["header"]["BLAS"]  # one on each


@needs.mpi_jobs
@pytest.mark.slow
def test_a_quick_start(tmp_path):
    path = tmp_path / "start.json"
    done = run_job(1, [sys.executable, "-m", "fedmpi", "bench", "startup", "--quick", "--json", str(path)], timeout=300)
    assert done.returncode == 0, done
    rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]}
    assert set(rows) == {"import fedmpi / import numpy", "import fedmpi / import numba", "fedmpi tutorial, cached"}
    assert all(row["ratio"] > 0 for row in rows.values())


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["bench", "speed"], "expected one of kernels, round, collectives, operators, scale, startup, found 'speed'"),
        (["bench", "--repeats", "0"], "--repeats: expected a whole number, at least 1, found '0'"),
    ],
)
def test_a_wrong_command_line_is_refused(argv, text, capsys):
    assert main(argv) == 2
    assert text in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_the_measuring(tmp_path):
    assert bench._writable(str(tmp_path / "new.json")) == ""
    assert "expected a file, found a folder" in bench._writable(str(tmp_path))
    assert "expected a folder to write to" in bench._writable(str(tmp_path / "no" / "new.json"))


def row(figure, yardstick, target=None, **more):
    return Row("group", "name", "setting", Times((figure,)), "yardstick", Times((yardstick,)), target, **more)


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target(1.5), 3.0, True),
        (Target(1.5), 3.1, False),
        (Target(4.0, "speedup"), 0.5, True),
        (Target(4.0, "speedup"), 0.6, False),
        (Target(3.0, "figure"), 3.0, True),
        (Target(3.0, "figure"), 3.1, False),
        (Target(1.0, "excess"), 3.0, True),
        (Target(1.0, "excess"), 3.1, False),
    ],
)
def test_targets(target, figure, met):
    assert row(figure, 2.0, target).met is met
    assert ("reached" if met else "missed") in row(figure, 2.0, target).lines()[0]


def test_a_row_says_what_its_numbers_are():
    times = Row("g", "n", "s", Times((3.0, 1.0, 2.0)), "y", Times((4.0, 5.0, 9.0)), by="minimum")
    assert times.ratio == 0.25
    assert times.as_json()["ratio_of"] == "minima"
    assert times.as_json()["figure"] == {"median": 2.0, "minimum": 1.0, "repeats": [3.0, 1.0, 2.0]}
    assert row(1.0, 2.0).met is None
    assert "2.00x faster" in row(1.0, 2.0, Target(4.0, "speedup")).lines()[0]


def test_quantities():
    assert [quantity(x, "s") for x in (2.5, 0.0031, 4.2e-6)] == ["2.5 s", "3.1 ms", "4.2 us"]
    assert [quantity(x, "B") for x in (31_400, 2e6, 40)] == ["31.4 kB", "2 MB", "40 B"]
    assert quantity(12_345.6, "1") == "12,346"


class Rank0:
    rank = 0
    is_server = True


def test_a_row_says_what_ran_client_by_client_unasked():
    slowly.taken()
    run = suite.Suite(Rank0(), None, False, 1, lambda _: None)
    slowly.tell("total", "a reason")
    for _ in range(2):
        run.add(row(1.0, 2.0))
    first, second = run.rows
    text = "total: its clients are run client by client, for a reason"
    assert f"      {text}" in first.lines()
    assert first.as_json()["slowly"] == [text]
    assert second.slowly == ()


def test_sides_that_disagree_are_noted():
    run = suite.Suite(Rank0(), None, False, 1, lambda _: None)
    run.add(row(1.0, 2.0, difference=1e-7), 1e-6)
    assert run.problems == []
    run.add(row(1.0, 2.0, difference=1e-5), 1e-6)
    run.add(row(1.0, 2.0, difference=math.nan), 1e-6)
    assert len(run.problems) == 2
    assert "expected the result of yardstick within 1e-06 (relative), found a difference of 1.0e-05" in run.problems[0]


def test_difference():
    assert suite.difference([[1.0, 2.0], 3.0], [[1.0, 2.0], 4.0]) == 0.25
    assert math.isnan(suite.difference([math.nan], [1.0]))
    with pytest.raises(ValueError, match=r"expected arrays of the shapes \[\(2,\)\], found \[\(1,\)\]"):
        suite.difference([[1.0]], [[1.0, 2.0]])


def test_both_numpy_programs_make_the_steps_of_the_textbook():
    """Against the gradient written out in float64, with a last batch that is shorter."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((25, 7)), rng.integers(0, 3, 25)
    weights, bias = np.zeros((7, 3)), np.zeros(3)
    for part in (slice(0, 10), slice(10, 20), slice(20, 25)):
        scores = np.exp(x[part] @ weights + bias)
        slope = (scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[y[part]]) / len(y[part])
        weights, bias = weights - 0.5 * x[part].T @ slope, bias - 0.5 * slope.sum(axis=0)
    model = by_hand.Softmax(7, 3, 10, np.float64)
    model.train(x, y, 0.5)
    np.testing.assert_allclose(model.weights.T, weights, rtol=1e-12)
    np.testing.assert_allclose(model.bias[:, 0], bias, rtol=1e-12, atol=1e-15)
    plain = np.zeros((7, 3)), np.zeros(3)
    by_hand.train_row_major(x, y, *plain, 10, 0.5)
    np.testing.assert_allclose(plain[0], weights, rtol=1e-12)
    np.testing.assert_allclose(plain[1], bias, rtol=1e-12, atol=1e-15)
    scores = x @ weights + bias
    loss, correct = model.evaluate(x, y)
    assert correct == (scores.argmax(axis=1) == y).sum()
    assert loss == pytest.approx(
        -np.log(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))[range(25), y].sum()
    )


@pytest.mark.parametrize("clients", [100, 1000])
def test_pareto_sizes(clients):
    sizes = workloads.pareto_sizes(clients)
    assert sizes.sum() == 60 * clients
    assert sizes.min() == 10
    assert sizes.max() == 600
    assert np.median(sizes) < 40  # most are small
