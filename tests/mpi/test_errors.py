"""An error on one rank is the same error on all ranks, in the same call, and the program can go on."""

from __future__ import annotations

import contextlib
import json
import re

import numpy as np
import pytest

import fedmpi as fm
from fedmpi import tutorial
from tests import programs

pytestmark = pytest.mark.mpi


def raises_everywhere(comm, kind, call):
    """Return the error's text, after all ranks have raised the same."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    mine = np.frombuffer(json.dumps([type(caught.value).__name__, text]).encode(), dtype=np.uint8)
    everyone = {part.tobytes() for part in comm.allgather_bytes(mine)}
    assert len(everyone) == 1, everyone
    # The ranks are still together: the next call works.
    assert fm.replicate(programs.total([1, 2, 3])) == 6
    return text


@pytest.fixture(scope="module")
def train():
    return fm.data.by_digit(fm.data.mnist().train, examples=60, batch_size=20)


def changed(train, client, batch, **fields):
    """Return the data with one batch changed."""
    data = [list(batches) for batches in train]
    data[client][batch] = {**data[client][batch], **fields}
    return data


def test_wrong_dtype_in_a_batch(comm, train):
    data = changed(train, 3, 1, x=train[3][1]["x"].astype(np.float64))
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(tutorial.initial_model, data))
    assert text.startswith(
        "federated_eval: parameter data, client 3, batch 1, x: expected float32[?,784], found float64[20,784]"
    )
    assert "write value.astype(np.float32)" in text
    assert re.search(r"at test_errors\.py:\d+", text)


def test_wrong_shape_in_a_batch(comm, train):
    data = changed(train, 9, 2, x=train[9][2]["x"][:, :783])
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(tutorial.initial_model, data))
    assert "parameter data, client 9, batch 2, x: expected float32[?,784], found float32[20,783]" in text


def test_missing_and_unknown_field(comm, train):
    data = changed(train, 2, 0, z=train[2][0]["y"])
    del data[2][0]["y"]
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(tutorial.initial_model, data))
    assert "client 2, batch 0: expected <x=float32[?,784],y=int32[?]>" in text
    assert "no 'y' and unknown 'z'" in text


@pytest.mark.parametrize("packed", [False, True])
def test_label_out_of_range(comm, train, packed):
    labels = train[7][2]["y"].copy()
    labels[3] = 12
    data = changed(train, 7, 2, y=labels)
    if packed:
        data = fm.client_data(data, tutorial.CLIENT_DATA_TYPE)
    text = raises_everywhere(comm, ValueError, lambda: tutorial.federated_eval(tutorial.initial_model, data))
    assert re.search(r"federated_eval: federated_map at tutorial\.py:\d+: client 7 of data, batch 2 \(rank \d\)", text)
    assert "label 12 in row 3 is outside 0..9" in text


def test_the_first_client_that_fails_is_reported(comm, train):
    data = changed(train, 8, 0, x=1.0)
    data[4][1] = 5
    data[6] = None
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(tutorial.initial_model, data))
    assert "client 4, batch 1: expected <x=float32[?,784],y=int32[?]>, found int 5" in text


def test_server_argument(comm, train):
    model = {"weights": np.zeros((784, 9), np.float32), "bias": np.zeros(10, np.float32)}
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(model if fm.is_server() else None, train))
    assert "federated_eval: parameter model, weights: expected float32[784,10], found float32[784,9]" in text
    ragged = {"weights": [[1.0], [2.0, 3.0]], "bias": np.zeros(10, np.float32)}
    text = raises_everywhere(comm, TypeError, lambda: tutorial.federated_eval(ragged, train))
    assert "a list of 2 that is no array" in text


def test_clients_argument_is_no_list(comm):
    text = raises_everywhere(comm, TypeError, lambda: programs.mean_temperature(1.0))
    assert "mean_temperature: parameter temperatures: expected a list with one value for each client" in text


def test_numbers_of_clients_differ(comm):
    text = raises_everywhere(comm, ValueError, lambda: programs.weighted([1.0, 2.0, 3.0], [1, 2]))
    assert (
        "Conflicting cardinalities for CLIENTS: 3 vs 2 (parameter values has 3 clients, parameter counts has 2)" in text
    )


def test_mean_of_no_clients(comm):
    text = raises_everywhere(comm, ValueError, lambda: programs.mean_temperature([]))
    assert text == "mean_temperature: federated_mean: there are no clients to take the mean over"


def test_sum_that_does_not_fit(comm):
    text = raises_everywhere(comm, OverflowError, lambda: programs.total([2**31 - 1, 1]))
    assert "the sum does not fit int32: it is 2147483648" in text


I32, AT = np.int32, fm.type_at_clients


@fm.numba_computation(I32)
def next_one(x):
    return x + 1


@fm.python_computation(I32, result=I32)
def square_in_python(x):
    return int(x) * int(x)


@fm.federated_computation(I32)
def square_traced(x):
    return x * x


@fm.federated_computation(fm.SequenceType(I32))
def squares_in_a_loop(xs):
    return fm.sequence_sum(fm.sequence_map(square_traced, xs))


DO_NOT_FIT = [
    (next_one, I32, [1, 2**31 - 1, 2], "next_one: result: expected int32, found int 2147483648 (int32 holds "),
    (
        square_in_python,
        I32,
        [1, 65536, 2],
        "square_in_python: result: expected int32, found int 4294967296 (int32 holds ",
    ),
    (square_traced, I32, [1, 65536, 2], "multiply: 65536 * 65536 is 4294967296, which does not fit int32"),
    (squares_in_a_loop, fm.SequenceType(I32), [[1], [1, 65536], []], "multiply: 65536 * 65536 is 4294967296"),
]


@pytest.mark.parametrize("mode", ["default", "reference", "debug"])
@pytest.mark.parametrize(("function", "member", "values", "text"), DO_NOT_FIT, ids=[f.name for f, *_ in DO_NOT_FIT])
def test_results_that_do_not_fit(comm, mode, function, member, values, text):
    if mode == "debug" and function is next_one:
        return  # the function runs as Python: NumPy's int32 wraps, with a warning
    program = fm.federated_computation(lambda x: fm.federated_sum(fm.federated_map(function, x)), AT(member))
    block = {"default": contextlib.nullcontext, "reference": fm.ReferenceContext, "debug": fm.debug}[mode]

    def call():
        with block():
            program(values)

    said = raises_everywhere(comm, OverflowError, call)
    assert text in said
    assert "client 1" in said
    assert "test_errors.py:" in said


def test_values_that_differ_in_size(comm):
    vectors = [np.ones(n, np.float32) for n in (2, 2, 3, 2)]
    text = raises_everywhere(comm, ValueError, lambda: programs.mean_of_vectors(vectors))
    assert "the clients' values differ in size: client 0 has the shapes [[2]], client 2 has [[3]]" in text


class OwnError(Exception):
    """An exception class of the user's."""


@fm.python_computation(np.float32, result=np.float32)
def picky(x):
    if x > 2:
        raise OwnError("too large")
    if x < 0:
        raise KeyError("negative")
    return x


@fm.numba_computation(np.float32)
def picky_compiled(x):
    if x > 2:
        raise ValueError("too large")
    return x


def test_user_code_at_the_clients(comm):
    for kernel, kind in ((picky, OwnError), (picky_compiled, ValueError)):
        program = _mapped(kernel)
        text = raises_everywhere(comm, kind, lambda program=program: program([1.0, 2.0, 3.0, 4.0]))
        assert re.search(r"federated_map at test_errors\.py:\d+: client 2 of values \(rank \d\), in picky", text)
        assert re.search(r", in picky(_compiled)? \(test_errors\.py:\d+\): too large$", text)


def _mapped(kernel):
    @fm.federated_computation(fm.type_at_clients(np.float32))
    def program(values):
        return fm.federated_mean(fm.federated_map(kernel, values))

    return program


def test_user_code_at_the_server(comm):
    @fm.federated_computation(fm.type_at_clients(np.float32))
    def program(values):
        return fm.federated_map(picky, fm.federated_mean(values))

    text = raises_everywhere(comm, OwnError, lambda: program([1.0, 9.0]))
    assert re.search(r"program: federated_map at the server, test_errors\.py:\d+, in picky \(.*\): too large", text)
    assert "negative" in raises_everywhere(comm, KeyError, lambda: program([-1.0, -9.0]))
    assert fm.replicate(program([1.0, 2.0])) == np.float32(1.5)


def test_client_data_is_checked(comm, train):
    data = changed(train, 5, 1, y=np.zeros(20))
    text = raises_everywhere(comm, TypeError, lambda: fm.client_data(data, tutorial.CLIENT_DATA_TYPE))
    assert "client_data: parameter values, client 5, batch 1, y: expected int32[?], found float64[20]" in text
    with pytest.raises(TypeError, match="values must be a list"):
        fm.client_data(5, np.float32)
    with pytest.raises(TypeError, match=r"must be \{T\}@CLIENTS or T"):
        fm.client_data([1.0], fm.type_at_server(np.float32))


def test_client_data_of_another_type(comm):
    data = fm.client_data([1, 2, 3], np.int32)
    text = raises_everywhere(comm, TypeError, lambda: programs.mean_temperature(data))
    assert "parameter temperatures: expected {float32}@CLIENTS, found ClientData of {int32}@CLIENTS" in text


def test_number_of_clients_not_known(comm):
    @fm.federated_computation(fm.type_at_server(np.float32))
    def program(x):
        return fm.federated_sum(fm.federated_broadcast(x))

    text = raises_everywhere(comm, ValueError, lambda: program(2.0))
    assert "the number of clients is not known" in text
    fm.set_default_context(fm.MpiContext(num_clients=3))
    assert fm.replicate(program(2.0)) == np.float32(6.0)


def test_equal_computations_keep_their_own_names(comm):
    """They are equal, and what one of them made ready must not lend its names to the other."""
    first = fm.federated_computation(lambda readings: fm.federated_sum(readings), fm.type_at_clients(np.float32))
    second = fm.federated_computation(lambda weights: fm.federated_sum(weights), fm.type_at_clients(np.float32))
    assert first == second
    for computation, name in ((first, "readings"), (second, "weights")):
        text = raises_everywhere(comm, TypeError, lambda: computation([1.0, 2]))  # noqa: B023
        assert f"parameter {name}, client 1: expected float32, found int 2" in text
