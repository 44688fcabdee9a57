"""How a stage's clients are run: decided by the clients of the call alone, and said by the plan."""

from __future__ import annotations

import logging

import numba.core.event
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.runtime.plan.decision import COMPILED_FROM, From, No, Yes, in_words, is_compiled
from fedmpi.runtime.stage import loop
from tests.programs import AT_CLIENTS, AT_SERVER, F32, plus

SEQUENCE = fm.SequenceType(F32)
FROM = "one compiled loop from 100 clients a call on"


@fm.numba_computation(F32)
def twice(x):
    return x * F32(2)


@fm.numba_computation(SEQUENCE)
def total_of(xs):
    total = F32(0)
    for x in xs:
        total += x
    return total


@fm.federated_computation(AT_CLIENTS(F32))
def of_numbers(values):
    return fm.federated_sum(fm.federated_map(twice, values))


@fm.federated_computation(AT_CLIENTS(SEQUENCE))
def of_sequences(values):
    return fm.federated_sum(fm.federated_map(total_of, values))


@pytest.fixture
def context():
    """A context of this test's own."""
    made = fm.MpiContext()
    fm.set_default_context(made)
    yield made
    fm.set_default_context(None)


def how(computation, **options):
    """Return what the plan says of the clients of the first stage."""
    lines = (line.strip() for line in str(fm.plan(computation, **options)).splitlines())
    return next(line for line in lines if line.startswith("clients, ")).removeprefix("clients, ").partition(": fed")[0]


def test_decisions():
    assert [is_compiled(Yes(), n, sparse=False) for n in (0, 1)] == [True, True]
    assert [is_compiled(No("why"), n, sparse=True) for n in (1, 1000)] == [False, False]
    assert [is_compiled(From(100), n, sparse=False) for n in (1, 99, 100)] == [False, False, True]
    assert is_compiled(From(100), 1, sparse=True)


@pytest.mark.parametrize(
    ("decision", "clients", "words"),
    [
        (Yes(), None, "one compiled loop"),
        (Yes(), 1, "one compiled loop"),
        (No("a reason"), None, "client by client, for a reason"),
        (No("a reason"), 1000, "client by client, for a reason"),
        (From(100), None, f"{FROM}, else client by client"),
        (From(100), 99, f"client by client ({FROM})"),
        (From(100), 100, "one compiled loop"),
    ],
)
def test_words(decision, clients, words):
    assert in_words(decision, clients, may_be_sparse=False) == words
    sparse = in_words(decision, clients, may_be_sparse=True)
    assert sparse == words.replace(FROM, f"{FROM} (sparse rows always)")


def test_the_plan_says_it(context):
    assert how(of_sequences) == how(of_sequences, clients=1) == "one compiled loop"
    assert how(of_numbers) == f"{FROM}, else client by client"
    assert how(of_numbers, clients=COMPILED_FROM - 1) == f"client by client ({FROM})"
    assert how(of_numbers, clients=COMPILED_FROM) == "one compiled loop"
    assert f"  clients, client by client ({FROM}): federated_map" in str(fm.explain(of_numbers, clients=3))
    assert "client by client (one" in " ".join(fm.draw(of_numbers, clients=3).text.replace("│", "").split())
    with fm.debug():
        assert how(of_sequences) == "client by client, for debug mode"
    with fm.MpiContext(fuse=False):
        assert how(of_sequences) == "client by client, for the context has fuse=False"
    with fm.MpiContext(fuse=True):
        assert how(of_numbers, clients=1) == "one compiled loop"


@pytest.mark.parametrize("clients", [-1, 1.5, True, "3"])
def test_what_is_no_number_of_clients(clients):
    for show in (fm.plan, fm.explain, fm.draw):
        with pytest.raises(ValueError, match=f"{show.__name__}: clients must be a number of clients or None, found"):
            show(of_numbers, clients=clients)


def test_loops_in_functions_of_every_kind(context):
    """A local computation that takes a sequence has a loop, wherever it is called."""
    pair = fm.to_type((F32, SEQUENCE))
    inside = fm.federated_computation(lambda p: plus(p[0], total_of(p[1])), pair)
    mapped = fm.federated_computation(lambda v: fm.federated_map(inside, v), AT_CLIENTS(pair))
    assert how(mapped) == "one compiled loop"
    folded = fm.numba_computation(lambda state, xs: state + F32(len(xs)), F32, SEQUENCE)
    same = fm.numba_computation(lambda state: state, F32)
    aggregated = fm.federated_computation(
        lambda v: fm.federated_aggregate(v, 0.0, folded, plus, same), AT_CLIENTS(SEQUENCE)
    )
    assert how(aggregated) == "one compiled loop"
    summed = fm.federated_computation(
        lambda v: fm.federated_map(fm.federated_computation(fm.sequence_sum, SEQUENCE), v), AT_CLIENTS(SEQUENCE)
    )
    assert how(summed) == "one compiled loop"


def compiles(call):
    """Return how many functions Numba compiles in a call."""
    with numba.core.event.install_recorder("numba:compile") as recorded:
        call()
    return len(recorded.buffer)


def test_earlier_calls_play_no_part(context):
    for clients in (3, COMPILED_FROM - 1):
        assert of_numbers([1.0] * clients) == 2 * clients
    assert context.program(of_numbers)._loops == {}
    assert sum(compiles(lambda: of_numbers([1.0] * 30)) for _ in range(5)) == 0


@pytest.mark.slow
def test_later_rounds_of_the_same_kind_compile_nothing(context):
    @fm.federated_computation(AT_SERVER(F32), AT_CLIENTS(SEQUENCE))
    def step(model, data):
        return fm.federated_mean(
            fm.federated_map(plus, [fm.federated_map(total_of, data), fm.federated_broadcast(model)])
        )

    data = fm.client_data([[1.0, 2.0]] * 10, AT_CLIENTS(SEQUENCE))
    model = step(0.0, data)
    assert model == 3.0
    assert sum(compiles(lambda: step(model, data)) for _ in range(12)) == 0


def test_a_loop_that_numba_refuses(context, monkeypatch, caplog):
    """Its clients are run one by one: that is said once, and the plan says it from then on."""

    def refuse(*arguments, **options):
        raise AssertionError("no lowering\nfor this")

    monkeypatch.setattr(loop.ClientLoop, "__init__", refuse)
    with caplog.at_level(logging.WARNING, "fedmpi"):
        assert [of_sequences([[1.0], [2.0]]) for _ in range(3)] == [3.0] * 3
    why = "Numba refuses the loop (AssertionError: no lowering)"
    assert [r.getMessage() for r in caplog.records] == [
        f"of_sequences: its clients are run client by client, for {why}"
    ]
    assert how(of_sequences) == how(of_sequences, clients=500) == f"client by client, for {why}"
    assert how(of_numbers) == f"{FROM}, else client by client"
    with fm.MpiContext(fuse=True), pytest.raises(AssertionError, match="no lowering"):
        of_sequences([[1.0]])


def test_parts_that_need_a_loop_of_their_own_are_told(context):
    ones = fm.numba_computation(lambda n: np.ones(int(n), np.float32), F32)
    add = fm.numba_computation(lambda state, x: state + x.sum(), F32, (F32, [None]))
    same = fm.numba_computation(lambda state: state, F32)
    folded = fm.federated_computation(
        lambda v: fm.federated_aggregate(fm.federated_map(ones, v), 0.0, add, plus, same), AT_CLIENTS(F32)
    )
    assert how(folded).endswith("(but client by client where the clients of a block are on several ranks)")
