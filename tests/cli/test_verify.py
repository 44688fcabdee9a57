"""`fedmpi verify` as real jobs, and the log; the hash itself has its tests in runtime/test_records.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from fedmpi.cli import jobs, verify
from fedmpi.cli.errors import CommandError
from fedmpi.cli.main import main, parser
from tests import needs
from tests.mpijob import environment as job_environment
from tests.mpijob import run_command, run_job

SCRIPT = Path(__file__).with_name("verified_job.py")
FEDMPI = (sys.executable, "-m", "fedmpi")
SECONDS = r" \([0-9.]+ s\)"


def verified(way, *options, timeout=100, env=None):
    return run_command([*FEDMPI, "verify", *options, str(SCRIPT), way], timeout=timeout, env=env)


# Programs that give the same results.


@needs.mpi_jobs
@pytest.mark.slow
def test_equal_results_on_several_numbers_of_ranks():
    result = verified("plain", "-n", "1,2,3,5", "--server-trains")
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    assert lines[0] == "plain of 1"  # the output of the first run alone
    assert re.fullmatch("1 rank: 5 results" + SECONDS, lines[1]), result
    settings = [f"{n} ranks{trains}" for n in (2, 3, 5) for trains in ("", ", server trains")]
    for line, setting in zip(lines[2:], settings, strict=True):
        assert re.fullmatch(f"{setting}: 5 results, all equal{SECONDS}", line), result


@needs.mpi_jobs
@pytest.mark.slow
def test_a_module_and_its_arguments(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text(SCRIPT.read_text() + "print(sys.argv[1:])\n")
    words = ["env", f"--chdir={tmp_path}", *FEDMPI, "verify", "-n", "1,1", "-m", "package.train", "plain", "-n", "7"]
    result = run_command(words, timeout=60)
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[:2] == ["plain of 1", "['plain', '-n', '7']"]


@needs.mpi_jobs
@pytest.mark.slow
def test_a_launcher_of_ones_own(tmp_path):
    launcher = tmp_path / "my launcher"
    launcher.write_text(f'#!/bin/sh\necho "launched: $1 $2 $3" >&2\nshift\nexec "{jobs.mpiexec()}" "$@"\n')
    launcher.chmod(0o755)
    result = verified("plain", "-n", "1,2", "--launcher", f"'{launcher}' --mine")
    assert result.returncode == 0, result
    assert "launched: --mine -n 1" in result.stderr


# Programs that do not.


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize(
    ("way", "number", "text"),
    [
        ("server", 2, r"mean called at verified_job.py:\d+, type float32@SERVER"),
        ("clients", 3, r"doubled called at verified_job.py:\d+, type {float32}@CLIENTS"),  # a ClientData
        ("time", 2, r"mean called at verified_job.py:\d+, type float32@SERVER"),
    ],
)
def test_the_first_result_that_differs_is_named(way, number, text):
    result = verified(way, "-n", "1,1" if way == "time" else "1,2")
    assert result.returncode == 1, result
    lines = result.stderr.splitlines()
    assert re.fullmatch(f"fedmpi verify: result {number} differs: {text}", lines[0]), result
    found = [re.fullmatch(r"  (\d) ranks?: +sha256 ([0-9a-f]{64})", line) for line in lines[1:]]
    assert [match[1] for match in found] == (["1", "1"] if way == "time" else ["1", "2"])
    assert found[0][2] != found[1][2]


def record(number, **changed):
    line = {
        "number": number,
        "name": "mean",
        "where": "a.py:1",
        "type": "float32",
        "sha256": f"{number:064x}",
        "slowly": [],
    }
    return {**line, **changed}


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (
            [record(1), record(2, sha256="f" * 64), record(3, sha256="e" * 64)],
            [
                "result 2 differs: mean called at a.py:1, type float32",
                f"  1 rank:   sha256 {2:064x}",
                f"  3 ranks, server trains: sha256 {'f' * 64}",
            ],
        ),
        (
            [record(1), record(2, name="total", where="a.py:7"), record(3)],
            [
                "result 2 is not of the same computation",
                "  1 rank:   mean called at a.py:1, type float32",
                "  3 ranks, server trains: total called at a.py:7, type float32",
            ],
        ),
        (
            [record(1), record(2)],
            [
                "result 3 is missing: mean called at a.py:1, type float32",
                "  1 rank:   3 results",
                "  3 ranks, server trains: 2 results",
            ],
        ),
        (
            [record(1), record(2), record(3), record(4, name="more")],
            [
                "result 4 is missing: more called at a.py:1, type float32",
                "  1 rank:   3 results",
                "  3 ranks, server trains: 4 results",
            ],
        ),
    ],
)
def test_the_first_difference_is_told(changed, lines):
    first = [record(1), record(2), record(3)]
    with pytest.raises(CommandError) as caught:
        verify._compare(verify.Setting(1), first, verify.Setting(3, True), changed)
    assert str(caught.value).splitlines() == lines
    verify._compare(verify.Setting(1), first, verify.Setting(3, True), list(first))


OPEN = """
import numpy as np
import fedmpi as fm

@fm.federated_computation(fm.type_at_clients((np.float32, [None])))
def total(values):
    return fm.federated_max(values)

for _ in range(2):
    total([np.ones(2, np.float32)] * 3)
"""


@needs.mpi_jobs
@pytest.mark.slow
def test_what_runs_client_by_client_is_told_below_each_run(tmp_path):
    script = tmp_path / "open.py"
    script.write_text(OPEN)
    result = run_command([*FEDMPI, "verify", "-n", "1,2", script], timeout=60)
    assert result.returncode == 0, result
    told = r"  total: its clients are run client by client, for what is summed has sizes that its type leaves open"
    times = r"\(\d+\.\d s\)"
    assert re.fullmatch(
        rf"1 rank: 2 results {times}\n{told}\n2 ranks: 2 results, all equal {times}\n{told}\n", result.stdout
    ), result


@needs.mpi_jobs
@pytest.mark.slow
def test_a_run_with_another_exit_code():
    result = verified("code", "-n", "1,2")
    assert result.returncode == 1, result
    expected = ["fedmpi verify: 2 ranks: failed with exit code 3", "--- stdout", "code of 2", "code of 2"]
    assert result.stderr.splitlines()[:4] == expected, result


@needs.mpi_jobs
@pytest.mark.slow
def test_the_server_trains_if_asked():
    """The program returns the mean of the ranks that host its clients."""
    result = verified("hosts", "-n", "2", "--server-trains")
    assert result.returncode == 1, result
    text = r"result 6 differs: mean_host .*\n  2 ranks:  sha256 .*\n  2 ranks, server trains: sha256 "
    assert re.search(text, result.stderr), result


@pytest.mark.slow
@needs.mpi_jobs
def test_a_run_that_fails_shows_the_end_of_its_stderr():
    result = verified("raise", "-n", "1,2")
    assert result.returncode == 1, result
    assert "fedmpi verify: 2 ranks: failed with exit code 1\n" in result.stderr, result
    assert "[rank 1] ValueError: boom on 1" in result.stderr


@needs.mpi_jobs
def test_a_first_run_that_fails_ends_it():
    result = verified("raise", "-n", "2,1")
    assert result.returncode == 1, result
    assert result.stderr.endswith("fedmpi verify: 2 ranks: failed with exit code 1\n"), result


@needs.mpi_jobs
def test_a_program_without_results_is_no_success():
    result = verified("no computation", "-n", "1,2")
    assert result.returncode == 1, result
    assert "fedmpi verify: 1 rank: the program finished, but no result of a computation was recorded" in result.stderr


# Jobs that do not end.


@needs.mpi_jobs
@pytest.mark.slow
def test_a_run_that_hangs_is_ended():
    result = verified("hang", "-n", "1,2", "--timeout", "6", timeout=60)
    assert result.returncode == 1, result
    assert "fedmpi verify: 2 ranks: not finished after 6 s\n--- stdout\nhang of 2" in result.stderr, result
    assert result.stderr.count("hang of 2") == 2  # two ranks, maybe in one line


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(number):
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [*FEDMPI, "verify", "-n", "2,1", str(SCRIPT), "hang"],
        env={**job_environment(60), jobs.MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline().startswith("hang of 2")  # two ranks write, maybe into one line
            assert len(jobs.members_of(mark)) > 3  # this command, the launcher, two ranks
            process.send_signal(number)
            errors = process.communicate(timeout=30)[1]
            assert process.returncode == 130
            assert errors.splitlines()[-1] == "fedmpi verify: interrupted"
            assert jobs.members_of(mark) == []
        finally:
            jobs.end(mark)


# The command line.


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "fedmpi verify: expected a script or -m and a module"),
        (["no-such-script.py"], "fedmpi verify: no such file: no-such-script.py"),
        (["-n", "1,0", str(SCRIPT)], "argument -n: expected numbers of ranks such as 1,2,3, found '1,0'"),
        (["-n", "two", str(SCRIPT)], "argument -n: expected numbers of ranks such as 1,2,3, found 'two'"),
        (["-n", "3", str(SCRIPT)], "fedmpi verify: argument -n: expected at least two numbers of ranks to compare"),
        (["--timeout", "0", str(SCRIPT)], "argument --timeout: expected a number of seconds above 0, found '0'"),
        (["--launcher", "", str(SCRIPT)], "argument --launcher: expected a command, found an empty text"),
        (["--launcher", "'x", str(SCRIPT)], "argument --launcher: No closing quotation"),
    ],
)
def test_a_wrong_command_line_is_refused(words, text, capsys):
    assert main(["verify", *words]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert text in error
    assert error.count("\n") == 1


def test_it_starts_ranks_itself(monkeypatch, capsys):
    for name, value in {"MPI_LOCALRANKID": "0", "PMI_RANK": "0", "PMI_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert main(["verify", str(SCRIPT)]) == 2
    assert capsys.readouterr().err == ("fedmpi verify: start it without MPICH's mpiexec: it starts the ranks itself\n")


def test_a_launcher_that_is_missing(capsys):
    assert main(["verify", "--launcher", "no-such-launcher", str(SCRIPT)]) == 1
    assert capsys.readouterr().err == ("fedmpi verify: cannot start no-such-launcher: No such file or directory\n")


def test_a_missing_mpiexec(monkeypatch, capsys):
    monkeypatch.setattr(jobs, "mpiexec", lambda: None)
    assert main(["verify", str(SCRIPT)]) == 1
    assert "no mpiexec beside this Python or in PATH: say with --launcher" in capsys.readouterr().err


def test_each_number_of_ranks_once_more_with_a_server_that_trains():
    options = parser().parse_args(["verify", "-n", "1,3", "--server-trains", "x.py"])
    wanted = [(n, trains) for n in options.ranks for trains in (False, True) if verify._wanted(n, trains, options)]
    assert wanted == [(1, False), (3, False), (3, True)]


# The log.

LINE = (
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO call (\d+) (\w+) at verified_job\.py:\d+: [0-9.]+ ms"
    r"(?:, sha256 ([0-9a-f]{16}))?"
)


def calls(text):
    found = [re.fullmatch(LINE, line) for line in text.splitlines()]
    assert all(found), text
    return [match.groups() for match in found]


@pytest.mark.slow
@needs.mpi_jobs
def test_the_log_of_three_ranks_has_the_hashes_of_one(tmp_path):
    logs = {}
    for ranks in (1, 3):
        path = tmp_path / f"{ranks}.log"
        result = run_job(ranks, [*FEDMPI, "run", "--log", path, SCRIPT, "plain"], timeout=60)
        assert result.returncode == 0, result
        logs[ranks] = calls(path.read_text())
    names = [name for _, name, _ in logs[1]]
    assert names == ["mean", "doubled", "doubled", "adder_and_mean"]
    assert [call[1:] for call in logs[1]] == [call[1:] for call in logs[3]]
    assert [bool(digest) for *_, digest in logs[1]] == [True, False, True, True]  # a ClientData stays where it is


@needs.mpi_jobs
@pytest.mark.slow
def test_a_log_by_the_environment_goes_to_stderr_and_is_appended_to_a_file(tmp_path):
    result = run_job(2, [SCRIPT, "plain"], timeout=60, env={"FEDMPI_LOG": "-"})
    assert len(calls(result.stderr)) == 4, result
    path = tmp_path / "a.log"
    for _ in range(2):
        result = run_command([sys.executable, str(SCRIPT), "plain"], timeout=60, env={"FEDMPI_LOG": str(path)})
        assert result.stderr == ""
    assert len(calls(path.read_text())) == 8


@pytest.mark.slow
@needs.mpi_jobs
@pytest.mark.parametrize("words", [["run", SCRIPT, "plain"], ["tutorial"]])
def test_a_log_that_cannot_be_written_is_a_usage_error(tmp_path, words):
    path = tmp_path / "no folder" / "x.log"
    result = run_job(3, [*FEDMPI, words[0], "--log", path, *words[1:]], timeout=60)
    assert result.returncode == 2, result
    text = f"fedmpi {words[0]}: --log: cannot write the log to '{path}': No such file or directory"
    assert result.stderr.splitlines()[0] == text, result


@pytest.mark.slow
@needs.mpi_jobs
def test_a_log_of_the_environment_that_cannot_be_written_ends_the_job():
    result = run_job(3, [SCRIPT, "plain"], timeout=60, env={"FEDMPI_LOG": "/"})
    assert result.returncode == 1, result
    assert "LogError: FEDMPI_LOG: cannot write the log to '/': Is a directory" in result.stderr, result


def test_importing_fedmpi_installs_the_last_resort_alone():
    program = "import logging, fedmpi; log = logging.getLogger('fedmpi'); print(log.handlers, log.level, log.propagate)"
    environment = {name: value for name, value in os.environ.items() if name != "FEDMPI_LOG"}
    environment["PYTHONPATH"] = str(SCRIPT.parents[2])
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[<_LastResort (WARNING)>] 0 True\n"
