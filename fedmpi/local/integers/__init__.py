"""Integers as NumPy has them: which dtype an operation has, and operations that end as NumPy's and Python's do.

Here stand rules and functions, used by compiled code and by the interpreter.
Not here: the compiler's pass that puts them into a body (`fedmpi.local.integer_pass`).
"""
