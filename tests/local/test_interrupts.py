"""What the handler of a signal raises while compiled code runs arrives as itself."""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.jit.interrupts import is_of_handler, run
from tests.programs import AT_CLIENTS, AT_SERVER, F32

SEQUENCE, I64 = fm.SequenceType(F32), np.int64


@fm.numba_computation(SEQUENCE, I64)
def work(xs, times):
    total = 0.0
    for x in xs:
        for _ in range(times):
            total = np.sin(total + x)
    return np.float32(total)


@fm.federated_computation(AT_CLIENTS(SEQUENCE), AT_SERVER(I64))
def at_clients(values, times):
    return fm.federated_sum(fm.federated_map(work, [values, fm.federated_broadcast(times)]))


@fm.federated_computation(AT_SERVER(SEQUENCE), AT_SERVER(I64))
def at_server(xs, times):
    return fm.federated_map(work, [xs, times])


WAYS = {
    "loop": (fm.MpiContext, at_clients, [[1.0, 2.0]] * 4),
    "client by client": (lambda: fm.MpiContext(fuse=False), at_clients, [[1.0, 2.0]] * 4),
    "reference": (fm.ReferenceContext, at_clients, [[1.0, 2.0]] * 4),
    "server": (fm.MpiContext, at_server, [1.0] * 8),
    "body": (fm.MpiContext, work, [1.0] * 8),
}


class TooLong(Exception):
    pass


@pytest.fixture
def after():
    """Let a signal's handler raise something soon."""

    def raise_soon(error):
        def handler(number, frame):
            raise error

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)

    before = signal.getsignal(signal.SIGALRM)
    yield raise_soon
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), SystemExit(3), TooLong("a second", 1)])
def test_it_arrives_as_itself_and_the_program_may_go_on(way, error, after):
    context, computation, data = WAYS[way]
    with context():
        want = computation(data, 10)
        after(error)
        with pytest.raises(type(error)) as caught:
            computation(data, 1_000_000)
        assert caught.value is error
        assert computation(data, 10) == want


def found(error):
    """Return a SystemError as the interpreter makes it where a C function gives a result beside an exception."""
    try:
        raise SystemError("returned a result with an exception set") from error
    except SystemError as made:
        return made


def raising(error):
    def entry():
        raise error

    return entry


def test_of_several_functions_on_the_way():
    stop = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        run(raising(found(found(stop))))
    assert caught.value is stop
    assert run(lambda a, b: (a, b), 1, b=2) == (1, 2)


@pytest.mark.parametrize("error", [SystemError("its own"), found(SystemError("of another")), ValueError("of the user")])
def test_other_errors_stay(error):
    with pytest.raises(type(error)) as caught:
        run(raising(error))
    assert caught.value is error
    assert not is_of_handler(error)


def test_handlers_of_every_kind(after):
    class Handler:
        def __call__(self, number, frame):
            raise TooLong("object")

        def method(self, number, frame):
            raise TooLong("method")

    for handler in (Handler(), Handler().method):
        after(None)
        signal.signal(signal.SIGALRM, handler)
        with pytest.raises(TooLong) as caught:
            signal.raise_signal(signal.SIGALRM)
        assert is_of_handler(caught.value)
    assert sys.exc_info() == (None, None, None)


def test_what_looks_like_a_handler_is_none():
    """The system's handlers are members of an enum, and so may be what a client gets wrong."""
    with pytest.raises(ValueError, match="5000") as caught:
        signal.Handlers(5000)
    assert not is_of_handler(caught.value)
