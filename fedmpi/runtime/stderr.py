"""What ranks say on stderr: in one piece, with "[rank r]" before each line, also where their output is silenced."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

_kept_stderr: TextIO | None = None


def keep_stderr(stream: TextIO) -> None:
    """Let `say` write to `stream` from now on: the launcher `fedmpi run` silences the stderr of ranks other than 0."""
    global _kept_stderr
    _kept_stderr = stream


def is_silenced() -> bool:
    """Tell whether this rank's stderr has been silenced, so that only `say` is heard."""
    return _kept_stderr is not None


def say(rank: int, text: str) -> None:
    """Write `text` to stderr in one piece, each line after "[rank r]"."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed or missing stderr
        stream = _kept_stderr or sys.stderr
        stream.write("".join(f"[rank {rank}] {line}\n" for line in text.rstrip("\n").split("\n")))
        stream.flush()


def announce(rank: int, text: str) -> None:
    """Say what is no error: without a rank if it is rank 0."""
    if rank != 0:
        say(rank, f"fedmpi: {text}")
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed or missing stderr
        print(f"fedmpi: {text}", file=_kept_stderr or sys.stderr, flush=True)
