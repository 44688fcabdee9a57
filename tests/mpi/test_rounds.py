"""A round by itself: failures that are noted, agreed on and raised alike; turns; words."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.language.errors import ContextError
from fedmpi.runtime.collective import alike
from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import Round

pytestmark = pytest.mark.mpi


def fail(error):
    def action():
        raise error

    return action


def run(comm, *actions, early=None, given=()):
    """Go through one round: ``early`` before its header, the actions after it."""
    with Round(comm, "round") as step:
        if early is not None:
            step.attempt(early)
        step.check_in("a program", UNKNOWN, given)
        for action in actions:
            step.attempt(action)
        step.agree()


def test_nobody_fails(comm):
    before = comm.call
    with Round(comm, "quiet") as step:
        assert (step.number, comm.call) == (before + 1, before + 1)
        assert comm.doing.startswith("quiet at test_rounds.py:")
        step.check_in("a program", UNKNOWN)
        assert step.attempt(lambda: 7) == 7
        words = np.array([comm.rank, -comm.rank, 5], dtype=np.int64)
        assert step.agree(words).tolist() == [0, 1 - comm.size, 5]
    assert comm.doing == ""


def test_what_follows_a_failure_is_not_tried(comm):
    tried = []
    with pytest.raises(ZeroDivisionError, match="first"):
        run(comm, fail(ZeroDivisionError("first")), lambda: tried.append(1))
    assert (tried, comm.doing) == ([], "")


def test_rank_0_fails_before_the_header(comm):
    """Its failure travels in the header: what follows is not tried on any rank."""
    tried = []
    with pytest.raises(KeyError, match="early"):
        run(comm, lambda: tried.append(1), early=fail(KeyError("early")) if comm.is_server else None)
    assert tried == []


def test_one_rank_fails(comm):
    last = comm.size - 1
    with pytest.raises(OverflowError, match=f"on rank {last}"):
        run(comm, fail(OverflowError(f"on rank {last}")) if comm.rank == last else lambda: None)


def test_the_first_client_is_the_one_that_is_told(comm):
    """The lowest number is on the highest rank."""
    client = comm.size - comm.rank
    with pytest.raises(ValueError, match=r"^client 1(\n|$)"):
        run(comm, fail(ClientError(client, ValueError(f"client {client}"))))


def test_a_failure_without_a_client_comes_after_those_with_one(comm):
    of_client = comm.rank == comm.size - 1
    with pytest.raises(ValueError, match="a client's"):
        run(comm, fail(ClientError(10**6, ValueError("a client's")) if of_client else RuntimeError("a rank's")))


def test_ranks_that_are_given_different_things(comm):
    """The last differs; what has failed elsewhere since may come of that, and is not what is raised."""
    last = comm.size - 1
    value = alike.of_value(("x",), np.float32(comm.rank == last > 0), fm.to_type(np.float32))
    with pytest.raises((ValueError, ArithmeticError)) as caught:
        run(comm, fail(ArithmeticError("later")), given=[value])
    assert isinstance(caught.value, ValueError if last else ArithmeticError)
    if last:
        text = rf"round: the ranks differ in parameter x: np.float32\(0.0\) on rank 0, .*\(1.0\) on rank {last}\n"
        assert re.match(text, str(caught.value))


def test_a_call_within_a_call(comm):
    with Round(comm, "outer") as outer:
        outer.check_in("outer", UNKNOWN)
        with pytest.raises(ContextError, match="inner is collective and cannot be called inside"):
            Round(comm, "inner").begin()
        outer.agree()
    run(comm)  # the turn has not been lost


def test_a_class_that_other_ranks_do_not_have_and_its_attributes(comm):
    error = type("Local", (ValueError,), {})("mine")
    error.number = 3
    with pytest.raises(ValueError, match="mine") as caught:
        run(comm, fail(error) if comm.rank == comm.size - 1 else lambda: None)
    assert caught.value.number == 3
