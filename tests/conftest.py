"""Settings of all tests: a compile cache of their own, floating-point errors raise, which of them run where."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

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


MPI = Path(__file__).resolve().parent / "mpi"
LONGEST = ["test_mpi_suite.py", "test_softmax_forms.py", "test_cache.py", "test_verify.py", "test_bench.py"]
on_ranks = pytest.StashKey[bool]()  # whether this is a job that runs the tests in tests/mpi
named = pytest.StashKey[list[Path]]()  # what the command line names of them


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Find out which tests this process is for; give each rank its own folder for temporary files.

    Ranks that tidy up one folder disturb each other.
    """
    started = launch.detect()
    several = started is not None and started.size > 1
    config.stash[on_ranks] = config.option.with_mpi or several
    config.stash[named] = [path for path in paths_of(config) if path.is_relative_to(MPI)]
    if config.stash[on_ranks] and config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="fedmpi-tests-")
        atexit.register(shutil.rmtree, config.option.basetemp, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    """Begin with the files that take longest, so that of two processes none is left alone with them at the end."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.name, len(LONGEST)))
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # else pytest-xdist begins with the files that have most tests


def paths_of(config):
    """Yield the files and folders that pytest was told to run: named ones, or the folder in which it was started."""
    for argument in config.args:
        yield (config.invocation_params.dir / argument.partition("::")[0]).resolve()


def pytest_sessionstart(session):
    """Of a job's ranks only rank 0 reports: the same lines from every rank help nobody.  None skips tests of MPI."""
    config, started = session.config, launch.detect()
    if config.stash[on_ranks] or config.stash[named]:
        config.option.with_mpi = True  # else pytest-mpi skips what is marked; set now, it does not tell about MPI
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if config.stash[on_ranks] and started is not None and started.rank and reporter is not None:
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115  # unregistering it would break pytest-mpi


def pytest_ignore_collect(collection_path, config):
    """Run tests/mpi, and nothing else of tests, where this is one of an MPI job's ranks, or with ``--with-mpi``.

    In a process of its own run what the command line names of tests/mpi, on this one rank; `test_mpi_suite.py` starts
    the jobs that run all of it.
    """
    inside = collection_path.is_relative_to(MPI)
    if config.stash[on_ranks]:
        tests = collection_path.is_relative_to(MPI.parent)
        return True if tests and not inside and not collection_path.is_dir() else None
    ways = [(path, collection_path) for path in config.stash[named]]
    return True if inside and not any(a.is_relative_to(b) or b.is_relative_to(a) for a, b in ways) else None


@pytest.fixture(autouse=True)
def _floating_point_errors_raise():
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        yield


@pytest.fixture(autouse=True)
def _no_announcements(monkeypatch):
    """What is compiled here and for how long depends on the machine and on what ran before."""
    monkeypatch.setattr("fedmpi.local.jit.announcing._speak", lambda text: None)
