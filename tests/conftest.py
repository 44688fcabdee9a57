"""Settings of all tests: a compile cache of their own, floating-point errors raise, what runs under ``--with-mpi``."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

import numpy as np
import pytest

from fedmpi.runtime.mpi import launch

# Before fedmpi is imported: neither the user's cache nor an older test run may decide what is compiled here.
if "FEDMPI_CACHE_DIR" not in os.environ:
    os.environ["FEDMPI_CACHE_DIR"] = tempfile.mkdtemp(prefix="fedmpi-tests-")
    atexit.register(shutil.rmtree, os.environ["FEDMPI_CACHE_DIR"], ignore_errors=True)


# A shell that starts the tests in the background has their jobs ignore Ctrl-C, which some of them are sent.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Under mpiexec each rank has its own folder for temporary files: ranks that tidy up one disturb each other."""
    if config.getoption("--with-mpi") and config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="fedmpi-tests-")
        atexit.register(shutil.rmtree, config.option.basetemp, ignore_errors=True)


def pytest_sessionstart(session):
    """Under mpiexec only rank 0 reports: the same lines from every rank help nobody."""
    config, started = session.config, launch.detect()
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if config.getoption("--with-mpi") and started is not None and started.rank and reporter is not None:
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115  # unregistering it would break pytest-mpi


def pytest_ignore_collect(collection_path, config):
    """Under ``--with-mpi`` run the tests in tests/mpi and nothing else; otherwise `test_mpi_suite.py` starts those."""
    folder = os.path.join(os.path.dirname(__file__), "mpi")
    inside = os.path.commonpath([folder, str(collection_path)]) == folder
    if config.getoption("--with-mpi"):
        return None if inside or collection_path.is_dir() else True
    return True if inside else None


@pytest.fixture(autouse=True)
def _floating_point_errors_raise():
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(autouse=True)
def _no_announcements(monkeypatch):
    """What is compiled here and for how long depends on the machine and on what ran before."""
    monkeypatch.setattr("fedmpi.local.jit.announcing._speak", lambda text: None)
