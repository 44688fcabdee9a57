"""Warnings are seen: on stderr, unless the program gives the log another place or a higher level."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from fedmpi.runtime.mpi import launch, log
from fedmpi.runtime.mpi.log import logger
from tests.mpijob import run_command


def alone(monkeypatch):
    """Return what is written to stderr from now on, where nobody else listens to the log.

    No fixture: pytest listens, at the root and, where a test begins, to what does not reach the root.
    """
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    return sys.stderr


@pytest.fixture
def listener():
    handler = logging.Handler()
    handler.heard = []
    handler.emit = lambda record: handler.heard.append(record.getMessage())
    return handler


def test_a_warning_is_a_line_on_stderr(monkeypatch):
    stderr = alone(monkeypatch)
    logger.info("not this")
    logger.warning("client %d has %s", 1, "nan")
    logger.error("worse")
    assert stderr.getvalue() == "fedmpi: warning: client 1 has nan\nfedmpi: error: worse\n"


def test_other_ranks_say_which_they_are(monkeypatch):
    stderr = alone(monkeypatch)
    monkeypatch.setattr(launch, "detect", lambda: SimpleNamespace(rank=2, size=3))
    logger.warning("one\ntwo")
    assert stderr.getvalue() == "[rank 2] fedmpi: warning: one\n[rank 2] two\n"


@pytest.mark.parametrize("name", ["fedmpi", None])
def test_what_listens_to_the_log_hears_it_alone(monkeypatch, listener, name):
    stderr = alone(monkeypatch)
    monkeypatch.setattr(logger, "propagate", name is None)
    target = logging.getLogger(name)
    target.addHandler(listener)
    try:
        logger.warning("client 1")
    finally:
        target.removeHandler(listener)
    assert listener.heard == ["client 1"]
    assert stderr.getvalue() == ""


def test_a_null_handler_keeps_it_quiet(monkeypatch):
    stderr = alone(monkeypatch)
    quiet = logging.NullHandler()
    logger.addHandler(quiet)
    try:
        logger.warning("client 1")
    finally:
        logger.removeHandler(quiet)
    assert stderr.getvalue() == ""


def test_so_does_a_level_above_warnings(monkeypatch):
    stderr = alone(monkeypatch)
    logger.setLevel(logging.ERROR)
    try:
        logger.warning("client 1")
    finally:
        logger.setLevel(logging.NOTSET)
    assert stderr.getvalue() == ""


def test_no_stderr_is_no_error(monkeypatch):
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(sys, "stderr", None)
    logger.warning("client 1")


def test_a_log_that_was_asked_for_has_it_once(monkeypatch, tmp_path):
    stderr = alone(monkeypatch)
    path = tmp_path / "log"
    log.write_to(str(path), "--log")
    handler = log._handler
    try:
        logger.warning("client 1")
    finally:
        logger.removeHandler(handler)
        handler.close()
        logger.setLevel(logging.NOTSET)
        monkeypatch.setattr(log, "_handler", None)
    assert path.read_text().endswith(" WARNING client 1\n")
    assert stderr.getvalue() == ""


PROGRAM = """
import numpy as np, fedmpi as fm
T = fm.to_type({"w": (np.float32, [2]), "b": np.float32})
mean = fm.federated_computation(lambda x: fm.federated_mean(x), fm.type_at_clients(T))
values = [{"w": [1.0, 2.0], "b": 0.0}, {"w": [1.0, np.nan], "b": -np.inf}]
for context in (fm.MpiContext(), fm.MpiContext(reduction="fast", fuse=True), fm.ReferenceContext()):
    with context:
        mean(values)
try:
    with fm.MpiContext(nonfinite="raise"):
        mean(values)
except ValueError:
    print("refused")
"""


def test_a_clients_nan_is_one_line_of_a_call(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDMPI_LOG", raising=False)
    done = run_command([sys.executable, "-W", "error::UserWarning", "program.py"], timeout=200)
    assert done.returncode == 0, done
    calls = ["call 1 (lambda at program.py:8)", "call 2 (lambda at program.py:8)", "lambda at program.py:8"]
    found = "federated_mean at program.py:4: client 1 has nan in w (2 such terms in all)"
    assert done.stderr.splitlines() == [f"fedmpi: warning: {call}: {found}" for call in calls]
    assert done.stdout == "refused\n"
