"""What of Numba is private to it is used in one folder, and all of that is there."""

from __future__ import annotations

import ast
import importlib

import numba
import pytest

from tests.mpijob import ROOT

FOLDER = ROOT / "fedmpi" / "local" / "numba_parts"
PUBLIC = {"types", "typed", "extending", "config"}  # what the documentation of Numba names, apart from `numba` itself


def imported(path):
    """Yield the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def relied_on(path):
    """Return the names that a file says it relies on, read from its text: it need not be importable."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "RELIED_ON":
            return ast.literal_eval(node.value)
    return ()


def missing(name):
    """Return the first part of a dotted name that there is not, or None."""
    parts = name.split(".")
    found, length = importlib.import_module(parts[0]), 1
    for length, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ImportError:
                return ".".join(parts[:length])
    return None


@pytest.mark.parametrize("path", sorted((ROOT / "fedmpi").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_private_parts_are_used_in_one_folder(path):
    if path.parent == FOLDER:
        return
    private = [name for name in imported(path) if name.startswith("numba.") and name.split(".")[1] not in PUBLIC]
    assert not private, f"{path.relative_to(ROOT)} imports {private[0]}, which a file of {FOLDER.name} should"


FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")
NAMES = [(path, name) for path in FILES for name in relied_on(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_file_relies_on_is_what_it_imports(path):
    """A name that is imported and not told would not be missed with a clear text."""
    told = relied_on(path)
    assert told == tuple(sorted(set(told)))
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba."):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                assert any(name == whole or name.startswith(f"{whole}.") for name in told), f"{path.name}: {whole}"


def attributes(path):
    """Yield what a file takes of a name that it imports from the folder."""
    tree = ast.parse(path.read_text())
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedmpi.local.numba_parts."):
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield (*names[node.value.id], node.attr)


def test_what_others_take_through_the_folder_is_told():
    for path in (ROOT / "fedmpi").rglob("*.py"):
        for module, name, attribute in attributes(path):
            file = FOLDER / f"{module.rpartition('.')[2]}.py"
            ends = (f".{name}.{attribute}", f".{name}.{attribute}.")
            assert attribute.startswith("__") or any(
                whole.endswith(ends[0]) or ends[1] in whole for whole in relied_on(file)
            ), f"{path.relative_to(ROOT)} takes {name}.{attribute}, which {file.name} does not tell of"


@pytest.mark.parametrize(("path", "name"), NAMES, ids=[f"{path.stem}-{name}" for path, name in NAMES])
def test_numba_has(path, name):
    lacking = missing(name)
    assert lacking is None, (
        f"Numba {numba.__version__} has no {lacking}, which fedmpi/local/numba_parts/{path.name} relies on: "
        "see what has taken its place, and change that file alone"
    )


def test_what_is_missing_is_told():
    assert missing("numba.core.ir.Var") is None
    assert missing("numba.core.ir.Vary") == "numba.core.ir.Vary"
    assert missing("numba.cor.ir.Var") == "numba.cor"
