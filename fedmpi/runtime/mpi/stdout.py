"""What stdout can show: characters that its encoding does not have are written by others that look like them.

Under ``LANG=C`` and on some clusters stdout takes ASCII only, and ``print`` of a box would raise `UnicodeEncodeError`.
Files are written in UTF-8 and stay as they are.
"""

from __future__ import annotations

import codecs
import sys

_LIKE = {
    **dict.fromkeys("┌┐└┘├┤┬┴┼", "+"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("─━–—", "-"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’", "'"),
    "▶": ">", "◀": "<", "→": "->", "←": "<-", "…": "...", "×": "x", "·": "*", "µ": "u", "≤": "<=", "≥": ">=", "±": "+-",
}  # fmt: skip
ERRORS = "fedmpi_look_alike"  # the name of the way to handle errors of encoding, as "replace" is one


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that cannot be encoded: those that look like them, or their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_LIKE.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found), error.end


codecs.register_error(ERRORS, _look_alike)


def fitting(text: str) -> str:
    """Return a text in characters that stdout has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, ERRORS).decode(encoding)


def fit_all() -> None:
    """Write whatever a command prints in characters that stdout has."""
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=ERRORS)
