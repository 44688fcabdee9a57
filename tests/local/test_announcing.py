"""A long compile is told, a short one is not; what is told says whether this process compiles or waits."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from numba.core.event import trigger_event

from fedmpi.local.jit import announcing
from fedmpi.local.jit.announcing import announced, waiting
from fedmpi.runtime.mpi import launch, log

SHORT, LONG = 0.05, 0.3


@pytest.fixture
def said(monkeypatch):
    """What is announced, where a twentieth of a second is long."""
    texts: list[str] = []
    monkeypatch.setattr(announcing, "AFTER", SHORT)
    monkeypatch.setattr(announcing, "_speak", texts.append)
    return texts


def compile_for(seconds):
    with trigger_event("numba:compile", {}):
        time.sleep(seconds)


def test_a_short_one_is_silent(said):
    with announced("f"):
        compile_for(0)
    assert said == []


def test_a_long_one_is_told_and_leaves_no_thread_behind(said):
    threads = threading.active_count()
    with announced("f"):
        compile_for(LONG)
        assert said == ["compiling f …"]
    assert said[1].startswith("compiled f in 0.")
    time.sleep(2 * SHORT)
    assert len(said) == 2
    assert threading.active_count() <= threads


def test_what_is_compiled_for_it_is_a_part_of_it(said):
    with announced("f"), announced("g"):
        compile_for(LONG)
    assert [text.split(" in ")[0] for text in said] == ["compiling f …", "compiled f"]


def test_loading_is_not_compiling(said):
    with announced("f"):
        time.sleep(LONG)
    assert said == []


def test_waiting_is_told_as_that(said):
    with announced("f"):
        with waiting():
            time.sleep(LONG)
        assert said == ["waiting for another process that compiles f …"]
        compile_for(LONG)
    assert said[1] == "compiling f …"


def test_one_that_fails(said):
    def fail():
        with announced("f"):
            compile_for(LONG)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert said == ["compiling f …", "f is not compiled"]


@pytest.fixture
def alone(monkeypatch):
    """The log without a place."""
    logger = logging.getLogger("fedmpi")
    monkeypatch.setattr(log, "_handlers", lambda source: [log._last_resort])  # not pytest's
    return logger


def test_on_stderr_while_the_log_has_no_place(alone, capsys, monkeypatch):
    log._announce("compiling f …")
    assert capsys.readouterr().err == "fedmpi: compiling f …\n"
    monkeypatch.setattr(alone, "level", logging.ERROR)
    alone.manager._clear_cache()
    log._announce("compiling f …")
    assert capsys.readouterr().err == ""
    alone.manager._clear_cache()


def test_in_the_log_if_it_has_one(caplog, capsys):
    log._announce("compiling f …")
    assert [record.getMessage() for record in caplog.records] == ["compiling f …"]
    assert capsys.readouterr().err == ""


def test_one_rank_speaks(alone, capsys, monkeypatch):
    monkeypatch.setattr(launch, "detect", lambda: launch.Launch("test", 2, 4))
    log._announce("compiling f …")
    with log.aloud(False):
        log._announce("compiling f …")
    assert capsys.readouterr().err == ""
    with log.aloud(True):
        log._announce("compiling f …")
    assert capsys.readouterr().err == "[rank 2] fedmpi: compiling f …\n"
