"""A program: what the calls of one plan share, and what they find out."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.computations.bodies import NotCompilable
from fedmpi.runtime.plan.decision import No
from fedmpi.runtime.plan.plan import build
from fedmpi.runtime.plan.stage import Options
from fedmpi.runtime.stage import loop
from fedmpi.runtime.stage.program import FOLDS, KEPT_NUMBERS, WHOLE, Program

F32 = np.float32
fc, clients, server = fm.federated_computation, fm.type_at_clients, fm.type_at_server
plus = fc(lambda a, b: a + b, F32, F32)
total = fc(fm.federated_sum, clients(F32))


def program(computation, **options):
    return Program(build(computation, (), Options(**options)))


class Loops:
    """In the stead of `ClientLoop`: counts what is compiled, and may refuse it."""

    def __init__(self, error=None):
        self.error, self.made = error, []

    def __call__(self, *arguments, **options):
        self.made.append((arguments[2], options))
        if self.error is not None:
            raise self.error
        return f"loop {len(self.made)}"


@pytest.fixture
def loops(monkeypatch):
    found = Loops()
    monkeypatch.setattr(loop, "ClientLoop", found)
    return found


def test_a_loop_is_made_once_for_each_way_in_which_data_is_stored(loops):
    made = program(total)
    first, second = (("dense",),), (("bytes",),)
    assert [made.loop(0, forms) for forms in (first, second, first)] == ["loop 1", "loop 2", "loop 1"]
    assert [forms for forms, _ in loops.made] == [first, second]


def test_what_cannot_be_compiled_is_known_from_then_on(loops):
    loops.error = NotCompilable("no form")
    made = program(total)
    assert made.loop(0, ()) is made.loop(0, ()) is None
    assert len(loops.made) == 1
    assert made.refusals == {0: "no form"}
    made.refuse(0, "no form")
    assert (made.refusals, made.stages[0].compiled) == ({}, No("no form"))
    assert made.plan.stages[0].compiled != made.stages[0].compiled  # the plan is what it was


def test_an_error_of_numbas_does_not_end_a_run_that_goes_on_without(loops):
    loops.error = AssertionError("one line\nand more")
    made = program(total)
    assert made.loop(0, ()) is None
    assert made.refusals == {0: "Numba refuses the loop (AssertionError: one line)"}
    made = program(total)
    assert made.loop(0, (), FOLDS) is None
    assert made.refusals == {}  # what tells of it is over
    with pytest.raises(AssertionError, match="one line"):
        program(total, fuse=True).loop(0, ())


def test_only_what_is_compiled(loops):
    loops.error = NotCompilable("no form")
    with pytest.raises(RuntimeError, match=r"fm\.compiled_only: federated_sum at .* client by client, for no form"):
        program(total, only=True).loop(0, (), WHOLE)


def test_small_sums_are_used_again_and_large_ones_given_back():
    small = program(total)
    first = small.sums(0)
    first.add([(F32(1), None)], 0)
    assert small.planes_in_use(0) > 0
    assert small.sums(0) is first
    assert small.planes_in_use(0) == 0
    assert first.result(0, 1) == 0
    large = program(fc(fm.federated_sum, clients((F32, [KEPT_NUMBERS + 1]))))
    assert large.sums(0) is not large.sums(0)
    assert large.planes_in_use(0) == 0
    assert program(fc(fm.federated_max, clients((F32, [None])))).sums(0) is None  # the sizes are open


@pytest.mark.parametrize(
    ("body", "types", "argument", "values"),
    [
        (lambda s, c: (s, c), (server(F32), clients(F32)), (1.0, [2.0]), [1.0, [2.0]]),
        (lambda s, c: (s, c), (server(F32), clients({"a": F32})), (1.0, [{"a": 2.0}]), [1.0, [{"a": 2.0}]]),
        (lambda c: c, (clients(F32),), [1.0, 2.0], [[1.0, 2.0]]),
        (
            lambda both, c: (both, c),
            ([("s", server(F32)), ("c", clients(F32))], clients(F32)),
            ((1.0, [2.0]), [3.0]),
            [1.0, [2.0], [3.0]],
        ),
    ],
)
def test_arguments_are_split_as_the_plan_has_them(body, types, argument, values):
    """Several arguments need no taking apart; a struct with placements inside does."""
    made = program(fc(body, *types))
    paths, parts, found = zip(*made.split(argument, server=True), strict=True)
    assert list(paths) == [node.detail for node in made.plan.inputs]
    assert list(parts) == [node.type for node in made.plan.inputs]
    assert list(found) == values


def test_ranks_that_take_sums_in_different_ways_must_not_meet():
    ways = [{"mode": mode, "raises_nonfinite": r} for mode in ("exact", "float64", "fast") for r in (False, True)]
    prints = {program(total, **way).fingerprint for way in ways}
    prints |= {program(total, debug=True).fingerprint, program(total, only=True).fingerprint}
    assert len(prints) == len(ways) + 2
    assert program(total).fingerprint == program(total).fingerprint


def test_what_needs_clients():
    assert (program(total).counts, program(total).wants) == (True, "")
    mean = program(fc(lambda v: fm.federated_mean(v), clients(F32)))
    assert (mean.counts, mean.wants) == (True, "federated_mean: there are no clients to take the mean over")
    down = program(fc(fm.federated_broadcast, server(F32)))
    assert (down.counts, down.wants) == (False, "")
