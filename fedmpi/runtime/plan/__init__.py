"""Plans: what a computation does on the ranks, known before any call.

Here stand the stages, what is reduced and folded, and how a stage's clients are run.
Not here: data, Numba, MPI.
"""
