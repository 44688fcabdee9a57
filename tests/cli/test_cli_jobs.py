"""The commands as real jobs of 1 and 3 ranks."""

import contextlib
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pytest

from fedmpi.data import mnist
from tests import needs
from tests.mpijob import ROOT, mpiexec, run_command, run_job

FEDMPI = (sys.executable, "-m", "fedmpi")
SCRIPT = Path(__file__).with_name("launched_job.py")
MINUTES = 180  # seconds: compiling for the first time on a busy machine
ALL_AGREE = "18 of 18 numbers agree with the published ones within 2e-06"

pytestmark = [needs.mpi_jobs, pytest.mark.slow]


def fedmpi(ranks, *words, timeout=MINUTES, env=None):
    return run_job(ranks, [*FEDMPI, *words], timeout=timeout, env=env)


def lines_with(text, output):
    return [line for line in output.splitlines() if text in line]


# The tutorial.


@pytest.mark.slow  # the first one compiles
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_tutorial_agrees_with_the_published_numbers(ranks):
    result = fedmpi(ranks, "tutorial")
    assert result.returncode == 0, result
    assert len(lines_with(ALL_AGREE, result.stdout)) == 1, result
    assert len(lines_with("8 of 8 types equal the published ones", result.stdout)) == 1
    assert len(lines_with("round 4, loss", result.stdout)) == 1
    assert f"on {ranks} rank" in result.stdout
    assert re.search(r"training: [0-9.]+ ms for the first round, then [0-9.]+ ms a round", result.stdout), result
    assert "\r" not in result.stdout  # no live line where there is no terminal
    assert "Traceback" not in result.stderr


def test_on_a_terminal_there_is_a_live_line():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 200))
    chunks = []

    def read():
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(ours, 4096):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    words = [*FEDMPI, "tutorial", "--rounds", "1"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, cwd=ROOT) as process:
        os.close(theirs)
        assert process.wait(MINUTES) == 0
    reader.join(10)
    os.close(ours)
    lines = b"".join(chunks).decode().replace("\r\n", "\n").split("\n")
    row = next(line for line in lines if "round 0, loss" in line)
    assert re.fullmatch(r"\r\x1b\[K\[#+\.+\] 11/14  [0-9.]+ s\r\x1b\[K  round 0, loss .*", row), row
    assert "13 of 13 numbers agree" in lines[-3], lines[-5:]  # no remains of the live line at the end


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[12:16] == b"IHDR"
    assert data.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", data[16:24])


def test_the_tutorial_draws(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "not" / "yet there"
    result = fedmpi(3, "tutorial", "--rounds", "2", "--plot", folder)
    assert result.returncode == 0, result
    assert sorted(path.name for path in folder.iterdir()) == ["loss_curve.png", "sample_digit.png"]
    for path in folder.iterdir():
        width, height = png_size(path)
        assert 500 < height < width < 2000
        assert len(lines_with(f"wrote {path}", result.stdout)) == 1


def test_more_clients_and_fewer_rounds():
    results = [fedmpi(ranks, "tutorial", "--rounds", "1", "--clients", "20") for ranks in (1, 3)]
    for result in results:
        assert result.returncode == 0, result
        assert "published numbers belong to other data, batches or clients, and are left out" in result.stdout
        assert "20 clients, 10,000 training and 9,786 test images" in result.stdout
        assert "rel. difference" not in result.stdout
        assert len(lines_with("round 0, loss", result.stdout)) == 1
        assert lines_with("round 1, loss", result.stdout) == []
    for text in ("federated_eval", "round 0, loss"):  # the model's hash among them
        one, three = (lines_with(text, result.stdout) for result in results)
        assert one == three
    assert re.search(r"round 0, loss +[0-9.]+  [0-9a-f]{16}$", one[0]), one


def write_idx(path, array):
    path.write_bytes(bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


@pytest.fixture
def folder(tmp_path):
    """Return a folder with 300 images of MNIST in the four files."""
    data = mnist()
    for name, part, count in (("train", data.train, 200), ("t10k", data.test, 100)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte", part.images[:count])
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte", part.labels[:count])
    return tmp_path


def test_data_of_ones_own(folder):
    result = fedmpi(3, "tutorial", "--rounds", "1", "--batch-size", "8", "--data", folder)
    assert result.returncode == 0, result
    assert f"data: {folder}" in result.stdout
    assert "200 training and 100 test images, batches of 8" in result.stdout


def damage(folder, how):
    images = folder / "train-images-idx3-ubyte"
    if how == "missing":
        images.unlink()
    elif how == "cut short":
        images.write_bytes(images.read_bytes()[:-5])
    elif how == "no such folder":
        shutil.rmtree(folder)
    elif how == "no fives":
        labels = folder / "train-labels-idx1-ubyte"
        labels.write_bytes(labels.read_bytes().replace(b"\x05", b"\x06"))
    else:
        images.write_bytes(how.encode())


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("missing", "expected train-images-idx3-ubyte"),
        ("cut short", "train-images-idx3-ubyte: expected 156816 bytes"),
        ("garbage", "expected an IDX file"),
        ("no such folder", "expected a folder with the four MNIST files"),
        ("no fives", "expected training images of the digits 0 and 5"),
    ],
)
def test_damaged_data_is_refused_once(folder, how, text):
    damage(folder, how)
    result = fedmpi(3, "tutorial", "--data", folder, timeout=60)
    assert result.returncode == 1, result
    assert len(lines_with(text, result.stderr)) == 1, result
    assert len(lines_with("fedmpi tutorial:", result.stderr)) == 1, result
    assert "Traceback" not in result.stderr


def test_a_folder_that_one_rank_does_not_see_is_refused_by_all(folder):
    # As on a node that lacks a mount.
    program = (
        "import os, sys; from fedmpi.runtime.mpi import launch; from fedmpi.cli.main import main\n"
        f"here = {str(folder)!r} if launch.detect().rank != 2 else '/nowhere'\n"
        "sys.exit(main(['tutorial', '--data', here]))\n"
    )
    result = run_job(3, [sys.executable, "-c", program], timeout=60)
    assert result.returncode == 1, result
    assert len(lines_with("[rank 2] mnist: expected a folder", result.stderr)) == 1, result


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path, ranks):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").touch()
    result = fedmpi(ranks, "tutorial", "--plot", tmp_path / "file" / "x", timeout=60)
    assert result.returncode == 1, result
    assert len(lines_with("fedmpi tutorial: --plot", result.stderr)) == 1, result
    assert result.stdout == ""


def test_plot_without_matplotlib_names_the_extra(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('No module named matplotlib')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH")]))
    result = fedmpi(3, "tutorial", "--plot", tmp_path / "pictures", env={"PYTHONPATH": path}, timeout=60)
    assert result.returncode == 1, result
    assert len(lines_with('pip install "fedmpi[plot]"', result.stderr)) == 1, result
    assert not (tmp_path / "pictures").exists()


def test_a_number_that_is_not_the_published_one_is_an_error():
    program = (
        "import sys; from fedmpi.cli import main, published\n"
        "published.NUMBERS['round 0, loss'] += 1e-3\n"
        "sys.exit(main.main(['tutorial', '--rounds', '1']))\n"
    )
    result = run_job(3, [sys.executable, "-c", program], timeout=MINUTES)
    assert result.returncode == 1, result
    assert "12 of 13 numbers agree" in result.stdout, result
    assert len(lines_with("fedmpi tutorial: not as published: round 0, loss", result.stderr)) == 1, result


def test_a_reader_that_goes_away_does_not_stop_the_ranks():
    pipeline = shlex.join([str(mpiexec()), "-n", "3", *FEDMPI, "tutorial", "--rounds", "1"]) + " | head -1"
    result = run_command(["bash", "-o", "pipefail", "-c", pipeline], timeout=MINUTES)
    assert result.stdout.startswith("fedmpi tutorial on 3 ranks"), result
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words", [["tutorial", "--rounds", "0"], ["run", "no-such-script.py"], ["run", "-m", "no.mod"]]
)
def test_a_wrong_command_line_is_refused_once(words):
    result = fedmpi(3, *words, timeout=60)
    assert result.returncode == 2, result
    assert len(lines_with("fedmpi", result.stderr)) == 1, result
    assert result.stdout == ""


# Running scripts.


def launched(way, *options, ranks=3):
    result = fedmpi(ranks, "run", *options, SCRIPT, way, timeout=60)
    assert result.returncode != 124, result
    return result


def test_only_rank_0_is_heard():
    result = launched("nothing")
    assert result.returncode == 0, result
    assert result.stdout.splitlines() == [f"rank 0 of 3: nothing, {SCRIPT.parent}", "raw 0"], result
    assert lines_with("stderr of", result.stderr) == ["stderr of 0"]


def test_all_ranks_are_heard_if_asked_for():
    result = launched("nothing", "--all-output")
    assert result.returncode == 0, result
    assert sorted(lines_with("raw", result.stdout)) == ["raw 0", "raw 1", "raw 2"], result
    assert sorted(lines_with("stderr of", result.stderr)) == ["stderr of 0", "stderr of 1", "stderr of 2"]


def test_one_process_is_enough():
    result = run_command([*FEDMPI, "run", str(SCRIPT), "nothing"], timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[0].startswith("rank 0 of 1: nothing")


def test_a_module(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text(
        "import sys; print(__name__, __package__, sys.argv[1:], sys.path[0])"
    )
    result = run_command(["env", f"--chdir={tmp_path}", *FEDMPI, "run", "-m", "package.train", "-m", "x"], timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.split("\n")[0] == "__main__ package ['-m', 'x'] "


@pytest.mark.parametrize("options", [[], ["--all-output"]])
def test_an_exception_on_a_silenced_rank_is_printed_and_ends_the_job(options):
    result = launched("raise", *options)
    assert result.returncode == 1, result
    assert result.seconds < 20
    assert "[rank 2] ValueError: boom on 2" in result.stderr, result
    trace = "\n".join(lines_with("[rank 2]", result.stderr))
    assert f'[rank 2] Traceback (most recent call last):\n[rank 2]   File "{SCRIPT}", line' in trace, result


@pytest.mark.parametrize(("way", "code"), [("sys.exit", 3), ("SystemExit", 4), ("exit with text", 1)])
def test_leaving_while_others_wait_ends_the_job(way, code):
    result = launched(way)
    assert result.returncode == code, result
    assert result.seconds < 20
    assert "[rank 2] SystemExit(" in result.stderr, result
    assert "this ends the job" in result.stderr
    assert str(SCRIPT) in result.stderr
    for file in ("runpy", "cli/main.py", "exits.py"):
        assert file not in result.stderr
    if way == "exit with text":
        assert "[rank 2] no data on 2" in result.stderr


def test_an_interrupt_on_one_rank_ends_the_job():
    result = launched("interrupt")
    assert result.returncode == 130, result
    assert "[rank 2] KeyboardInterrupt" in result.stderr, result


@pytest.mark.parametrize("way", ["thread", "thread before MPI"])
def test_an_exception_in_a_thread_ends_the_job(way):
    result = launched(way)
    assert result.returncode not in (0, 124), result
    assert result.seconds < 20
    assert "[rank 2] Exception in thread worker; this ends the job" in result.stderr, result
    assert "[rank 2] ValueError: boom on 2" in result.stderr


def test_an_exception_in_a_thread_of_one_process_ends_it():
    result = launched("thread", ranks=1)
    assert result.returncode not in (0, 124), result
    assert "[rank 0] ValueError: boom on 0" in result.stderr


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_code_of_all_ranks_is_the_code_of_the_job(ranks):
    result = launched("all exit 7", ranks=ranks)
    assert result.returncode == 7, result
    assert "this ends the job" not in result.stderr


def test_one_process_fails_like_python(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("def f():\n    1 / 0\n\nf()\n")
    ours = run_command([*FEDMPI, "run", str(script)], timeout=60)
    pythons = run_command([sys.executable, str(script)], timeout=60)
    assert (ours.returncode, ours.stderr) == (pythons.returncode, pythons.stderr)


# Information.


def test_info_is_printed_once():
    result = fedmpi(3, "info", timeout=60)
    assert result.returncode == 0, result
    assert len(lines_with("fedmpi  ", result.stdout)) == 1, result
    assert "3; rank 0 is the server, ranks 1-2 host the clients" in result.stdout
    for name in ("Python", "numpy", "numba", "scipy", "mpi4py", "MPI library", "host", "threads", "cache"):
        assert len([line for line in result.stdout.splitlines() if line.startswith(name)]) == 1, result
    assert "ranks 0-2 on" in result.stdout
    assert "warning" not in result.stdout


def test_info_without_an_mpi_library_says_how_to_install_one(tmp_path):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py" / "__init__.py").write_text("raise ImportError('cannot load MPI library')\n")
    path = os.pathsep.join([str(tmp_path), str(SCRIPT.parents[2])])
    result = run_command([*FEDMPI, "info"], timeout=60, env={"PYTHONPATH": path})
    assert result.returncode == 0, result
    assert re.search(r"MPI library +none", result.stdout), result
    assert 'pip install "fedmpi[mpich]"' in result.stdout
    result = run_command([*FEDMPI, "tutorial"], timeout=60, env={"PYTHONPATH": path})
    assert result.returncode == 1, result
    assert 'pip install "fedmpi[mpich]"' in result.stderr
    assert "Traceback" not in result.stderr
