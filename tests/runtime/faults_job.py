"""The programs of test_faults.py: real federated computations, and what can go wrong around and inside them.

    faults_job.py leave WAY PLACE RANK    the rank leaves in some way at some place of a program of three rounds
    faults_job.py NAME [RANK]             one of the programs below

A program that comes to its end says "done" once for each rank.
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import types
import warnings
from dataclasses import dataclass

import numpy as np

import fedmpi as fm
from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.comm import Communicator

F32 = np.float32
started = launch.detect()
RANK, SIZE = (started.rank, started.size) if started else (0, 1)
LAST = SIZE - 1
VALUES = [1.0, 2.0, 3.0, 4.0]
at_place = {}  # what user code does when it comes to a place: "client", "server", "packing"


def reach(place):
    at_place.get(place, lambda: None)()


@fm.python_computation(F32, result=F32)
def client_work(x):
    reach("client")
    return x + 1


@fm.python_computation(F32, result=F32)
def server_work(x):
    reach("server")
    return x * 2


@fm.federated_computation(fm.type_at_server(F32), fm.type_at_clients(F32))
def train(start, values):
    return fm.federated_map(server_work, fm.federated_mean(fm.federated_map(client_work, values))), start


@fm.federated_computation(fm.type_at_clients(F32))
def evaluate(values):
    return fm.federated_sum(values)


READINGS = fm.type_at_clients(fm.SequenceType(F32))


@fm.federated_computation(READINGS)
def count_all(readings):
    return fm.federated_sum(fm.sequence_sum(readings))


@fm.federated_computation(READINGS, READINGS)
def count_both(first, second):
    return fm.federated_sum(fm.sequence_sum(first)), fm.federated_sum(fm.sequence_sum(second))


@fm.federated_computation(fm.FunctionType(F32, F32), (fm.type_at_server(F32), fm.type_at_server(F32)))
def apply_at_server(function, pair):
    return fm.federated_map(function, pair[0])


class Packed:
    """A number that user code makes while it is packed."""

    def __array__(self, dtype=None, copy=None):
        reach("packing")
        return np.array(1.0, F32)


def rounds(times=1):
    for _ in range(times):
        train(1.0, VALUES)


def on(rank, action):
    return lambda: action() if rank == RANK else None


# --- leaving ---


def boom():
    raise ValueError(f"boom on {RANK}")


def raise_system_exit():
    raise SystemExit


def killed_by(number):
    def send():
        os.kill(os.getpid(), number)
        time.sleep(60)

    return send


WAYS = {
    "raise": boom,
    "sys.exit(0)": lambda: sys.exit(0),
    "sys.exit(3)": lambda: sys.exit(3),
    "raise SystemExit": raise_system_exit,
    "os._exit(1)": lambda: os._exit(1),
    "os._exit(0)": lambda: os._exit(0),
    "SIGKILL": killed_by(signal.SIGKILL),
    "SIGTERM": killed_by(signal.SIGTERM),
    "SIGINT": lambda: signal.raise_signal(signal.SIGINT),
}


def leave(way, place, rank):
    act = on(int(rank), WAYS[way])
    fm.set_default_context(fm.MpiContext(server_trains=int(rank) == 0))
    if place == "before":
        act()
    rounds()
    if place == "between":
        act()
    if place in ("client", "server", "packing"):
        at_place[place] = act
    if place == "packing":
        fm.client_data([Packed()] * 4, F32)
    rounds(2)
    if place == "after":
        act()


def signalled_while_waiting(number):
    """A rank gets a signal while it waits for another one, which works for long."""
    rounds()
    if RANK == 0:
        timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), int(number)))
        timer.daemon = True
        timer.start()
    at_place["client"] = on(LAST, lambda: time.sleep(60))
    rounds()


def exit_caught(way):
    """A rank catches what ends its part in a call, and goes on."""
    at_place["client"] = on(LAST, WAYS[way])
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        rounds()
    at_place.clear()
    rounds(3)


@dataclass
class Loss:
    """A container of the user's whose making is refused on rank 0."""

    value: object

    def __post_init__(self):
        reach("result")


def result_refused():
    """What a rank makes of a result is its own: all messages have been sent by then."""

    @fm.federated_computation(fm.type_at_clients(F32))
    def program(values):
        return Loss(fm.federated_sum(values))

    program(VALUES)
    at_place["result"] = on(0, boom)
    with contextlib.suppress(ValueError):
        program(VALUES)
        assert RANK != 0
    at_place.clear()
    program(VALUES)


# --- ranks that disagree ---


def fewer(rank):
    rounds(2 if int(rank) == RANK else 3)


def more(rank):
    rounds(3 if int(rank) == RANK else 2)


def different(rank):
    rounds()
    evaluate(VALUES) if int(rank) == RANK else rounds()


def different_clients(rank):
    rounds()
    evaluate(VALUES[:3] if int(rank) == RANK else VALUES)


LENGTHS = [9, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]


def different_lists(rank):
    """The same number of clients, but with so much work that they go to other ranks."""
    count_all([[1.0] * n for n in LENGTHS[int(rank) == RANK]])


def different_lists_packed(rank):
    fm.client_data([[1.0] * n for n in LENGTHS[int(rank) == RANK]], fm.SequenceType(F32))


def different_client_data(rank):
    """All ranks have both, and choose differently."""
    both = [fm.client_data([[1.0] * n for n in lengths], fm.SequenceType(F32)) for lengths in LENGTHS]
    count_all(both[int(rank) == RANK])


def different_homes(rank):
    """What is moved, and from where, must be the same as well."""
    both = [fm.client_data([[1.0] * n for n in lengths], fm.SequenceType(F32)) for lengths in LENGTHS]
    count_both(both[0], both[int(rank) == RANK])


def different_types(rank):
    fm.client_data([1, 2, 3], np.int32 if int(rank) == RANK else np.int64)


def replicate_alone(rank):
    rounds()
    fm.replicate(5) if int(rank) == RANK else rounds()


def client_data_alone(rank):
    rounds()
    fm.client_data(VALUES, F32) if int(rank) == RANK else rounds()


def local_alone(rank):
    rounds()
    if int(rank) == RANK:
        assert client_work(3.0) == 4.0
    rounds()


# --- no errors ---


def long_work_after_the_last_call():
    rounds(2)
    if RANK == 0:
        work_for(4)


def long_work_at_a_client():
    at_place["client"] = on(LAST, lambda: work_for(4 / (4 if SIZE == 2 else 2)))
    rounds()


def work_for(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def server_trains():
    fm.set_default_context(fm.MpiContext(server_trains=True))
    rounds(3)


def cache_is_no_folder(rank):
    """On one rank compiled code cannot be stored."""
    if rank == "all" or int(rank) == RANK:
        os.environ["FEDMPI_CACHE_DIR"] = __file__
    assert fm.replicate(compiled_program()(VALUES)) == 14.0


def compiled_program():
    @fm.numba_computation(F32)
    def compiled(x):
        if x < 0:
            raise ValueError("negative")
        return x + 1

    @fm.federated_computation(fm.type_at_clients(F32))
    def program(values):
        return fm.federated_sum(fm.federated_map(compiled, values))

    return program


def thread_raises(rank):
    if int(rank) == RANK:
        thread = threading.Thread(target=boom)
        thread.start()
        thread.join()
    rounds(2)


def stdout_closed(rank):
    rounds()
    if int(rank) == RANK:
        sys.stdout.close()
        with contextlib.suppress(OSError):
            os.close(1)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        print("nobody hears that")
    rounds(2)


def closed_streams_and_an_error(rank):
    rounds()
    if int(rank) == RANK:
        sys.stdout.close()
        sys.stderr.close()
        boom()
    rounds(2)


# --- several communicators ---


def halves():
    from mpi4py import MPI

    context = fm.MpiContext(comm=MPI.COMM_WORLD.Split(min(RANK, 1), RANK))
    fm.set_default_context(context)
    rounds(2)
    return context


def halves_then_raise():
    halves()
    if RANK == LAST:
        boom()
    rounds(2)


def halves_then_exit():
    halves()
    if RANK == LAST:
        sys.exit(3)
    rounds(2)


def halves_then_world():
    """A rank goes on with all ranks while the others have ended."""
    halves()
    if RANK == LAST:
        fm.set_default_context(fm.MpiContext())
        rounds()


# --- errors that all ranks get ---


class Strange(Exception):
    """Cannot be made from a text."""

    def __new__(cls, code, *, reason):
        return super().__new__(cls)

    def __init__(self, code, *, reason):
        self.code, self.reason = code, reason

    def __str__(self):
        return f"strange {self.code}: {self.reason}"


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Stubborn(ValueError):
    args = property(lambda self: ("fixed",))


def with_a_cause():
    try:
        {}["inner"]
    except KeyError as inner:
        raise ValueError("outer") from inner


def recurse():
    recurse()


def local_class():
    class Local(ArithmeticError):
        pass

    raise Local("of a function")


def class_of_another_module():
    module = sys.modules["only_here"] = types.ModuleType("only_here")
    exec("class Missing(LookupError): pass", module.__dict__)
    raise module.Missing("elsewhere")


def warn_as_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("careful", UserWarning, stacklevel=1)


def throw(make):
    def user_code():
        raise make()

    return user_code


def out_of_memory():
    raise MemoryError


AT_CLIENT = {
    "ValueError": boom,
    "MemoryError": out_of_memory,
    "RecursionError": recurse,
    "strange": throw(lambda: Strange(7, reason="tired")),
    "unspeakable": throw(lambda: Unspeakable(1, 2)),
    "stubborn": throw(lambda: Stubborn("text")),
    "cause": with_a_cause,
    "huge": throw(lambda: ValueError("x" * 1_000_000)),
    "not ASCII": throw(lambda: ValueError("Grüße 🎲 \udcff")),
    "local class": local_class,
    "another module": class_of_another_module,
    "warning": warn_as_error,
    "group": throw(lambda: ExceptionGroup("several", [ValueError("one"), KeyError("two")])),
    "UnicodeEncodeError": lambda: "\udcff".encode(),
    "UnicodeDecodeError": lambda: b"\xff".decode(),
    "StopIteration": lambda: next(iter(())),
    "OSError": lambda: os.stat("/does/not/exist"),
    "no text": throw(AssertionError),
    "KeyError": lambda: {}["key"],
}


def at(place, action):
    def run():
        at_place[place] = action
        try:
            fm.client_data([Packed()] * 4, F32) if place == "packing" else train(1.0, VALUES)
        finally:
            at_place.clear()

    return run


def nested():
    evaluate(VALUES)


def errors():
    """Every error is the same on all ranks, says where it arose, and the program goes on."""
    program = compiled_program()
    report("in a kernel", lambda: program([1.0, -1.0, 2.0, -1.0]))
    report("at the server", at("server", boom))
    report("while packing", at("packing", on(LAST, boom)))
    report("two ranks", at("client", boom))
    report("server argument", lambda: train("text" if RANK == 0 else None, VALUES))
    report("with functions", lambda: apply_at_server(client_work, 5.0 if RANK == 0 else None))
    report("nested", at("client", on(LAST, nested)))
    report("nested at the server", at("server", nested))
    for name, action in AT_CLIENT.items():
        report(name, at("client", on(LAST, action)))


def report(name, action):
    """Print as JSON what each rank caught: class and its bases, text, whether the user's line is told."""
    caught = None
    try:
        action()
    except Exception as error:
        caught = error
    try:
        text = str(caught)
    except Exception:
        text = "(no text)"
    told = "".join(traceback.format_exception(caught)) if caught else ""
    user_line = re.search(r"File .*faults_job.py\", line \d+, in (client_work|server_work|__array__)", told) is not None
    mine = [[c.__name__ for c in type(caught).__mro__], text[:300], len(text), user_line]
    parts = Communicator.open().allgather_bytes(np.frombuffer(json.dumps(mine).encode(), np.uint8))
    rounds()  # the ranks are still together
    if RANK == 0:
        print(json.dumps([name, [json.loads(part.tobytes()) for part in parts]]), flush=True)


def catch_and_go_on():
    at_place["client"] = on(LAST, boom)
    with contextlib.suppress(ValueError):
        rounds()
    at_place.clear()
    rounds(3)


def error_in_every_round():
    at_place["client"] = on(LAST, boom)
    for _ in range(20):
        with contextlib.suppress(ValueError):
            rounds()


def uncaught(name):
    at_place["client"] = on(LAST, AT_CLIENT[name])
    rounds()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
    print("done", flush=True)
