"""Execute a notebook as Jupyter does, in a kernel of its own, which is gone afterwards.

    python -m tests.notebooks jobs/notebooks/part1.ipynb …

stores what the cells give in the files: that is how their outputs are made after a change.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from tests.mpijob import ROOT, environment, without_announcements

NOTEBOOKS = sorted((ROOT / "jobs" / "notebooks").glob("*.ipynb"))
SECONDS_FOR_A_CELL = 180


def read(path: Path) -> Any:
    """Return the notebook in a file."""
    return nbformat.read(path, as_version=4)


def execute(path: Path, first_cell: str = "") -> Any:
    """Return the notebook with what its cells give now, a cell of its own before them if given.

    Raises nbclient's CellExecutionError for a cell that raises, and RuntimeError if a process is left over.
    """
    notebook = read(path)
    if first_cell:
        notebook.cells.insert(0, new_code_cell(first_cell))
    options: dict[str, Any] = {"record_timing": False, "coalesce_streams": True}
    client = NotebookClient(notebook, timeout=SECONDS_FOR_A_CELL, **options)
    mark = {"FEDMPI_NOTEBOOK": uuid.uuid4().hex}
    with _folder_of_its_own():
        client.execute(cwd=tempfile.gettempdir(), env=environment(SECONDS_FOR_A_CELL) | mark)
        _wait_for_the_end(*mark.values())
    return tidy(notebook)


def _wait_for_the_end(mark: str) -> None:
    """Raise RuntimeError if processes with the mark in their environment are left seconds after the kernel."""
    deadline = time.monotonic() + 20
    while left := [entry.name for entry in Path("/proc").glob("[0-9]*") if mark in _environ(entry)]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"left over: processes {', '.join(left)}")
        time.sleep(0.1)


def _environ(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:  # it has ended, or is another user's
        return ""


def tidy(notebook: Any) -> Any:
    """Leave nothing in a notebook but its cells, their outputs, and which kernel runs it."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_announcement(output)]
        for output in cell.get("outputs", ()):
            output.pop("metadata", None)
            if output.output_type in ("display_data", "execute_result"):
                output.metadata = {}
    nbformat.validate(notebook)
    return notebook


def _is_announcement(output: Any) -> bool:
    """Tell whether an output says no more than that something is compiled."""
    return output.get("name") == "stderr" and not without_announcements(output.text)


def written(notebook: Any) -> str:
    """Return the text of a notebook's file."""
    return f"{nbformat.writes(notebook)}\n"


@contextmanager
def _folder_of_its_own() -> Iterator[None]:
    """Keep Jupyter's sockets and IPython's history out of the user's home."""
    names = ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: os.path.join(folder, name) for name in names}
        for place in folders.values():
            os.mkdir(place)
        with mock.patch.dict(os.environ, folders):
            yield


def main() -> None:
    """Store the outputs of the notebooks that the command line names."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(written(execute(path)))


if __name__ == "__main__":
    main()
