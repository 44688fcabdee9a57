"""The algorithms of docs/algorithms.md: short, and the same bits on any ranks, compiled or not, as in the reference."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import fedmpi as fm
from tests import pages
from tests.mpijob import ROOT
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
PAGE = ROOT / "docs" / "algorithms.md"
NAMES = ["run_scaffold", "run_error_feedback", "run_private", "run_dropout"]
F32 = np.float32


@functools.cache
def page():
    """The names that the page's programs define."""
    names = {}
    for program in pages.programs(PAGE):
        pages.output_of(program, names)
    return names


def plain(result):
    """The result with the states of all clients as a list."""
    if isinstance(result, tuple) and isinstance(result[-1], fm.ClientData):
        return (*result[:-1], fm.gather(result[-1]))
    return result


def run(name, context, monkeypatch):
    names = page()
    with context:
        clients = [names["client"](number) for number in range(20)]
        monkeypatch.setitem(names, "data", fm.client_data(clients, names["DATA"]))
        return fm.replicate(plain(names[name](4)))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_everywhere(comm, name, monkeypatch):
    wanted = run(name, fm.ReferenceContext(), monkeypatch)
    for fuse in (True, False):
        assert_same(run(name, fm.MpiContext(fuse=fuse), monkeypatch), wanted)


def test_each_is_short_and_knows_no_leaf():
    _, *programs = [program.code for program in pages.programs(PAGE)]
    assert len(programs) == len(NAMES)
    for code in programs:
        assert len([line for line in code.splitlines() if line.strip()]) < 30
        assert not re.search(r"weights|bias", code)


def numpy_gradient(model, batch):
    scores = batch["x"].astype(np.float64) @ model["weights"] + model["bias"]
    by_score = np.exp(scores - scores.max(axis=1, keepdims=True))
    by_score /= by_score.sum(axis=1, keepdims=True)
    by_score[np.arange(len(scores)), batch["y"]] -= 1
    by_score /= len(scores)
    return {"weights": batch["x"].T.astype(np.float64) @ by_score, "bias": by_score.sum(axis=0)}


def numpy_scaffold(rounds, size, client, count, rate):
    """Algorithm 1 of the paper with option II, in float64, leaf by leaf."""
    zero = {"weights": np.zeros((8, 3)), "bias": np.zeros(3)}
    x, c, states = dict(zero), dict(zero), [dict(zero) for _ in range(count)]
    for number in range(rounds):
        moves, changes = [], []
        for i in fm.random.choice(fm.random.fold_in(fm.random.key(2), number), count, size):
            y, batches = dict(x), client(int(i))
            for batch in batches:
                by = numpy_gradient(y, batch)
                y = {k: y[k] - rate * (by[k] - states[i][k] + c[k]) for k in y}
            new = {k: states[i][k] - c[k] + (x[k] - y[k]) / (len(batches) * rate) for k in y}
            moves.append({k: y[k] - x[k] for k in y})
            changes.append({k: new[k] - states[i][k] for k in y})
            states[i] = new
        x = {k: x[k] + sum(move[k] for move in moves) / size for k in x}
        c = {k: c[k] + size / count * sum(change[k] for change in changes) / size for k in c}
    return x, c, states


def test_scaffold_is_that_of_the_paper(comm, monkeypatch):
    found = run("run_scaffold", fm.MpiContext(), monkeypatch)
    wanted = numpy_scaffold(4, 5, page()["client"], 20, 0.1)
    for ours, theirs in [(found[0], wanted[0]), (found[1], wanted[1]), *zip(found[2], wanted[2], strict=True)]:
        for leaf in theirs:
            np.testing.assert_allclose(ours[leaf], theirs[leaf], rtol=1e-4, atol=1e-6)
    assert any(np.any(state["bias"]) for state in wanted[2])


def test_error_feedback_loses_nothing(comm, monkeypatch):
    """What clients have sent and what they remember is together what they have computed: four numbers are sent."""
    names = page()
    data = names["client"](3)
    error = {"weights": np.full((8, 3), 0.25, F32), "bias": np.zeros(3, F32)}
    sent, rest = names["compressed"](names["zero"], error, data)
    whole = fm.model.flatten(names["trained"](names["zero"], data)) + fm.model.flatten(error)
    assert np.count_nonzero(fm.model.flatten(sent)) == 4
    np.testing.assert_array_equal(fm.model.flatten(sent) + fm.model.flatten(rest), whole)


def test_private_updates_are_clipped(comm):
    names = page()
    update = {"weights": np.full((8, 3), 3, F32), "bias": np.zeros(3, F32)}
    assert fm.model.norm(names["clipped"](update)) == pytest.approx(0.2, rel=1e-6)
    small = {"weights": np.full((8, 3), 0.01, F32), "bias": np.zeros(3, F32)}
    for leaf, value in names["clipped"](small).items():
        np.testing.assert_array_equal(value, small[leaf])


def test_a_client_that_diverges_drops_out(comm):
    names = page()
    far = [{**batch, "x": batch["x"] * F32(1e38)} for batch in names["client"](1)]
    clients = [names["client"](0), far, names["client"](2)]
    key = fm.random.key(9)
    with fm.on_client_error("drop", minimum_reports=2):
        fm.replicate(names["dropout"](names["zero"], key, clients))
        assert [each.client for each in fm.last_report().dropped] == [1]
        with pytest.raises(RuntimeError, match="minimum_reports"):
            names["dropout"](names["zero"], key, [far, far, names["client"](2)])
