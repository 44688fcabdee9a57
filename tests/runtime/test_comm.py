"""The communicator, as real MPI jobs."""

import ast
from pathlib import Path

import pytest

from tests import needs
from tests.mpijob import ROOT, run_job

JOB = Path(__file__).with_name("comm_job.py")

pytestmark = needs.mpi_jobs


@pytest.mark.parametrize("piece", [None, 16])
@pytest.mark.parametrize(
    "ranks", [pytest.param(ranks, marks=[] if ranks == 3 else pytest.mark.slow) for ranks in (1, 2, 3, 4)]
)
def test_every_message(ranks, piece):
    result = run_job(ranks, [JOB, *([] if piece is None else [str(piece)])], timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.count("is fine") == ranks, result
    assert result.stderr == ""


def test_one_module_imports_mpi4py():
    importers = set()
    for path in (ROOT / "fedmpi").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "mpi4py" for name in names):
                importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"fedmpi/runtime/mpi/library.py"}


def test_only_typed_methods():
    """mpi4py's lower-case methods pickle; the module calls none of them on a communicator."""
    tree = ast.parse((ROOT / "fedmpi/runtime/mpi/comm.py").read_text())
    calls = [
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    on_comm = {func.attr for func in calls if isinstance(func.value, ast.Attribute) and func.value.attr == "_comm"}
    assert {"Ibcast", "Ireduce", "Iallreduce"} <= on_comm
    assert all(name[0].isupper() for name in on_comm)
