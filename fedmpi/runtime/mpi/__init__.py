"""The process among other processes: MPI, its launchers, and what a rank says.

Here stand the one module that imports mpi4py, the communicator, start and fork, log and output.
Not here: calls, errors of programs, types.
"""
