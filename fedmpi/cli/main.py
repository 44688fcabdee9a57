"""The command `fedmpi`: arguments, help and exit codes (0 done, 1 error, 2 usage, 130 interrupted).

Several ranks run it at once, so what concerns all of them alike (help, a wrong option, a missing library) is printed by
one of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import IO, Any, NoReturn

from fedmpi.cli import bench, info, run, tutorial, verify
from fedmpi.cli.errors import CommandError, UsageError
from fedmpi.cli.output import is_first
from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.stdout import fit_all
from fedmpi.version import __version__

DONE, ERROR, USAGE, INTERRUPTED = 0, 1, 2, 130
COMMANDS = (tutorial, run, verify, bench, info)
# Seconds for the rank that prints to do so before others leave: a launcher ends the job at the first exit code but 0.
FIRST_WORD = 1.0


class Parser(argparse.ArgumentParser):
    """A parser that speaks on one rank only and raises UsageError instead of leaving."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the command's name before the message."""
        raise UsageError(f"{self.prog}: {message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        if is_first():
            super()._print_message(message, file)


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(prog="fedmpi", description="Typed federated computations on MPI ranks.")
    top.add_argument("--version", action="version", version=f"fedmpi {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(action=module.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; `argv` is without the program's name (default: this process's)."""
    fit_all()
    try:
        top = parser()
        options = top.parse_args(argv)
        if options.command is None:
            top.print_help()
            return DONE
        code: int = options.action(options)
    except UsageError as error:
        return _refuse(str(error), USAGE)
    except CommandError as error:
        return _refuse(f"fedmpi {options.command}: {error}", ERROR)
    except launch.LaunchError as error:
        if isinstance(error, launch.MissingMPIError) and launch.detect() is not None:
            raise  # on one node only, perhaps: each rank speaks for itself, and others may wait for it
        return _refuse(f"fedmpi {options.command}: {error}", ERROR)
    except KeyboardInterrupt:
        if launch.detect() is not None:
            raise  # the hook ends the job
        return _refuse(f"fedmpi {options.command}: interrupted", INTERRUPTED)
    return code


def _refuse(text: str, code: int) -> int:
    if is_first():
        print(text, file=sys.stderr, flush=True)
    else:
        time.sleep(FIRST_WORD)
    return code


if __name__ == "__main__":
    sys.exit(main())
