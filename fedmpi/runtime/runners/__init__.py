"""Who runs a stage's clients on a rank, and how: `clients` chooses among the runners, each of which is a file.

What is asked of them, and what they are given, is in `work`; what those in Python share, in `one_by_one`.
Not here: what goes up afterwards (`upward`), the state of a call, sums and compiled loops (`stage`).
"""
