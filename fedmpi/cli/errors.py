"""The two ways in which a command refuses; `main` prints them, once for all ranks, without a traceback."""


class CommandError(Exception):
    """Something that the command needs is missing or damaged, or a result is wrong: exit code 1.

    Raised on every rank alike.
    """


class UsageError(Exception):
    """The command line is wrong: exit code 2."""
