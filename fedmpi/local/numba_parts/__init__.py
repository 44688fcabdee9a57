"""What is used of Numba that its documentation does not promise, each file with what it relies on.

Everything else gets those parts from here, so that a new Numba is looked through in one place:
``tests/local/test_numba_parts.py`` tries each name in ``RELIED_ON`` and says which is missing, and what for.
`numba`, `numba.types`, `numba.extending` and `numba.config` are public, and imported where they are used.
Not here: anything that knows of fedmpi; what is done with these parts stands in the room that it belongs to.
"""
