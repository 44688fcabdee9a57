"""`fm.draw`: the plan as lanes, in characters and as SVG."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.runtime.show import drawing
from tests import needs
from tests.mpijob import run_job
from tests.programs import CASES

SVG = "{http://www.w3.org/2000/svg}"
TWO_TRIPS = CASES["two trips"].computation
PROGRAMS = ["two trips", "threshold", "open dimension", "structs", "broadcast"]


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def plan_lines(computation):
    return [line.strip() for line in str(fm.plan(computation)).splitlines()[1:]]


# --- text ------------------------------------------------------------------------------------------------------------


def lanes(computation):
    """Return the three columns of the text: lines of the server's lane, between the lanes, of the clients' lane."""
    title, *lines = str(fm.draw(computation)).splitlines()
    assert title == f"{computation.name}, at {computation.where}"
    assert len({len(line) for line in lines}) == 1, "the lanes are straight"
    left = drawing.LANE_WIDTH + 4
    return [[line[:left] for line in lines], [line[left:-left] for line in lines], [line[-left:] for line in lines]]


def words(column):
    return " ".join(" ".join(column).replace("│", " ").split())


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_step_stands_in_its_lane(name):
    computation = CASES[name].computation
    server, between, clients = lanes(computation)
    assert "SERVER" in server[0]
    assert "CLIENTS" in clients[0]
    for line in plan_lines(computation):
        if line.startswith("server: "):
            assert line.removeprefix("server: ") in words(server)
        elif line.startswith("clients, "):
            assert line.removeprefix("clients, ") in words(clients)
        else:
            assert line in re.sub("[─▶◀ ]+", " ", " ".join(between))
    arrows = [line for line in between if "─" in line and line.strip()]
    for text, arrow in (("Bcast", r"──.*─▶"), ("header", r"──.*─▶"), ("Reduce", r"◀─.*──"), ("agreement", r"◀─.*─▶")):
        expected = sum(line.startswith(text) for line in plan_lines(computation))
        assert sum(re.fullmatch(arrow, a) is not None and f" {text}" in a for a in arrows) == expected


def test_the_order_of_the_steps():
    _, between, _ = lanes(TWO_TRIPS)
    found = re.findall("header|Bcast|Reduce|word", " ".join(between))
    assert found == ["header", "Bcast", "Reduce", "word", "Bcast", "Reduce"]


def test_without_placements():
    text = str(fm.draw(CASES["capture"].computation))
    assert "nothing is sent" not in text
    local = fm.federated_computation(lambda x: x + x, np.float32)
    server, between, clients = lanes(local)
    assert words(server[1:-1]) == words(clients[1:-1])
    assert words(server[1:-1]) == "nothing is sent: it runs where it is called, on every rank that calls it"
    assert not words(between)


# --- SVG -------------------------------------------------------------------------------------------------------------


def edges(root):
    """Return the edges of the picture between lanes, as pairs of node names."""
    titles = [g.find(f"{SVG}title").text for g in root.iter(f"{SVG}g") if g.get("class") == "edge"]
    pairs = [tuple(title.split("->")) for title in titles]
    return [pair for pair in pairs if pair[0][0] != pair[1][0]]


def texts(root):
    return " ".join(" ".join(element.text or "" for element in root.iter(f"{SVG}text")).split())


@needs.dot
@pytest.mark.parametrize("name", PROGRAMS)
def test_svg(name, tmp_path):
    computation = CASES[name].computation
    path = fm.draw(computation, tmp_path / "plan.svg")
    assert path == tmp_path / "plan.svg"
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    clusters = {g.find(f"{SVG}title").text for g in root.iter(f"{SVG}g") if g.get("class") == "cluster"}
    assert clusters == {"cluster_server", "cluster_clients"}
    lines = plan_lines(computation)
    down = sum(line.startswith(("header", "Bcast", "word")) for line in lines)
    up = sum(line.startswith(("Reduce", "Gather", "agreement", "sizes")) for line in lines)
    assert sum(tail.startswith("s") for tail, _ in edges(root)) == down
    assert sum(tail.startswith("c") for tail, _ in edges(root)) == up
    assert all(tail[1:] == head[1:] for tail, head in edges(root))
    for line in lines:
        assert line.removeprefix("server: ").removeprefix("clients, ") in texts(root)
    assert f"{computation.name}, at {computation.where}" in texts(root)


@needs.dot
def test_the_server_is_above_the_clients_and_time_runs_to_the_right():
    root = ElementTree.fromstring(fm.draw(TWO_TRIPS).svg())
    height, left = {}, {}
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "node":
            shape = next(part for part in group if part.tag in (f"{SVG}ellipse", f"{SVG}text"))
            title = group.find(f"{SVG}title").text
            left[title] = float(shape.get("cx") or shape.get("x"))
            height[title] = float(shape.get("cy") or shape.get("y"))
    assert max(y for node, y in height.items() if node[0] == "s") < min(y for n, y in height.items() if n[0] == "c")
    for lane in "sc":
        inside = sorted((int(node[1:]), x) for node, x in left.items() if node[0] == lane)
        assert [x for _, x in inside] == sorted(x for _, x in inside)


ODD = 'a"b\\n<&lt;>\x00}]; größe'


@needs.dot
def test_names_are_escaped(tmp_path):
    def odd(x):
        return x

    odd.__name__ = ODD
    program = fm.federated_computation(odd, fm.type_at_clients(np.float32))
    root = ElementTree.parse(fm.draw(program, tmp_path / "odd.svg")).getroot()
    assert ODD.replace("\x00", " ") in texts(root)
    assert len(edges(root)) == len(plan_lines(program))


@needs.dot
def test_in_a_notebook():
    assert ElementTree.fromstring(fm.draw(TWO_TRIPS)._repr_svg_()).tag == f"{SVG}svg"


def test_without_dot(no_dot, tmp_path):
    made = fm.draw(TWO_TRIPS)
    assert made._repr_svg_() is None
    with pytest.raises(RuntimeError, match=r"graphviz's program dot was not found \(Debian's package"):
        made.svg()
    with pytest.warns(UserWarning, match=r"draw: no SVG: graphviz's .* not found .*; wrote .*/plan\.txt instead"):
        path = fm.draw(TWO_TRIPS, tmp_path / "plan.svg")
    assert path == tmp_path / "plan.txt"
    assert path.read_text() == f"{made}\n"
    assert not (tmp_path / "plan.svg").exists()


def test_a_dot_that_fails(monkeypatch, tmp_path):
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\necho 'Format: \"svg\" not recognized' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.warns(UserWarning, match=r'no SVG: .*dot failed: Format: "svg" not recognized; wrote'):
        path = fm.draw(TWO_TRIPS, str(tmp_path / "plan.svg"))
    assert path.name == "plan.txt"


# --- files and errors ------------------------------------------------------------------------------------------------


def test_text_and_graph_as_files(no_dot, tmp_path):
    """Neither needs the program dot."""
    made = fm.draw(TWO_TRIPS)
    assert fm.draw(TWO_TRIPS, tmp_path / "plan.txt").read_text() == f"{made}\n"
    assert fm.draw(TWO_TRIPS, tmp_path / "plan.dot").read_text() == made.dot
    assert made.dot.startswith('digraph "two_trips, at programs.py:')


def test_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"draw: path must end in \.svg, \.txt or \.dot, found 'plan\.png'"):
        fm.draw(TWO_TRIPS, "plan.png")


def test_no_computation():
    with pytest.raises(TypeError, match="draw: computation must be a computation, found int 3"):
        fm.draw(3)


@pytest.mark.slow
@needs.mpi_jobs
def test_rank_0_writes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, fedmpi as fm\nfrom tests.programs import CASES\n"
        "rank = fm.MpiContext().comm.rank\n"
        "path = fm.draw(CASES['mean'].computation, pathlib.Path(__file__).with_name(f'plan{rank}.txt'))\n"
        "fm.replicate(None)\n"
        "print('written' if path.exists() else 'not written', rank)\n"
    )
    result = run_job(2, [script], timeout=60)
    assert sorted(result.stdout.splitlines()) == ["not written 1", "written 0"], result
