"""Nothing hangs: real programs under plain mpiexec in which a rank leaves, fails, disagrees or works for long."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import needs
from tests.mpijob import ROOT, TIMED_OUT, WITHIN, mpiexec, run_command, run_job

JOB = Path(__file__).with_name("faults_job.py")

pytestmark = [needs.mpi_jobs, pytest.mark.slow]


def run(ranks, *words, within=WITHIN):
    """Run a program of faults_job.py; whatever happens in it, it ends in time."""
    result = run_job(ranks, [JOB, *words], timeout=60)
    assert result.returncode != TIMED_OUT, result
    assert result.seconds < within, result
    return result


def ends(result, code, said=()):
    """Assert the exit code and what has been said, and that the job needed an end if that is not 0."""
    assert result.returncode == code, result
    for text in [said] if isinstance(said, str) else said:
        assert re.search(text, result.stderr), (text, result)


def ends_well(result, ranks):
    assert result.returncode == 0, result
    assert result.stdout.count("done") == ranks, result
    assert result.stderr == "", result


# --- a rank leaves ---

PLACES = ("before", "between", "client", "server", "packing", "after")
DEATHS = ("os._exit(1)", "SIGKILL", "SIGTERM")


def departures():
    """Give way, place, rank and number of ranks: every way at every place, by rank 0 or the last one, in turn."""
    for i, place in enumerate(PLACES):
        softly = "sys.exit(0)", "raise SystemExit"
        deaths = DEATHS if place == "before" else (DEATHS[i % 3],)
        for k, way in enumerate(("raise", "sys.exit(3)", "SIGINT", softly[i % 2], *deaths)):
            ranks = 2 + (i + k // 2) % 2
            who = 0 if place == "server" or (i + k) % 2 else ranks - 1
            yield way, place, who, ranks


@pytest.mark.parametrize(("way", "place", "who", "ranks"), list(departures()))
def test_leaving(way, place, who, ranks):
    result = run(ranks, "leave", way, place, who)
    calls = {"before": 0, "between": 2}.get(place, 2)  # the first is that in which the ranks meet
    early = rf"\[rank {who}\] rank {who} ended its script after {calls} calls.*; rank \d waits in call {calls + 1} \("
    if way in DEATHS:
        assert result.returncode != 0, result
    elif way == "raise" and place in ("client", "server", "packing"):
        ends(result, 1, [rf"\[rank {rank}\] \w+Error: (train|client_data): " for rank in range(ranks)])
        assert "waits in" not in result.stderr, result
        assert f"boom on {who}" in result.stderr or place == "packing", result
    elif way == "raise":
        ends(result, 1, [rf"\[rank {who}\] ValueError: boom on {who}", early if place != "after" else ""])
    elif way == "SIGINT":
        ends(result, 130, [rf"\[rank {who}\] KeyboardInterrupt", early if place != "after" else ""])
    elif place == "after":
        ends(result, 3 if way == "sys.exit(3)" else 0)
        assert "waits in" not in result.stderr, result
    else:
        ends(result, 3 if way == "sys.exit(3)" else 1, early)
        if way.startswith("sys.exit"):
            assert f"[rank {who}] {way} was called at\n" in result.stderr, result


@pytest.mark.parametrize(("number", "code"), [("2", 130), ("15", None)])
def test_a_signal_to_a_rank_that_waits(number, code):
    result = run(3, "signalled_while_waiting", number)
    assert result.returncode == (code or result.returncode) != 0, result


@pytest.mark.parametrize("way", ["SIGINT", "sys.exit(3)"])
def test_a_rank_that_leaves_a_call_cannot_go_on(way):
    said = (
        r"\[rank 2\] left call 2 \(train at .*\) by an exception that no other rank knows of, caught it, and now calls"
    )
    ends(run(3, "exit_caught", way), 1, said)


# --- ranks disagree ---

DISAGREE = r"\[rank {}\] the ranks disagree: "
PROGRAMS = "they run different programs"
COUNTS = "in parameter values: a list of 4 clients on rank 0, a list of 3 clients on rank 1"
SIZES = "{}, the size of client 0: 9 examples on rank 0, 1 example on rank 1"


@pytest.mark.parametrize(
    ("name", "who", "said"),
    [
        ("fewer", 0, "rank 0 ended its script after 3 calls; rank 1 waits in call 4"),
        ("fewer", 1, "rank 1 ended its script after 3 calls; rank 0 waits in call 4"),
        ("more", 0, "rank 1 ended its script after 3 calls; rank 0 waits in call 4"),
        ("more", 1, "rank 0 ended its script after 3 calls; rank 1 waits in call 4"),
        ("different", 0, PROGRAMS),
        ("different", 1, PROGRAMS),
        ("different_types", 1, PROGRAMS),
        ("replicate_alone", 0, PROGRAMS),
        ("replicate_alone", 1, PROGRAMS),
        ("client_data_alone", 0, PROGRAMS),
        ("client_data_alone", 1, PROGRAMS),
    ],
)
def test_ranks_that_disagree(name, who, said):
    result = run(3 if who == 0 else 2, name, who)
    ends(result, 1, said)
    if said == PROGRAMS:
        ends(result, 1, DISAGREE.format("[12]"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("different_clients", "evaluate: the ranks differ " + COUNTS),
        ("different_lists", "count_all: the ranks differ " + SIZES.format("in parameter readings")),
        ("different_lists_packed", "client_data: the ranks differ " + SIZES.format("in parameter values")),
        (
            "different_client_data",
            "count_all: the ranks differ in parameter readings, what it was made of: a ClientData, and other numbers",
        ),
        (
            "different_homes",
            "count_both: the ranks differ in parameter second, what it was made of: a ClientData, and other numbers",
        ),
    ],
)
def test_ranks_that_give_other_arguments(name, said):
    result = run(3, name, 1)
    ends(result, 1, [rf"\[rank {rank}\] ValueError: {said}" for rank in range(3)])


def test_ranks_of_different_scripts(tmp_path):
    program = (
        "import numpy as np, fedmpi as fm\n"
        "@fm.federated_computation(fm.type_at_clients(np.float32))\n"
        "def total(values):\n    return fm.federated_{}(values)\n"
        "total([1.0, 2.0])\n"
    )
    words = [mpiexec()]
    for name, operator, ranks in (("a", "sum", "1"), ("b", "mean", "2")):
        script = tmp_path / f"{name}.py"
        script.write_text(program.format(operator))
        words += [":"] * (len(words) > 1) + ["-n", ranks, sys.executable, str(script)]
    result = run_command(words, timeout=60, env={"PYTHONPATH": str(ROOT)})
    ends(result, 1, [DISAGREE.format("[12]") + PROGRAMS, r"rank 0 calls total \(a\.py:2\)", r"calls total \(b\.py:2\)"])
    assert result.seconds < WITHIN, result


# --- all ranks get the same error ---


def told_by(ranks):
    """Return what each rank caught, by the error: classes, text, its length, whether the user's line is told."""
    result = run(ranks, "errors")
    ends_well(result, ranks)
    # The launcher may put another rank's "done" beside a line.
    lines = [json.loads(line) for line in re.findall(r'\["[^\n]*\]', result.stdout)]
    return {name: [tuple(map(_frozen, caught)) for caught in everyone] for name, everyone in lines}


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


AT_A_CLIENT = r"client \d of values \(rank \d\), in client_work \(faults_job.py:\d+\)"
CAUGHT = {
    "in a kernel": (
        "ValueError",
        r"^program: federated_map at .*: client 1 of values \(rank \d\), in compiled \(faults_job.py:\d+\): negative$",
    ),
    "at the server": ("ValueError", r"^train: federated_map at the server, .*: boom on 0$"),
    "while packing": ("TypeError", r"^client_data: parameter values, client \d: expected float32, found a Packed"),
    "two ranks": ("ValueError", r"client 0 of values \(rank 1\), in client_work \(faults_job.py:\d+\): boom on 1$"),
    "server argument": ("TypeError", "^train: parameter start: expected float32, found str 'text'"),
    "with functions": ("TypeError", "^apply_at_server: parameter pair: expected .*, found float 5.0"),
    "nested": ("ContextError", "evaluate is collective and cannot be called inside a local computation"),
    "nested at the server": ("ContextError", "evaluate is collective and cannot be called inside a local computation"),
    "ValueError": ("ValueError", AT_A_CLIENT + r": boom on \d$"),
    "MemoryError": ("MemoryError", AT_A_CLIENT + "$"),
    "RecursionError": ("RecursionError", "maximum recursion depth exceeded"),
    "strange": ("Strange", "^strange 7: tired$"),
    "unspeakable": ("RemoteError", r"^Unspeakable: train: .*: \(its text cannot be made: RuntimeError\)$"),
    "stubborn": ("Stubborn", "^train: .*: text$"),
    "cause": ("ValueError", "outer$"),
    "huge": ("ValueError", "xxx$"),
    "not ASCII": ("ValueError", "Grüße 🎲 \udcff$"),
    "local class": ("RemoteError", r"^local_class\.<locals>\.Local: train: .*: of a function$"),
    "another module": ("RemoteError", "^Missing: train: .*: elsewhere$"),
    "warning": ("UserWarning", "careful$"),
    "group": ("ExceptionGroup", r"^several \(2 sub-exceptions\)$"),
    "UnicodeEncodeError": ("UnicodeEncodeError", "surrogates not allowed$"),
    "UnicodeDecodeError": ("UnicodeDecodeError", "invalid start byte$"),
    "StopIteration": ("StopIteration", AT_A_CLIENT + "$"),
    "OSError": ("FileNotFoundError", r"^\[Errno 2\] train: .*: No such file or directory: '/does/not/exist'$"),
    "no text": ("AssertionError", AT_A_CLIENT + "$"),
    "KeyError": ("KeyError", ": key'$"),
}
BEFORE_USER_CODE = ("in a kernel", "while packing", "server argument", "with functions")


@pytest.mark.parametrize("ranks", [2, 3])
def test_every_error_is_the_same_on_all_ranks_and_the_program_goes_on(ranks):
    told = told_by(ranks)
    assert list(told) == list(CAUGHT)
    for name, (kind, text) in CAUGHT.items():
        assert len(told[name]) == ranks
        assert len(set(told[name])) == 1, (name, told[name])
        classes, said, length, user_line = told[name][0]
        assert classes[0] == kind, (name, classes)
        assert re.search(text, said), (name, said)
        assert user_line == (name not in BEFORE_USER_CODE), name
        assert length > 1_000_000 if name == "huge" else length < 300


@pytest.mark.parametrize("name", ["cause", "huge", "not ASCII", "strange"])
def test_an_uncaught_error_is_printed_by_each_rank(name):
    result = run(3, "uncaught", name)
    place = ".*(\n.*)?train: federated_map at "  # in its text, or the note below
    ends(result, 1, [rf"\[rank {rank}\] (\w+\.)*(\w*Error|Strange): {place}" for rank in range(3)])
    assert "waits in" not in result.stderr, result
    if name == "cause":
        for rank in range(3):
            assert re.search(rf"\[rank {rank}\].* line \d+, in with_a_cause", result.stderr), result
            assert re.search(rf"\[rank {rank}\].*KeyError: 'inner'", result.stderr), result


@pytest.mark.parametrize("name", ["catch_and_go_on", "error_in_every_round", "result_refused"])
def test_errors_that_are_caught(name):
    ends_well(run(3, name), 3)


# --- no errors ---


@pytest.mark.parametrize(
    ("words", "ranks"),
    [
        (("local_alone", 0), 3),
        (("local_alone", 1), 2),
        (("long_work_after_the_last_call",), 3),
        (("long_work_at_a_client",), 3),
        (("server_trains",), 2),
        (("halves",), 3),
        (("halves",), 2),
    ],
)
def test_what_is_no_error(words, ranks):
    ends_well(run(ranks, *words, within=60), ranks)  # nothing is promised of how long what is right takes


@pytest.mark.parametrize("who", [1, "all"])
def test_a_cache_that_cannot_be_written(who):
    """A rank then compiles for itself, and says why."""
    result = run(2, "cache_is_no_folder", who, within=60)
    said = [line for line in result.stderr.splitlines() if "FEDMPI_CACHE_DIR: compiled code is not kept" in line]
    assert len(said) == (2 if who == "all" else 1), result
    ends_well(replace(result, stderr=""), 2)


@pytest.mark.parametrize("who", [0, 1])
def test_a_closed_stdout(who):
    result = run(2, "stdout_closed", who)
    assert result.returncode == 0, result
    assert result.stdout.count("done") == 1, result
    assert result.stderr == "", result


@pytest.mark.parametrize("who", [0, 1])
def test_an_error_that_nobody_can_print_ends_the_job(who):
    ends(run(3, "closed_streams_and_an_error", who), 1)


def test_an_error_in_a_thread_is_printed_and_the_script_goes_on():
    """As in Python without MPI; `fedmpi run` ends the job."""
    result = run(2, "thread_raises", 1)
    assert result.returncode == 0, result
    assert result.stdout.count("done") == 2, result
    assert "ValueError: boom on 1" in result.stderr, result


# --- several communicators ---


def test_an_error_in_one_of_several_communicators_names_the_rank_of_the_job():
    said = [
        r"\[rank 2\] ValueError: boom on 2",
        "rank 2 ended its script after 3 calls with ValueError; rank 1 waits in",
    ]
    ends(run(3, "halves_then_raise"), 1, said)


def test_an_exit_in_one_of_several_communicators():
    ends(run(3, "halves_then_exit"), 3, "rank 2 ended its script after 3 calls; rank 1 waits in call 4")


def test_opening_a_communicator_whose_ranks_have_left():
    said = "rank 1 ended its script after 3 calls; rank 2 waits in call 3 \\(outside a federated computation\\)"
    result = run(3, "halves_then_world")
    ends(result, result.returncode, said)
    assert result.returncode != 0, result  # 1, but Open MPI's mpiexec may crash over an abort from there
