"""fedmpi runs where there is nothing of what only Linux has (macOS): programs, `fedmpi info`, `fedmpi bench`."""

import os
from pathlib import Path

import pytest

from fedmpi.runtime.mpi import cores
from tests import needs
from tests.mpijob import ROOT, command, run_command, run_job

OTHER = Path(__file__).with_name("other_system.py")


def test_cores_where_the_system_does_not_tell(monkeypatch):
    assert cores.own() <= set(range(4096))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores.own() == set(range(os.cpu_count()))


@pytest.mark.slow
def test_commands_of_another_system():
    result = run_command(command([OTHER, "fedmpi", "info"]), timeout=60)
    assert result.returncode == 0, result
    assert "cores" in result.stdout, result
    result = run_command(command([OTHER, "fedmpi", "bench", "--quick", "collectives"]), timeout=300)
    assert result.returncode == 0, result


@pytest.mark.slow
@needs.mpi_jobs
def test_a_program_on_another_system(tmp_path):
    script = tmp_path / "total.py"
    script.write_text(
        "import numpy as np\nimport fedmpi as fm\n"
        "double = fm.numba_computation(lambda x: x + x, np.float32)\n"
        "total = fm.federated_computation(\n"
        "    lambda x: fm.federated_sum(fm.federated_map(double, x)), fm.type_at_clients(np.float32)\n)\n"
        "assert fm.replicate(total([1.0, 2.0])) == 6\nprint('done')\n"
    )
    result = run_job(2, [OTHER, script], timeout=90, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result
    assert result.stdout.count("done") == 2, result
