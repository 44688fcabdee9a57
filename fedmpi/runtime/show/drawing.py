"""`draw`: the communication plan as a picture, server and clients as lanes."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from fedmpi.language.tracing.computation import Computation
from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.stdout import fitting
from fedmpi.runtime.show.plan_text import Lane, Step, planned, steps

SUFFIXES = (".svg", ".txt", ".dot")
# Characters of a line in a lane, in the space between the lanes, and in a box of the picture.
LANE_WIDTH, SPACE_WIDTH, BOX_WIDTH = 36, 34, 30
DOT_SECONDS = 60
NO_DOT = "graphviz's program dot was not found (Debian's package graphviz has it)"


@dataclass(frozen=True, repr=False)
class Drawing:
    """The plan of a computation as a picture: printed, text; in a notebook, SVG where graphviz's ``dot`` is installed.

    ``text`` has the lanes in characters (printed: in those that stdout has), ``dot`` is the graph for graphviz.
    """

    text: str
    dot: str

    def __str__(self) -> str:
        return fitting(self.text)

    __repr__ = __str__

    def svg(self) -> str:
        """Return the picture as SVG; raise `RuntimeError` if graphviz's ``dot`` is missing or fails."""
        program = shutil.which("dot")
        if program is None:
            raise RuntimeError(NO_DOT)
        done = subprocess.run(
            [program, "-Tsvg"], input=self.dot.encode(), capture_output=True, timeout=DOT_SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def _repr_svg_(self) -> str | None:
        """Return what a notebook shows; None where it has to show the text."""
        try:
            return self.svg()
        except (RuntimeError, OSError, subprocess.SubprocessError):
            return None


@overload
def draw(computation: Computation, path: None = None, *, clients: int | None = None) -> Drawing: ...
@overload
def draw(computation: Computation, path: str | os.PathLike[str], *, clients: int | None = None) -> Path: ...
def draw(
    computation: Computation, path: str | os.PathLike[str] | None = None, *, clients: int | None = None
) -> Drawing | Path:
    """Draw the communication plan of a computation: server and clients as lanes, Bcasts down, Reduces up.

    Without a ``path``, return a `Drawing`, which a notebook shows and ``print`` prints.  With one, write it and return
    the path of what was written: ``.svg`` (by graphviz's program ``dot``), ``.txt`` (characters) or ``.dot``.  Where
    there is no ``dot``, the text is written beside, as ``.txt``, with a warning.  Under MPI rank 0 writes.
    ``clients`` is that of `fm.plan`.
    """
    target = None if path is None else Path(path)
    if target is not None and target.suffix not in SUFFIXES:
        raise ValueError(f"draw: path must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, found {str(path)!r}")
    shown = planned("draw", computation, clients)
    found = list(steps(shown))
    made = shown.plan.computation
    title = made.name + (f", at {made.where}" if made.where else "")
    drawing = Drawing(_text(title, found), "\n".join(_dot(title, found)))
    if target is None:
        return drawing
    content = drawing.dot if target.suffix == ".dot" else f"{drawing.text}\n"
    if target.suffix == ".svg":
        try:
            content = drawing.svg()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            target = target.with_suffix(".txt")
            warnings.warn(f"draw: no SVG: {error}; wrote {target} instead", stacklevel=2)
    started = launch.detect()
    if started is None or started.rank == 0:
        target.write_text(content, encoding="utf-8")
    return target


# --- as text ---------------------------------------------------------------------------------------------------------

_ARROWS = {Lane.DOWN: ("──", "─▶"), Lane.UP: ("◀─", "──"), Lane.AGREE: ("◀─", "─▶")}


def _text(title: str, found: list[Step]) -> str:
    """Return the lanes side by side, time running down."""
    edge = "─" * (LANE_WIDTH + 2)
    names = (f"┌{f' {name} ':─^{LANE_WIDTH + 2}}┐" for name in ("SERVER", "CLIENTS"))
    lines = [title, (" " * SPACE_WIDTH).join(names)]
    for step in found:
        lines += _rows(step)
    return "\n".join([*lines, (" " * SPACE_WIDTH).join([f"└{edge}┘"] * 2)])


def _rows(step: Step) -> Iterator[str]:
    """Yield the lines of a step: words in the lanes where it happens, or an arrow between them."""
    if step.lane not in _ARROWS:
        for line in textwrap.wrap(step.text, LANE_WIDTH):
            server = "" if step.lane is Lane.CLIENTS else line
            clients = "" if step.lane is Lane.SERVER else line
            yield f"│ {server:{LANE_WIDTH}} │{' ' * SPACE_WIDTH}│ {clients:{LANE_WIDTH}} │"
        return
    left, right = _ARROWS[step.lane]
    lane = f"│ {'':{LANE_WIDTH}} │"
    first, *more = textwrap.wrap(step.text, SPACE_WIDTH - 6)
    yield f"{lane}{left}{f' {first} ':─^{SPACE_WIDTH - 4}}{right}{lane}"
    for line in more:
        yield f"{lane}{line:^{SPACE_WIDTH}}{lane}"


# --- as a graph ------------------------------------------------------------------------------------------------------

_EDGES = {
    Lane.DOWN: 's{0} -> c{0} [color="#1f5fa8"];',
    Lane.UP: 'c{0} -> s{0} [color="#d9730d"];',
    Lane.AGREE: 'c{0} -> s{0} [color="#5f6670", style=dashed, dir=both];',
}


def _dot(title: str, found: list[Step]) -> Iterator[str]:
    """Yield the lines of the graph: time runs to the right, the server's lane is above that of the clients.

    Node ``s3`` is the server in step 3, ``c3`` the clients: a box where it works, a text where an arrow begins, a dot
    where it ends.
    """
    yield f"digraph {_quoted(title)} {{"
    yield f"  rankdir=LR; newrank=true; label={_quoted(title)}; labelloc=t; fontname=sans; nodesep=0.6; ranksep=0.2;"
    yield "  node [shape=plaintext, margin=0.06, height=0.25, fontname=sans, fontsize=11];"
    # The lane that comes last is drawn on top.
    for letter, sends, other in (("c", (Lane.UP, Lane.AGREE), Lane.SERVER), ("s", (Lane.DOWN,), Lane.CLIENTS)):
        name, colour, at = ("SERVER", "#e8f0fa", "t") if letter == "s" else ("CLIENTS", "#fdf1e3", "b")
        mine = {i: step for i, step in enumerate(found) if step.lane is not other}
        yield f"  subgraph cluster_{name.lower()} {{"
        yield f'    label={name}; labeljust=l; labelloc={at}; style=filled; color="{colour}"; margin=16;'
        for i, step in mine.items():
            if step.lane in _EDGES and step.lane not in sends:
                yield f"    {letter}{i} [shape=point, width=0.08];"
            else:
                box = "" if step.lane in _EDGES else ', shape=box, margin=0.1, style="rounded,filled", fillcolor=white'
                yield f"    {letter}{i} [label={_quoted(step.text, BOX_WIDTH)}{box}];"
        if len(mine) > 1:
            yield f"    {' -> '.join(f'{letter}{i}' for i in mine)} [dir=none, weight=10];"
        yield "  }"
    for i, step in enumerate(found):
        if step.lane in _EDGES:
            yield f"  {{ rank=same; s{i}; c{i}; }}"
            yield "  " + _EDGES[step.lane].format(i)
    yield "}"


def _quoted(text: str, width: int = 200) -> str:
    """Return a text as a quoted string of graphviz's language, which knows escapes and HTML's entities."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    lines = textwrap.wrap(printable, width) or [""]
    escaped = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
