"""Sums over clients that no order can change, and what else is taken of all clients at once.

Here stand exact sums, ordered keys for least and greatest values, and the masks of secure sums.
Not here: which terms there are, and how they travel.
"""
