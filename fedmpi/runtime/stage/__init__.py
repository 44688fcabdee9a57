"""One stage at work on one rank: its clients, their sums and folds.

Here stand compiled loops and their text, client by client, the accumulator, limits, secure sums, debug mode's checks.
Not here: the order of stages, and what goes down (`fedmpi.runtime.executor`).
"""
