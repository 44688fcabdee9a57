"""What all ranks do alike: one call begun together, one error raised on all, one end.

Here stand the header, the agreement, failures and the values that they travel as, and exits.
Not here: stages, arguments, clients' work.
"""
