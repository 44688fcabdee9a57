"""Arrows point only downward: each layer imports only from those below it, and one module alone imports mpi4py.

Files that import each other in a circle stand in `CIRCLES`, a list that may only become shorter.
"""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.mpijob import ROOT

PACKAGE = ROOT / "fedmpi"
LAYERS = ["language", "local", "runtime", "data", "tutorial", "bench", "cli", "interop"]
# Under all layers, or on top of them for users.
FREE = {"version", "__init__", "__main__", "framework", "kernels"}


def layer_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Yield the full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: an import must name the whole module"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    mine = layer_of(path)
    if mine in FREE:
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "fedmpi" and len(parts) > 1 and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(mine), f"{mine} imports {name}"
        if parts[0] == "fedmpi" and mine in ("language", "local", "runtime"):
            assert len(parts) > 1, f"{mine} imports the whole package"


# Each is to be opened; a new file in one of them, or a new circle, fails the test.
CIRCLES = [
    {"language.computation", "language.context"},
    {"language.elements", "language.values"},
    {"language.assignability", "language.containers", "language.to_type", "language.type_text", "language.types"},
    {"local.coerce", "local.numba_types"},
    {"local.bodies", "local.codegen", "local.compiled", "local.lifting"},
    {
        "runtime.aggregate", "runtime.arguments", "runtime.client_data", "runtime.clients", "runtime.debugging",
        "runtime.executor", "runtime.loop", "runtime.loop_writer", "runtime.plan", "runtime.plan_text",
        "runtime.program", "runtime.rounds",
    },
]  # fmt: skip


def graph():
    """Return which files each file imports, inside of functions and for type checkers too, by their names."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}
    found = {}
    for path in MODULES:
        mine = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[mine] = {name.removeprefix("fedmpi.") for name in imports(path)} & names - {mine}
        # `from fedmpi.local import values` names the folder too, whose __init__ may import all that is in it.
        found[mine] -= {name for name in found[mine] if any(other.startswith(f"{name}.") for other in found[mine])}
    return found


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


def test_no_circle_of_files_but_those_known():
    found = circles(graph())
    for circle in found:
        assert any(circle <= known for known in CIRCLES), f"a new circle of imports: {sorted(circle)}"
    assert found == sorted(CIRCLES, key=sorted), "a circle has been opened, or is smaller: so must the list be"


def test_circles_are_found():
    arrows = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f", "a"}}
    assert circles(arrows) == [{"a", "b", "c"}, {"f", "g"}]


def test_one_module_imports_mpi4py():
    found = {str(p.relative_to(PACKAGE)) for p in MODULES if any(n.split(".")[0] == "mpi4py" for n in imports(p))}
    assert found == {"runtime/library.py"}


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
