"""What a call reports, on each rank and together, and what a process says that it is doing."""

from __future__ import annotations

import dataclasses
import pickle
import threading
import time

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.runtime.reports import Clock

pytestmark = pytest.mark.mpi
F32 = np.float32


@fm.numba_computation(F32)
def positive(x):
    if x < 0:
        raise ValueError("a negative number")
    return x


@fm.python_computation(F32, result=F32)
def slow(x):
    time.sleep(0.02)
    return x


@fm.federated_computation(fm.type_at_clients(F32), fm.type_at_server(F32))
def program(x, y):
    """Broadcasts four bytes and brings up a mean."""
    return fm.federated_mean(fm.federated_map(positive, x)), fm.federated_broadcast(y)


@fm.federated_computation(fm.type_at_clients(F32))
def slowly(x):
    return fm.federated_sum(fm.federated_map(slow, x))


def given(values):
    return [F32(value) for value in values]


def test_a_report_says_what_a_call_did(comm):
    context = fm.MpiContext()
    with context:
        program(given(range(200)), 1.0)
        report = fm.last_report()
        every = fm.last_reports()
    assert (report.name, report.where.split(":")[0], report.error) == ("program", "test_reports.py", "")
    assert (report.clients, report.dropped, report.uncompiled) == (200, (), ())
    assert report.nonfinite == (0 if comm.rank == 0 else None)
    several = comm.size > 1
    assert report.bytes_broadcast >= 4 * several
    assert (report.bytes_sent > 0) == (comm.rank > 0)
    assert len(every) == comm.size
    assert every[comm.rank] == report
    assert {each.number for each in every} == {report.number}
    assert report == pickle.loads(pickle.dumps(report))


def test_each_moment_counts_once(comm):
    context = fm.MpiContext()
    began = time.perf_counter()
    with context:
        slowly(given(range(4)))
    whole = time.perf_counter() - began
    report = fm.last_report()
    seconds = dataclasses.asdict(report.seconds)
    assert all(value >= 0 for value in seconds.values())
    assert report.seconds.total == pytest.approx(sum(seconds.values()))
    assert report.seconds.total <= whole
    if comm.size == 1:
        assert report.seconds.local >= 0.08
    elif comm.rank == 0:  # it has no clients, and waits for the others
        assert report.seconds.waiting > report.seconds.local
        assert report.idle > 0.5
    ((stage, why),) = report.uncompiled
    assert stage == 0
    assert "python_computation" in why


def test_who_was_left_out_is_known_to_all(comm):
    values = given([1, -1, 2, -2, 3])
    with fm.MpiContext(on_client_error="drop"):
        program(values, 1.0)
        report = fm.last_report()
    assert [(each.client, each.stage) for each in report.dropped] == [(1, 0), (3, 0)]
    assert report.clients == 5
    with fm.ReferenceContext(on_client_error="drop"):
        program(values, 1.0)
        reference = fm.last_report()
    assert reference.dropped == report.dropped
    assert (reference.clients, reference.number, reference.nonfinite) == (5, 0, 0)


def test_a_call_that_fails_has_a_report_too(comm):
    seen = []
    with fm.MpiContext(on_report=seen.append):
        with pytest.raises(ValueError, match="a negative number"):
            program(given([1, -1, 2]), 1.0)
        program(given([1, 2]), 1.0)
    assert [bool(each.error) for each in seen] == [True, False]
    assert seen[0].error.startswith("ValueError: ")
    assert seen[1] == fm.last_report()
    assert "ended by ValueError" in str(seen[0])


def test_terms_that_are_not_finite_are_counted_on_rank_0(comm):
    with fm.MpiContext():
        program(given([1, np.inf, np.nan]), 1.0)
    assert fm.last_report().nonfinite == (2 if comm.rank == 0 else None)


def test_what_on_report_raises_comes_out_of_the_call(comm):
    def refuse(report):
        raise KeyError(report.name)

    with (
        fm.MpiContext(on_report=refuse),
        pytest.raises(KeyError, match="program"),
    ):
        program(given([1, 2]), 1.0)
    with fm.MpiContext():  # and the ranks are together
        program(given([1, 2]), 1.0)


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_on_report_must_be_a_function(context):
    with pytest.raises(TypeError, match=r"Context: on_report must be a function of a fm.CallReport or None, found 3"):
        context(on_report=3)


def test_the_status_is_what_goes_on(comm):
    """Another thread sees stage and client of a call that runs from Python and of one in a compiled loop."""
    seen, done = [], threading.Event()

    def look():
        while not done.wait(0.002):
            seen.append(fm.status())

    thread = threading.Thread(target=look)
    with fm.MpiContext(fuse=False, server_trains=True):
        thread.start()
        slowly(given(range(12)))
        done.set()
        thread.join()
    during = [each for each in seen if each.client is not None]
    assert [each.client for each in during] == sorted(each.client for each in during)
    assert {(each.stage, each.stages) for each in during} == {(0, 2)}
    assert all(each.doing.startswith("slowly at test_reports.py:") for each in during)
    mine = -(-12 // comm.size)
    assert {each.clients for each in during} == {mine}
    assert len({each.client for each in during}) > mine // 2
    assert f"of {mine} here" in str(during[0])
    after = fm.status()
    assert (after.doing, after.stage, after.client, after.compiling, after.waiting_for) == ("", None, None, "", "")
    assert str(after) == f"after call {after.call}"


@fm.numba_computation(np.int64)
def spin(rounds):
    state = np.uint64(1)
    for _ in range(rounds):
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        state ^= state >> np.uint64(29)
    return np.int64(state & np.uint64(7))


def test_a_compiled_loop_says_which_client_it_is_at(comm):
    @fm.federated_computation(fm.type_at_clients(np.int64))
    def spinning(x):
        return fm.federated_sum(fm.federated_map(spin, x))

    with fm.MpiContext(server_trains=True):
        spinning([0] * 120)  # compiles it
        seen, done = set(), threading.Event()

        def look():
            while not done.wait(0.001):
                seen.add(fm.status().client)

        thread = threading.Thread(target=look)
        thread.start()
        spinning([400_000] * 120)
        done.set()
        thread.join()
    assert len(seen - {None}) > 2


def test_who_waits_says_for_whom(comm):
    if comm.size == 1:  # it waits for nobody
        return
    seen, done = [], threading.Event()

    def look():
        while not done.wait(0.005):
            seen.append(fm.status())

    thread = threading.Thread(target=look)
    with fm.MpiContext(fuse=False):
        thread.start()
        slowly(given(range(4 * comm.size)))
        done.set()
        thread.join()
    if comm.rank == 0:
        waits = [each for each in seen if each.waiting_for == "the other ranks"]
        assert max(each.waiting_seconds for each in waits) > 0.02


def test_a_clock_keeps_compiling_apart(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    from fedmpi.local.status import NOW

    clock = Clock()
    clock.to("local")
    monkeypatch.setattr(NOW, "compiled", NOW.compiled + 3.0)
    assert clock.to("reduce") == "local"
    clock.to("")
    seconds = clock.seconds()
    assert (seconds.arguments, seconds.compiling, seconds.local, seconds.reduce) == (1.0, 3.0, 1.0, 1.0)
    assert seconds.total == 6.0
