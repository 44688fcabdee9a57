"""Arguments, help, exit codes and formatting, in this process and without MPI."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.cli import info, published, tutorial
from fedmpi.cli.main import main, parser
from fedmpi.version import __version__
from tests.mpijob import ROOT

RANK_1 = {"MPI_LOCALRANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "3"}


@pytest.fixture
def second_rank(monkeypatch):
    """Let this process be rank 1 of 3, for all that looks at the launcher's environment."""
    for name, value in RANK_1.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("fedmpi.cli.main.FIRST_WORD", 0.0)


def test_without_a_command_it_prints_help(capsys):
    assert main([]) == 0
    output = capsys.readouterr().out
    assert "usage: fedmpi" in output
    for command in ("tutorial", "run", "verify", "bench", "info"):
        assert command in output


@pytest.mark.parametrize(
    "argv", [["--version"], ["--help"], ["tutorial", "--help"], ["run", "-h"], ["verify", "-h"], ["info", "-h"]]
)
def test_help_and_version_leave_with_0(argv, capsys):
    with pytest.raises(SystemExit) as leave:
        main(argv)
    assert leave.value.code == 0
    assert capsys.readouterr().out.startswith(f"fedmpi {__version__}" if argv[0] == "--version" else "usage: fedmpi")


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["run", "--help"]])
def test_only_rank_0_prints_help(argv, capsys, second_rank):
    with pytest.raises(SystemExit):
        main(argv)
    assert capsys.readouterr() == ("", "")


WRONG = [
    (["nonsense"], "fedmpi: argument COMMAND: invalid choice: 'nonsense'"),
    (["tutorial", "--rownds", "3"], "unrecognized arguments: --rownds 3"),
    (["tutorial", "--round", "3"], "unrecognized arguments: --round 3"),
    (["tutorial", "extra"], "unrecognized arguments: extra"),
    (["tutorial", "--rounds"], "fedmpi tutorial: argument --rounds: expected one argument"),
    (["tutorial", "--rounds", "0"], "--rounds: expected a whole number, at least 1, found '0'"),
    (["tutorial", "--rounds", "2.5"], "--rounds: expected a whole number, at least 1, found '2.5'"),
    (["tutorial", "--batch-size", "-1"], "--batch-size: expected a whole number, at least 1, found '-1'"),
    (["tutorial", "--clients", "9"], "--clients: expected a whole number, at least 10, found '9'"),
    (["tutorial", "--clients", "many"], "--clients: expected a whole number, at least 10, found 'many'"),
    (["run"], "fedmpi run: expected a script or -m and a module"),
    (["run", "-m"], "fedmpi run: expected a script or -m and a module"),
    (["run", "no-such-script.py"], "fedmpi run: no such file: no-such-script.py"),
]


@pytest.mark.parametrize(("argv", "text"), WRONG)
def test_a_wrong_command_line_is_refused_on_one_line(argv, text, capsys):
    assert main(argv) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert text in error
    assert error.count("\n") == 1


def test_only_rank_0_refuses_in_words(capsys, second_rank):
    assert main(["tutorial", "--rounds", "0"]) == 2
    assert capsys.readouterr() == ("", "")


def test_all_that_follows_a_script_belongs_to_it():
    options = parser().parse_args(["run", "--all-output", "train.py", "--all-output", "-m", "--help", "--", "x"])
    assert options.all_output
    assert not options.module
    assert options.words == ["train.py", "--all-output", "-m", "--help", "--", "x"]
    options = parser().parse_args(["run", "-m", "package.train", "-v"])
    assert options.module
    assert options.words == ["package.train", "-v"]


@pytest.mark.parametrize("words", ["--version", "--help", ""])
def test_help_and_version_load_neither_numba_nor_mpi(words):
    program = (
        "import sys\n"
        "from fedmpi.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'numba', 'scipy', 'mpi4py', 'mpi4py.MPI', 'matplotlib', 'threadpoolctl'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_published_table_is_complete():
    assert len(published.NUMBERS) == 18
    assert len(published.TYPES) == 8
    assert all(isinstance(number, float) and math.isfinite(number) for number in published.NUMBERS.values())


def options(*words):
    return parser().parse_args(["tutorial", *words])


@pytest.mark.parametrize("words", [[], ["--rounds", "20"], ["--batch-size", "100", "--clients", "10"]])
def test_published_numbers_belong_to_the_tutorials_data(words):
    assert tutorial.comparable(options(*words))


@pytest.mark.parametrize("words", [["--batch-size", "50"], ["--clients", "11"], ["--data", "folder"]])
def test_published_numbers_do_not_belong_to_other_data(words):
    assert not tutorial.comparable(options(*words))


def test_rows_are_aligned():
    model = "0123456789abcdef"
    lines = [
        tutorial.heading(True),
        tutorial.row("round 1, loss", 20.365677, True, model),
        tutorial.row("round 9, loss", 1.5, True, model),
    ]
    assert len({len(line.lstrip("\n")) for line in lines}) == 1
    assert lines[1].split()[-4:] == ["20.365677", "20.365678787231445", "8.8e-08", model]
    assert lines[2].split()[-4:] == ["1.5", "-", "-", model]
    assert tutorial.row("round 1, loss", 20.365677, True) == lines[1].removesuffix(f"  {model}")
    assert tutorial.row("round 1, loss", 20.365677, False).split()[-1] == "20.365677"


def verdict(capsys, **changed):
    wrong = tutorial._write_verdict({**published.NUMBERS, **changed}, True)
    return wrong, capsys.readouterr().out


def test_a_number_that_differs_is_counted_and_named(capsys):
    wrong, text = verdict(capsys)
    assert wrong == []
    assert "18 of 18 numbers agree with the published ones within 2e-06 (relative)" in text
    name = "round 1, loss"
    for number in (published.NUMBERS[name] * (1 + 3e-6), math.nan, math.inf, -published.NUMBERS[name]):
        wrong, text = verdict(capsys, **{name: number})
        assert wrong == [name]
        assert "17 of 18 numbers agree" in text


def test_a_number_without_a_published_one_is_not_counted(capsys):
    wrong, text = verdict(capsys, **{"round 9, loss": 3.0})
    assert wrong == []
    assert "18 of 18" in text


def test_a_type_that_differs_is_named(capsys, monkeypatch):
    from fedmpi import tutorial as program

    monkeypatch.setattr(program, "MODEL_TYPE", fm.to_type(np.float32))
    assert tutorial._compare_types(program) == ["MODEL_TYPE"]
    text = capsys.readouterr().out
    assert "  published: <weights=float32[784,10],bias=float32[10]>" in text
    assert "7 of 8 types equal the published ones" in text


def test_spans():
    assert info.spans([3, 0, 1, 5, 6, 7]) == "0-1, 3, 5-7"
    assert info.spans([2]) == "2"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MPICH Version:      5.0.2\nMPICH Release date: today\n\0", "MPICH 5.0.2"),
        ("Open MPI v5.0.11, package: Open MPI root@x Distribution, ident: 5.0.11", "Open MPI v5.0.11"),
    ],
)
def test_library_name(text, name):
    assert info.library_name(text) == name


def about(rank, **changed):
    facts = {
        "rank": rank,
        "host": f"node{rank // 2}",
        "cores": [0, 1, 2],
        "threads": {"Numba": 1, "openblas 0.3": 1},
        "versions": {"fedmpi": "1.0", "numpy": "2.0"},
        "cache": "/home/me/.cache/fedmpi",
    }
    return json.loads(json.dumps({**facts, **changed}))


def test_the_report_lists_hosts_with_ranks_and_cores():
    lines = info.report([about(rank) for rank in range(3)], "MPICH Version: 5.0.2\n", "")
    assert "MPI library  MPICH 5.0.2" in lines
    assert "ranks        3; rank 0 is the server, ranks 1-2 host the clients" in lines
    assert "host         node0: ranks 0-1 on 3 cores (0-2)" in lines
    assert "host         node1: rank 2 on 3 cores (0-2)" in lines
    assert "threads      Numba: 1, openblas 0.3: 1" in lines
    assert not any("warning" in line for line in lines)


def test_the_report_warns_of_ranks_that_differ_and_of_too_many():
    other = about(1, versions={"fedmpi": "1.0", "numpy": "1.26"}, cores=[0])
    lines = info.report([about(0, cores=[0]), other], "MPICH Version: 5.0.2\n", "")
    assert "warning: rank 1 differs: numpy 1.26 instead of 2.0" in lines
    assert "host         node0: ranks 0-1 on 1 core (0); more ranks than cores" in lines


def test_the_report_without_mpi_says_how_to_install_one():
    lines = info.report([about(0, cache=None)], "", 'Install one with  pip install "fedmpi[mpich]"')
    assert "MPI library  none" in lines
    assert "cache        none: compiled code is not kept" in lines
    assert "fedmpi[mpich]" in lines[-1]


def test_options_are_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["tutorial", "--help"])
    text = capsys.readouterr().out
    for option in ("--rounds N", "--batch-size N", "--clients K", "--data FOLDER", "--plot DIR", "--log FILE"):
        assert option in text
