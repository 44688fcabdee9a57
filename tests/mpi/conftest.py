"""Tests on the communicator at hand: every rank runs every test, and no failure leaves a rank behind."""

from __future__ import annotations

import sys

import pytest

import fedmpi as fm
from fedmpi.runtime.mpi.comm import Communicator


@pytest.fixture(scope="session")
def comm():
    return Communicator.open()


@pytest.fixture(autouse=True)
def _default_context(comm):
    fm.set_default_context(fm.MpiContext())
    yield
    fm.set_default_context(None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails on one rank would leave the others in a collective: report it and end the job."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and Communicator.open().size > 1:
        sys.stderr.write(f"[rank {Communicator.open().rank}] {item.nodeid}\n{report.longreprtext}\n")
        sys.stderr.flush()
        Communicator.open().abort(1, f"{item.nodeid} failed")
