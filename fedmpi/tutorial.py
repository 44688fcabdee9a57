"""Custom Federated Algorithms, Part 2: Implementing Federated Averaging.

TensorFlow Federated's tutorial, in its first form and in its order and names: softmax regression on MNIST, ten clients
with one digit each.  ``fedmpi tutorial`` runs this file and prints every number next to the published one; run it
yourself with ``mpirun -n 3 python -m fedmpi.tutorial``.  Every rank executes all of it; what is at the SERVER is on
rank 0.

B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
https://arxiv.org/abs/1602.05629.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

import fedmpi as fm

# --- Preparing federated data sets: client d has the images of digit d, in batches ---

BATCH_TYPE = fm.to_type(OrderedDict(x=(np.float32, [None, 784]), y=(np.int32, [None])))
MODEL_TYPE = fm.to_type(OrderedDict(weights=(np.float32, [784, 10]), bias=(np.float32, [10])))

initial_model = OrderedDict(weights=np.zeros([784, 10], np.float32), bias=np.zeros([10], np.float32))

# --- The loss on a batch, and one step of gradient descent ---


@fm.numba_computation(MODEL_TYPE, BATCH_TYPE)
def batch_loss(model: Any, batch: Any) -> Any:
    """Mean cross-entropy of the model's predictions on a batch."""
    return fm.kernels.softmax_loss(batch.x, batch.y, model.weights, model.bias)


@fm.numba_computation(MODEL_TYPE, BATCH_TYPE, np.float32, donate="initial_model")
def batch_train(initial_model: Any, batch: Any, learning_rate: Any) -> Any:
    """The model after one step down the gradient of `batch_loss`."""
    weights, bias = fm.kernels.softmax_sgd_step(
        batch.x, batch.y, initial_model.weights, initial_model.bias, learning_rate
    )
    return OrderedDict(weights=weights, bias=bias)


# --- Training and evaluating on a client's data: a sequence of batches ---

LOCAL_DATA_TYPE = fm.SequenceType(BATCH_TYPE)


@fm.federated_computation(MODEL_TYPE, np.float32, LOCAL_DATA_TYPE)
def local_train(initial_model: Any, learning_rate: Any, all_batches: Any) -> Any:
    """The model after one pass over all batches."""

    @fm.federated_computation(MODEL_TYPE, BATCH_TYPE)
    def batch_fn(model: Any, batch: Any) -> Any:
        return batch_train(model, batch, learning_rate)  # learning_rate is captured from the computation around it

    return fm.sequence_reduce(all_batches, initial_model, batch_fn)


@fm.federated_computation(MODEL_TYPE, LOCAL_DATA_TYPE)
def local_eval(model: Any, all_batches: Any) -> Any:
    """The sum of the losses on all batches."""

    @fm.federated_computation(BATCH_TYPE)
    def loss_fn(batch: Any) -> Any:
        return batch_loss(model, batch)

    return fm.sequence_sum(fm.sequence_map(loss_fn, all_batches))


# --- Federated evaluation and training: the model at the SERVER, the data at the CLIENTS ---

SERVER_MODEL_TYPE = fm.type_at_server(MODEL_TYPE)
SERVER_FLOAT_TYPE = fm.type_at_server(np.float32)
CLIENT_DATA_TYPE = fm.type_at_clients(LOCAL_DATA_TYPE)


@fm.federated_computation(SERVER_MODEL_TYPE, CLIENT_DATA_TYPE)
def federated_eval(model: Any, data: Any) -> Any:
    """The mean of the clients' losses."""
    return fm.federated_mean(fm.federated_map(local_eval, [fm.federated_broadcast(model), data]))


@fm.federated_computation(SERVER_MODEL_TYPE, SERVER_FLOAT_TYPE, CLIENT_DATA_TYPE)
def federated_train(model: Any, learning_rate: Any, data: Any) -> Any:
    """The mean of the models that the clients train, starting from the server's."""
    return fm.federated_mean(
        fm.federated_map(
            local_train,
            [fm.federated_broadcast(model), fm.federated_broadcast(learning_rate), data],
        )
    )


# --- Running it ---


def local_steps(train: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the tutorial computes on single clients: a name and a number for each."""
    sample_batch = train[5][-1]
    yield "batch_loss(initial_model, sample_batch)", batch_loss(initial_model, sample_batch)
    model: Any = initial_model
    for step in range(5):
        model = batch_train(model, sample_batch, 0.1)
        yield f"batch_loss after batch_train {step + 1}", batch_loss(model, sample_batch)
    yield "local_eval(initial_model, train[5])", local_eval(initial_model, train[5])
    locally_trained = local_train(initial_model, 0.1, train[5])
    yield "local_eval(locally_trained_model, train[5])", local_eval(locally_trained, train[5])
    yield "local_eval(locally_trained_model, train[0])", local_eval(locally_trained, train[0])


def federated_steps(train: Any, test: Any, rounds: int = 5) -> Iterator[tuple[str, Any]]:
    """Yield what the tutorial computes on all clients; the numbers are at the server, placeholders on other ranks."""
    locally_trained = local_train(initial_model, 0.1, train[5])
    train_data, test_data = fm.client_data(train, CLIENT_DATA_TYPE), fm.client_data(test, CLIENT_DATA_TYPE)
    yield "federated_eval(initial_model, train)", federated_eval(initial_model, train_data)
    yield "federated_eval(locally_trained_model, train)", federated_eval(locally_trained, train_data)
    model, learning_rate = initial_model, 0.1
    for round_num in range(rounds):
        model = federated_train(model, learning_rate, train_data)
        learning_rate = learning_rate * 0.9
        yield f"round {round_num}, loss", federated_eval(model, train_data)
    yield "federated_eval(initial_model, test)", federated_eval(initial_model, test_data)
    yield f"federated_eval(model after {rounds} rounds, test)", federated_eval(model, test_data)


def main() -> None:
    """Run the tutorial on the images that the package carries."""
    mnist = fm.data.mnist()
    train, test = fm.data.by_digit(mnist.train), fm.data.by_digit(mnist.test)
    for name, number in [*local_steps(train), *federated_steps(train, test)]:
        if fm.is_server():
            print(f"{name}: {number}")


if __name__ == "__main__":
    main()
