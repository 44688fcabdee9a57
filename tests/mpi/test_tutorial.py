"""The tutorial's numbers on these ranks: within 2e-6 of the published ones, and the form that the page prints today."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from fedmpi import tutorial
from fedmpi.tutorial import BATCH_TYPE, MODEL_TYPE, batch_train, initial_model

pytestmark = pytest.mark.mpi

LOCAL = [
    2.3025851, 0.19690023, 0.13176313, 0.10113225, 0.08273812, 0.070301384, 23.025854, 0.43484688, 74.50075,
]  # fmt: skip
FEDERATED = [
    23.025852, 54.432625, 21.60552215576172, 20.365678787231445, 19.27480125427246, 18.311111450195312,
    17.45725440979004, 22.795593, 17.278767,
]  # fmt: skip


@pytest.fixture(scope="module")
def data():
    mnist = fm.data.mnist()
    return fm.data.by_digit(mnist.train), fm.data.by_digit(mnist.test)


def test_local_numbers(comm, data):
    np.testing.assert_allclose([number for _, number in tutorial.local_steps(data[0])], LOCAL, rtol=2e-6)


def test_federated_numbers(comm, data):
    numbers = [float(fm.replicate(number)) for _, number in tutorial.federated_steps(*data)]
    np.testing.assert_allclose(numbers, FEDERATED, rtol=2e-6)


def test_a_round_has_the_bits_of_the_reference(comm, data):
    """The sum is the true sum: neither ranks nor owners change a bit of the model."""
    clients = [batches[: 2 + digit % 3] for digit, batches in enumerate(data[0])]
    arguments = (initial_model, 0.1, clients)
    want = fm.ReferenceContext().invoke(tutorial.federated_train, arguments)
    for server_trains in (False, True):
        fm.set_default_context(fm.MpiContext(server_trains=server_trains))
        got = fm.replicate(tutorial.federated_train(*arguments))
        assert {name: got[name].tobytes() for name in got} == {name: want[name].tobytes() for name in want}


def test_todays_form(comm, data):
    """TFF's page since 2021: learning rate and model are inserted into the sequence, losses added by a reduce."""
    with_rate = fm.to_type([("batch", BATCH_TYPE), ("learning_rate", np.float32)])
    with_model = fm.to_type([("batch", BATCH_TYPE), ("model", MODEL_TYPE)])

    @fm.federated_computation(fm.SequenceType(with_rate), MODEL_TYPE)
    def train_on(batches, model):
        @fm.federated_computation(MODEL_TYPE, with_rate)
        def batch_fn(model, element):
            return batch_train(model, element.batch, element.learning_rate)

        return fm.sequence_reduce(batches, model, batch_fn)

    @fm.federated_computation(MODEL_TYPE, np.float32, tutorial.LOCAL_DATA_TYPE)
    def local_train(model, rate, batches):
        insert = fm.federated_computation(
            lambda batch: fm.to_value({"batch": batch, "learning_rate": rate}), BATCH_TYPE
        )
        return train_on(fm.sequence_map(insert, batches), model)

    @fm.federated_computation(MODEL_TYPE, tutorial.LOCAL_DATA_TYPE)
    def local_eval(model, batches):
        insert = fm.federated_computation(lambda batch: fm.to_value({"batch": batch, "model": model}), BATCH_TYPE)

        @fm.federated_computation(np.float32, with_model)
        def add_loss(total, element):
            return total + tutorial.batch_loss(element.model, element.batch)

        return fm.sequence_reduce(fm.sequence_map(insert, batches), 0.0, add_loss)

    @fm.federated_computation(tutorial.SERVER_MODEL_TYPE, tutorial.SERVER_FLOAT_TYPE, tutorial.CLIENT_DATA_TYPE)
    def federated_train(model, rate, data):
        return fm.federated_mean(
            fm.federated_map(local_train, (fm.federated_broadcast(model), fm.federated_broadcast(rate), data))
        )

    @fm.federated_computation(tutorial.SERVER_MODEL_TYPE, tutorial.CLIENT_DATA_TYPE)
    def federated_eval(model, data):
        return fm.federated_mean(fm.federated_map(local_eval, (fm.federated_broadcast(model), data)))

    packed = fm.client_data(data[0], tutorial.CLIENT_DATA_TYPE)
    model, rate, losses = initial_model, 0.1, []
    for _ in range(3):
        model = federated_train(model, rate, packed)
        losses.append(float(fm.replicate(federated_eval(model, packed))))
        rate *= 0.9
    np.testing.assert_allclose(losses, FEDERATED[2:5], rtol=2e-6)
