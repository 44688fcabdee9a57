"""What ranks say on stderr: in one piece, with "[rank r]" before each line, also where their output is silenced."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

_kept_stderr: TextIO | None = None
_more = ""  # what stands behind the rank's number


def keep_stderr(stream: TextIO) -> None:
    """Let `say` write to `stream` from now on: the launcher `fedmpi run` silences the stderr of ranks other than 0."""
    global _kept_stderr
    _kept_stderr = stream


def add_to_rank(text: str) -> None:
    """Let `say` write ``text`` behind the rank's number from now on."""
    global _more
    _more = text


def stream() -> TextIO:
    """Return where `say` writes to."""
    return _kept_stderr or sys.stderr


def is_silenced() -> bool:
    """Tell whether this rank's stderr has been silenced, so that only `say` is heard."""
    return _kept_stderr is not None


def say(rank: int | str | None, text: str) -> None:
    """Write `text` to stderr in one piece, each line after "[rank r]" (r may say more), of rank None as it is."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed or missing stderr
        head = "" if rank is None else f"[rank {rank}{_more}] "
        stream().write("".join(f"{head}{line}\n" for line in text.rstrip("\n").split("\n")))
        stream().flush()
