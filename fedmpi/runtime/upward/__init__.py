"""Upward: how what a stage's clients give comes to rank 0, once all ranks know that no client failed.

Here stands a file for each way: numbers by one Reduce, states of folds, values as they are.
Not here: what clients do (`fedmpi.runtime.stage`), and what a plan says of it.
"""
