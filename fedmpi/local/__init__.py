"""Local computations: types and values, packed sequences, compiled functions.  Knows nothing of MPI."""

from fedmpi.local.decorators import numba_computation as numba_computation
from fedmpi.local.decorators import python_computation as python_computation
