"""Tracing: Python functions run on values that stand for data, and the tree that comes of it.

Here stand these values, computations, how arguments are taken, and the context that runs a call.
Not here: typing rules, and anything that runs a program.
"""
