"""The house: which room may import from which, no circles, and rooms and files that stay small.

One module alone imports mpi4py; the language knows neither Numba nor MPI.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys

import pytest

from tests.mpijob import ROOT

PACKAGE = ROOT / "fedmpi"
# The rooms of the house, from the ground up: an arrow may point to a room or a file further up in this list alone.
# The name of a layer, at its end, is its `__init__`; "fedmpi" is the package's own.
ROOMS = """
    version
    language.source language.errors language.array_likes language.types language.tree language.operators
    language.tracing language.checking language.type_analysis language
    local.numba_parts local.status local.attributes local.records local.value_errors local.jit local.columns local.sums
    local.integers local.whole local.draws local.kernels local.typed local.integer_pass local.computations local.loops
    local.decorators local
    kernels model random
    runtime.mpi runtime.collective runtime.plan runtime.reports runtime.arguments runtime.stage runtime.runners
    runtime.upward runtime.slowly runtime.watch runtime.executor runtime.reference_sums runtime.reference_semantics
    runtime.reference
    runtime.asynchronous runtime.context runtime.client_states runtime.show runtime
    framework data fedmpi tutorial bench interop cli __main__
"""
ORDER = ROOMS.split()
LARGEST = 15  # files of a room, besides its `__init__`
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    """Return a file's name below the package; an `__init__` has that of its folder."""
    whole = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return whole.removesuffix("__init__").removesuffix(".") or "fedmpi"


NAMES = {name_of(path) for path in MODULES}


def imports(path):
    """Yield the full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: an import must name the whole module"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("fedmpi.") in NAMES else node.module


@functools.cache
def graph():
    """Return which files each file imports, inside of functions and for type checkers too, by their names."""
    found = {}
    for path in MODULES:
        own = {name.removeprefix("fedmpi.") for name in imports(path) if name.partition(".")[0] == "fedmpi"}
        found[name_of(path)] = own & NAMES - {name_of(path)}
    return found


def room_of(name):
    """Return where a file stands in `ORDER`: the longest of its names that this file's begins with."""
    for length in range(name.count(".") + 1, 0, -1):
        head = ".".join(name.split(".")[:length])
        if head in ORDER and (head == name or head.count(".") or head not in ("language", "local", "runtime")):
            return ORDER.index(head)
    return ORDER.index(name)


def test_every_file_stands_in_a_room():
    for name in NAMES:
        assert room_of(name) >= 0
    for room in ORDER:
        assert room in NAMES, f"{room} is no room of the house"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_arrows_point_downward(name):
    for target in graph()[name]:
        assert room_of(target) <= room_of(name), f"{name} imports {target}, which stands above it"


def test_one_name_for_one_thing():
    """Files and classes of the three layers have names of their own; a file of arrays is one of arrays of what."""
    files, classes = [], []
    for path in MODULES:
        if name_of(path).partition(".")[0] in ("language", "local", "runtime") and path.name != "__init__.py":
            files.append(path.stem)
            classes += [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]
    names = [name for name in files if files.count(name) > 1] + [name for name in classes if classes.count(name) > 1]
    assert not names


def circles(arrows):
    """Return the sets of files of which each reaches all others."""
    reached = {}
    for start in arrows:
        seen, waiting = set(), [start]
        while waiting:
            for name in arrows[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        reached[start] = seen
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in arrows if a in reached[a]}
    return sorted(map(set, groups), key=sorted)


def test_no_circle_of_files():
    assert circles(graph()) == []


def test_circles_are_found():
    arrows = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f", "a"}}
    assert circles(arrows) == [{"a", "b", "c"}, {"f", "g"}]


def rooms():
    return sorted({path.parent for path in MODULES})


@pytest.mark.parametrize("room", rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_small_and_say_what_they_hold(room):
    assert len(list(room.glob("*.py"))) - 1 <= LARGEST
    doc = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert doc
    if room.parent.parent == PACKAGE and room.parent.name in ("language", "local", "runtime"):
        assert "Not here: " in doc, f"{room} does not say what may not stand there"


def test_one_module_imports_mpi4py():
    found = {str(p.relative_to(PACKAGE)) for p in MODULES if any(n.split(".")[0] == "mpi4py" for n in imports(p))}
    assert found == {"runtime/mpi/library.py"}


def test_who_is_the_server_is_asked_of_the_communicator():
    found = [name_of(p) for p in MODULES if re.search(r"comm\.rank (==|!=) 0", p.read_text())]
    assert not found


def test_errors_are_printed_in_one_place():
    """Where in the user's program, and what to do: `Report` writes both."""
    found = {name_of(p) for p in MODULES if re.search(r"\\n  (at |hint: )", p.read_text())}
    assert found == {"language.errors"}


@pytest.mark.parametrize("layer", ["language"])
def test_the_language_knows_neither_numba_nor_mpi(layer):
    for path in (PACKAGE / layer).rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"numba", "mpi4py", "scipy"}


def test_files_and_functions_stay_readable():
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= 420, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 65, f"{path}: {node.name}"


def test_importing_fedmpi_loads_neither_mpi_nor_numba():
    heavy = ("mpi4py", "numba", "scipy", "matplotlib", "pooch", "federated_language")
    code = f"import sys, fedmpi; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stderr == ""
    assert done.stdout == "[]\n"
