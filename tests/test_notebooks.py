"""The notebooks: their cells give what is stored in them, which is what the tutorials print, also on three ranks."""

from __future__ import annotations

import os
import re

import pytest

from fedmpi.cli import published
from tests import needs, pages
from tests.mpijob import ROOT, mpiexec, without_announcements

notebooks = pytest.importorskip("tests.notebooks", reason="no nbclient: install fedmpi[test]")

NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
LABEL = re.compile(r"(?:\[std\w+:|\[output:|Out\[)(\d+)(?::\d+)?\]:? ?\n?")
README = pages.BLOCK.findall((ROOT / "README.md").read_text())
PART_1, PART_2 = notebooks.NOTEBOOKS


def shown(cell):
    """What a cell shows: its texts, and "(a picture)" for a picture."""
    texts = []
    for output in cell.get("outputs", ()):
        assert output.output_type in ("stream", "execute_result", "display_data"), output
        if output.output_type == "stream":
            assert output.name == "stdout", output.text
            texts.append(output.text.rstrip("\n"))
        else:
            texts.append("(a picture)" if "image/png" in output.data else output.data["text/plain"])
    return "\n".join(texts)


def agree(found, stored):
    """Tell whether two texts are equal but for the rounding of the numbers in them."""
    numbers = [[float(x) for x in NUMBER.findall(text)] for text in (found, stored)]
    return NUMBER.sub("#", found) == NUMBER.sub("#", stored) and numbers[0] == pytest.approx(
        numbers[1], rel=published.TOLERANCE
    )


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_give_what_is_stored(path):
    for now, stored in zip(code_cells(notebooks.execute(path)), code_cells(notebooks.read(path)), strict=True):
        assert agree(shown(now), shown(stored)), f"{now.source}\n--- now\n{shown(now)}\n--- stored\n{shown(stored)}"


@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_files_hold_nothing_but_cells(path):
    stored = notebooks.read(path)
    assert path.read_text() == notebooks.written(notebooks.tidy(stored))
    assert [cell.execution_count for cell in code_cells(stored)] == list(range(1, len(code_cells(stored)) + 1))
    assert not re.search(r"/(tmp|home|root|work|usr)/", path.read_text())


def test_part_1_shows_the_published_values():
    """Language.md, section 5.1: each line is what one cell shows."""
    outputs = [re.sub(r"np\.\w+\(([^)]*)\)", r"\1", shown(cell)) for cell in code_cells(notebooks.read(PART_1))]
    for value in (
        "'Hello, World!'",
        "False",
        "'({float32}@CLIENTS -> float32@SERVER)'",
        "69.53333",
        "[1.5, 3.5, 2.5]",
        "15.0",
        "6",
        "'(float32* -> float32)'",
        "'(<A=int32,B=int32>* -> int32)'",
        "26",
        "'({float32*}@CLIENTS -> float32@SERVER)'",
        "70.0",
    ):
        assert value in outputs


def test_part_2_shows_the_published_values():
    """Every number and every type that the tutorial prints, the numbers in its order."""
    text = "\n".join(shown(cell) for cell in code_cells(notebooks.read(PART_2)))
    numbers = [float(x) for x in NUMBER.findall(text)]
    for name, expected in published.NUMBERS.items():
        place = next((i for i, x in enumerate(numbers) if x == pytest.approx(expected, rel=published.TOLERANCE)), None)
        assert place is not None, name
        if "local" not in name:  # the loss before training is printed more than once
            numbers = numbers[place:]
    for name, type_ in published.TYPES.items():
        assert type_ in text, name


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("path", notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_under_mpi(path, monkeypatch):
    """With the cell before them that the README shows: rank 0 shows what one process does."""
    pytest.importorskip("ipyparallel", reason="no ipyparallel: install fedmpi[notebooks]")
    monkeypatch.setenv("PATH", os.path.dirname(mpiexec()), prepend=os.pathsep)
    (first_cell,) = [text for language, text in README if language == "ipython"]
    found = code_cells(notebooks.execute(path, first_cell))[1:]
    for now, stored in zip(found, code_cells(notebooks.read(path)), strict=True):
        ranks = shown_by_ranks(now)
        assert agree(ranks[0], shown(stored)), f"{now.source}\n--- rank 0\n{ranks[0]}\n--- stored\n{shown(stored)}"
        if "federated_eval(" in now.source and "loss" in ranks[0]:
            assert "on rank 0>" in ranks[1]
            assert "on rank 0>" in ranks[2]


def shown_by_ranks(cell):
    """What a cell shows on each of three ranks, as `shown`; ipyparallel says before each output whose it is."""
    texts, rank = ([], [], []), 0
    for output in cell.outputs:
        if output.output_type == "display_data":
            text = COLOUR.sub("", output.data["text/plain"])
            if label := LABEL.match(text):
                rank, text = int(label[1]), text[label.end() :]
            text = without_announcements(text + "\n").rstrip("\n")
            texts[rank].append("(a picture)" if "image/png" in output.data else text)
    return ["\n".join(filter(None, parts)) for parts in texts]
