"""Numba's errors in one readable paragraph."""

from __future__ import annotations

import re

_NOISE = re.compile(
    r"^(Failed in nopython mode pipeline.*|During: .*|This is not usually a problem.*|"
    r"Overload of function.*|- Of which \d+ did not match.*|Overload in function.*|With argument.*|Rejected as.*|"
    r"File \"<fedmpi.*|There are \d+ candidate.*|<source elided>|\^|\s*)$"
)


def readable(error: Exception) -> str | None:
    """Return why Numba refused a body, and where in the user's file; None if the error is none of Numba's."""
    from numba.core.errors import NumbaError

    if not isinstance(error, NumbaError):
        return None
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    marked = re.search(r"fedmpi: (.*)", text)
    lines = [line.strip() for line in text.splitlines()]
    reasons = [line for line in lines if not _NOISE.match(line) and not line.startswith(("File ", "def ", ">>>"))]
    reason = marked.group(1).strip() if marked else _reason(reasons)
    place = _place(lines)
    return f"{reason}{f' [{place}]' if place else ''}"


def _reason(lines: list[str]) -> str:
    for line in lines:
        if line.startswith(
            ("No implementation of function", "Unknown attribute", "Untyped global name", "Use of unsupported")
        ):
            return line.rstrip(":")
        if "readonly array" in line:
            return "arguments are read-only (they are shared between clients): copy the array before you write to it"
    return lines[0].rstrip(":") if lines else "no reason given"


def _place(lines: list[str]) -> str:
    """Return the last place that Numba names: file, line and the line's text."""
    places = [i for i, line in enumerate(lines) if re.match(r'File ".*", line \d+', line) and "<fedmpi" not in line]
    if not places:
        return ""
    start = places[-1]
    match = re.match(r'File "(.*)", line (\d+)', lines[start])
    assert match is not None
    arrow = next((i for i in range(start, len(lines)) if lines[i].startswith("^")), None)
    code = f": {lines[arrow - 1]}" if arrow is not None and arrow - 1 > start else ""
    return f"{match.group(1)}:{match.group(2)}{code}"
