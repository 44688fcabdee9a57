"""One stage at work on one rank: the state of the call, runners of clients, their sums.

Here stand compiled loops, client by client, the accumulator, limits, secure sums, debug mode's checks.
Not here: the order of stages and what goes down (`fedmpi.runtime.executor`), and how it comes up (`runtime.upward`).
"""
