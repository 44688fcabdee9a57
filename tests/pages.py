"""Run the Python blocks of a page of the documentation and compare what they print with what the page shows.

    mpiexec -n 3 python -m tests.pages docs/types.md …

What a block prints stands in comments behind its ``print(…)``, or in the block of text below it; so does what it
raises, as "TypeError: …".  All blocks of a page are one program, each a file called train.py.  With ``--write``, in one
process, the page is made to show what they print now, and what it takes from the code: read what has changed.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import reference

# Their programs need another package, or are those of notebooks, which other tests run.
ELSEWHERE = {"interop.md", "part1.md", "part2.md"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A block of Python, and the block of text below it if nothing stands between them.
PROGRAM = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
SHOWN = re.compile(r"^( *print\(.*\)  # )(.*)$", re.MULTILINE)
FILE = "train.py"


@dataclass(frozen=True)
class Program:
    """A block of a page: where its code and what it shows stand in the page's text."""

    code: str
    shown: str
    where: str
    match: re.Match[str]

    def showing(self, output: str) -> str:
        """Return the block with another output."""
        whole = self.match.group()
        if self.match["text"] is not None:
            return whole.removesuffix(f"{self.match['text']}```\n") + f"{output}```\n"
        lines = iter(output.splitlines())
        return SHOWN.sub(lambda line: line[1] + next(lines), whole)


def programs(page: Path) -> Iterator[Program]:
    """Yield the Python blocks of a page with what they show."""
    text = page.read_text()
    for match in PROGRAM.finditer(text):
        code, below = match["code"], match["text"]
        shown = "".join(f"{line[1]}\n" for line in SHOWN.findall(code)) if below is None else below
        yield Program(code, shown, f"{page.name}, line {text.count(chr(10), 0, match.start()) + 1}", match)


def output_of(program: Program, names: dict[str, Any]) -> str:
    """Run a block with the names that those before it have defined; return what it prints, and raises."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        path.write_text(program.code)
        with contextlib.redirect_stdout(output):
            try:
                exec(compile(program.code, str(path), "exec"), names)
            except Exception as error:
                print(f"{type(error).__name__}: {error}")
    return output.getvalue()


def on_rank_0(output: str) -> str:
    """Return what a page shows of an output: it was made in one process, where rank 0 hosts all clients."""
    return re.sub(r"\(rank \d+\)", "(rank 0)", output)


def check(page: Path) -> int:
    """Run a page and return the number of its programs; raises AssertionError where rank 0 sees something else."""
    import fedmpi as fm

    names: dict[str, Any] = {"__name__": "__main__"}
    found = list(programs(page))
    for program in found:
        output = on_rank_0(output_of(program, names))
        if fm.is_server() and output != program.shown:
            raise AssertionError(
                f"{program.where}\n{program.code}--- it prints\n{output}--- the page shows\n{program.shown}"
            )
    return len(found)


def write(page: Path) -> None:
    """Let a page show what its programs print now."""
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = [(program, output_of(program, names)) for program in programs(page)]
    text = page.read_text()
    for program, output in reversed(outputs):
        text = text[: program.match.start()] + program.showing(output) + text[program.match.end() :]
    page.write_text(text)


def refer(page: Path) -> None:
    """Let a page show what it takes from the code and from notebooks (see `tests.reference`)."""
    page.write_text(reference.expanded(page))
    for path, picture in reference.pictures().items():
        path.write_bytes(picture)


def main() -> None:
    """Check the pages that the command line names, or write their outputs."""
    writes = "--write" in sys.argv
    for name in (name for name in sys.argv[1:] if not name.startswith("--")):
        if writes:
            refer(Path(name))
            if Path(name).name not in ELSEWHERE:
                write(Path(name))
        else:
            print(f"{name}: {check(Path(name))}", flush=True)


if __name__ == "__main__":
    main()
