"""Values of the language as compiled code sees them.

Here stand records, sequences and stored rows as types of Numba, coercion at the edges, what may be written in place.
Not here: whose bodies these are, and loops.
"""
