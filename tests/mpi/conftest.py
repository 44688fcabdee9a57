"""Tests on the communicator at hand: every rank runs every test, and all come to one verdict on it."""

from __future__ import annotations

import pytest

import fedmpi as fm
from fedmpi.runtime.mpi.comm import Communicator
from tests import verdicts


def pytest_configure(config):
    verdicts.watch(config)


@pytest.fixture(scope="session")
def comm():
    return Communicator.open()


@pytest.fixture(autouse=True)
def _default_context(comm):
    fm.set_default_context(fm.MpiContext())
    yield
    fm.set_default_context(None)


def pytest_itemcollected(item):
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid}: a name with an address in it differs from rank to rank; give it ids")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    """A test that has failed on one rank has failed on all; the other tests go on."""
    report = yield
    verdicts.agree(report)
    return report


_exit_code = pytest.StashKey[int]()


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[_exit_code] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    verdicts.leave(config.stash.get(_exit_code, 1))
