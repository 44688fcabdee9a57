"""Local computations: types and values, packed sequences, compiled functions.  Knows nothing of MPI."""

import sys

from fedmpi.local.decorators import numba_computation as numba_computation
from fedmpi.local.decorators import python_computation as python_computation

if "numba" in sys.modules:  # what it compiles from now on has numbers that no other process gives
    from fedmpi.local.jit import store as store
