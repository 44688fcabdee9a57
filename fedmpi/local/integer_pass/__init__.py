"""A pass of the compiler of bodies: integers are computed in NumPy's dtypes, or the body is refused.

Here stand what is known of each variable's integers, and the statements that are put in its place.
Not here: the operations themselves (`fedmpi.local.integers`).
"""
