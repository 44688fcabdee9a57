"""Arrows point only downward: each layer imports only from those below it, and one module alone imports mpi4py."""

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
        elif isinstance(node, ast.ImportFrom) and node.module:
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
