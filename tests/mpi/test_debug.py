"""Debug mode gives on these ranks what compiled code gives, to rounding."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import fedmpi as fm
from fedmpi import tutorial
from fedmpi.runtime.stage import debug_mode as debugging
from tests.mpi.test_random_programs import outcome
from tests.programs import CASES, assert_same
from tests.random_programs import program_of

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("server_trains", [False, True])
def test_programs(comm, name, server_trains):
    case = CASES[name]
    context = fm.MpiContext(server_trains=server_trains)
    fm.set_default_context(context)
    want = fm.replicate(case.computation(*case.arguments))
    with fm.debug():
        got = fm.replicate(case.computation(*case.arguments))
    assert_same(got, want)


def test_random_programs(comm, monkeypatch):
    """Also with the reference evaluator, which debug mode concerns as well; what is refused is refused in both."""
    monkeypatch.setattr(debugging, "check_neutral", lambda merge, zero, states: None)  # these programs do not care
    random = np.random.default_rng(20261125)
    for _ in range(40):
        program, argument, clients = program_of(random.bytes(500))
        context, reference = fm.MpiContext(num_clients=clients), fm.ReferenceContext(num_clients=clients)
        want = outcome(context, program, argument)
        with fm.debug():
            assert_same(outcome(context, program, argument), want)
            assert_same(outcome(reference, program, argument), want)


def test_the_tutorial(comm):
    rng = np.random.default_rng(3)
    batches = [{"x": rng.random((4, 784), np.float32), "y": rng.integers(0, 10, 4).astype(np.int32)} for _ in range(4)]
    data, model = [batches[:1], batches[1:], batches[2:3]], tutorial.initial_model
    want = fm.replicate(tutorial.federated_train(model, 0.1, data))
    with fm.debug():
        got = fm.replicate(tutorial.federated_train(model, 0.1, data))
        packed = fm.client_data(data, tutorial.CLIENT_DATA_TYPE)
        again = fm.replicate(tutorial.federated_train(model, 0.1, packed))
    for key in ("weights", "bias"):
        np.testing.assert_allclose(got[key], want[key], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(again[key], got[key])


def test_errors_in_user_code(comm):
    """The same error on all ranks, with client and place, as in compiled code."""

    @fm.numba_computation(np.float32)
    def positive(x):
        if x < 0:
            raise ValueError("negative")
        return x

    program = fm.federated_computation(lambda v: fm.federated_map(positive, v), fm.type_at_clients(np.float32))
    texts = []
    for enabled in (False, True):
        with fm.debug(enabled), pytest.raises(ValueError, match="client 1") as caught:
            program([1.0, -1.0, -2.0])
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_numba_switched_off(comm, monkeypatch):
    """The same error on all ranks, before anything is sent."""

    def mean():
        return fm.federated_computation(lambda x: fm.federated_mean(x), fm.type_at_clients(np.float32))

    with monkeypatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", 1)
        with pytest.raises(RuntimeError, match="NUMBA_DISABLE_JIT is set"):
            mean()([1.0, 2.0])
    assert fm.replicate(mean()([1.0, 2.0])) == 1.5
