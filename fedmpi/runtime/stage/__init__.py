"""What a stage works with on one rank: the state of the call, what the calls of a program share, compiled loops, sums.

Here stand the accumulator, limits, secure sums, debug mode's checks.
Not here: who runs the clients (`runtime.runners`), the order of stages and what goes down (`fedmpi.runtime.executor`),
and how it comes up (`runtime.upward`).
"""
