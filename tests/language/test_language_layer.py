"""The language stands alone: it imports nothing of fedmpi above it, no Numba and no MPI."""

import ast
import pathlib
import subprocess
import sys

import fedmpi.language

FILES = sorted(pathlib.Path(fedmpi.language.__file__).parent.rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_imports_point_downward():
    allowed = {"numpy", "fedmpi.language"} | set(sys.stdlib_module_names)
    for path in FILES:
        for name in imported(path):
            top = name if not name.startswith("fedmpi") else ".".join(name.split(".")[:2])
            assert top.split(".")[0] in allowed or top in allowed, f"{path.name} imports {name}"


# The package's own __init__ is a layer above, and may load what it likes: only the language's files run here.
ALONE = """
import sys, types
package = types.ModuleType("fedmpi")
package.__path__ = [sys.argv[1]]
sys.modules["fedmpi"] = package
import fedmpi.language
print([name for name in ("numba", "mpi4py", "scipy") if name in sys.modules])
"""


def test_importing_it_loads_nothing_heavy():
    command = [sys.executable, "-c", ALONE, str(FILES[0].parents[1])]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
