"""Random numbers as functions of a key: the cipher, elementary functions, distributions, and what users call.

Here everything is compiled once and called from Python and from bodies alike, so that both draw the same bits.
Not here: how bodies call it (`fedmpi.local.typed.random_overloads`).
"""
