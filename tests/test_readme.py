"""What the README shows is true: its programs run on one rank and on three, its commands exist, its error is real."""

from __future__ import annotations

import re
import shlex

import pytest

from fedmpi.cli.main import main
from tests import needs, pages
from tests.mpijob import ROOT, command, run_command, run_job

README = (ROOT / "README.md").read_text()
BLOCKS = pages.BLOCK.findall(README)
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if line]
PLAN = next(text for language, text in BLOCKS if text.startswith("  header"))


def test_the_two_commands():
    assert COMMANDS[0] == (
        'python3 -m venv .venv && .venv/bin/pip install ".[mpich]" && .venv/bin/mpirun -n 3 .venv/bin/fedmpi tutorial'
    )
    assert COMMANDS[1] == (
        '.venv/bin/pip install ".[mpich,plot,data,test]" && .venv/bin/python -m pytest -n 2 --dist loadfile'
    )


@needs.mpi_jobs
@pytest.mark.slow
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_tutorials_heart(tmp_path, ranks):
    script = tmp_path / "train.py"
    script.write_text(PROGRAMS[0] + "if fm.is_server():\n    print(fm.plan(federated_train))\n")
    done = run_job(ranks, [script], timeout=200)
    assert done.returncode == 0, done
    assert PLAN in done.stdout
    losses = [float(x) for x in re.findall(r"loss=(\S+)", done.stdout)]
    assert losses == pytest.approx([21.605522, 20.365679, 19.274801, 18.311111, 17.457254], rel=2e-6)


@needs.mpi_jobs
def test_the_local_computation(tmp_path):
    script = tmp_path / "average.py"
    script.write_text(PROGRAMS[1])
    done = run_command(command([script]), timeout=100)
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["({float32*}@CLIENTS -> float32@SERVER)", "70.0"]
    assert len(PROGRAMS) == 5


@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_operators(tmp_path, ranks):
    script = tmp_path / "statistics_of_clients.py"
    script.write_text(PROGRAMS[2])
    done = run_job(ranks, ["-m", "fedmpi", "run", script], timeout=100)
    assert done.returncode == 0, done
    assert "(np.float32(1.0), np.float32(3.0), np.float32(6.0))" in done.stdout


@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_algorithm(tmp_path, ranks):
    script = tmp_path / "pull.py"
    script.write_text(PROGRAMS[3])
    done = run_job(ranks, ["-m", "fedmpi", "run", script], timeout=100)
    assert done.returncode == 0, done
    assert done.stdout.split() == ["3.5"]


@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_data_in_files(tmp_path, ranks):
    script = tmp_path / "brightness.py"
    script.write_text(PROGRAMS[4])
    # Silenced but for rank 0: lines that several ranks write at once may be cut.
    done = run_job(ranks, ["-m", "fedmpi", "run", script], timeout=100, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done
    assert "47040.0 31360.0" in done.stdout


def test_the_error_text(tmp_path):
    import numpy as np

    import fedmpi as fm

    shown = next(text for language, text in BLOCKS if text.startswith("federated_map: ")).splitlines()
    with pytest.raises(TypeError) as caught:

        @fm.federated_computation(fm.type_at_server(np.float32), fm.type_at_clients(np.float32))
        def program(rate, data):
            function = fm.federated_computation(lambda pair: pair, (np.float32, np.float32))
            return fm.federated_map(function, [rate, data])

    first, place, hint = str(caught.value).splitlines()
    assert [first, hint] == [shown[0], shown[2]]
    assert "test_readme.py:" in place


@pytest.mark.parametrize("line", [c for c in COMMANDS[2:] if "fedmpi" in c and "sbatch jobs" not in c])
def test_commands_are_understood(line, capsys):
    words = shlex.split(line, comments=True)
    name = next(i for i, word in enumerate(words) if word.endswith("fedmpi"))
    assert words[name + 1] in ("tutorial", "run", "verify", "bench", "info")
    with pytest.raises(SystemExit) as caught:
        main([words[name + 1], "--help"])
    assert caught.value.code == 0
    assert "usage: fedmpi" in capsys.readouterr().out


def test_what_verify_prints():
    """As the README shows it, but for the hashes that it shortens."""
    from fedmpi.cli import verify
    from fedmpi.cli.errors import CommandError

    shown = next(text for language, text in BLOCKS if language == "text" and "fedmpi verify:" in text).splitlines()
    hashes = [line.split()[-1] for line in shown[1:]]
    type_ = shown[0].rpartition(" type ")[2]
    records = [
        {"number": 7, "name": "federated_train", "where": "train.py:41", "type": type_, "sha256": digest}
        for digest in hashes
    ]
    with pytest.raises(CommandError) as caught:
        verify._compare(verify.Setting(1), records[:1], verify.Setting(3), records[1:])
    assert f"fedmpi verify: {caught.value}".splitlines() == shown


def test_named_files_exist():
    for name in (
        "jobs/tutorial.sbatch",
        "fedmpi/tutorial.py",
        "fedmpi/language/operators/federated.py",
        "LICENSE",
        "CHANGELOG.md",
    ):
        assert (ROOT / name).exists(), name
