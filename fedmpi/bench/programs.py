"""The federated computations that are measured: the tutorial's for other types, and the smallest ones."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import numpy as np

import fedmpi as fm


class Softmax:
    """The tutorial's computations for a dtype, a number of features and of classes; see fedmpi/tutorial.py.

    `client` is the type of one client's value, `train` the mean of the clients' models, `train_by_examples` the mean
    weighted with their numbers of examples, `evaluate` the summed loss and the number of correct answers.
    """

    def __init__(self, dtype: type[np.generic] = np.float32, features: int = 784, classes: int = 10) -> None:
        batch = fm.to_type(OrderedDict(x=(dtype, [None, features]), y=(np.int32, [None])))
        model = fm.to_type(OrderedDict(weights=(dtype, [features, classes]), bias=(dtype, [classes])))
        self.dtype = np.dtype(dtype)
        self.client = fm.SequenceType(batch)
        self._at_server = fm.type_at_server(model)
        self._rate = fm.type_at_server(dtype)
        self._at_clients = fm.type_at_clients(self.client)
        local_train = _local_train(model, batch, dtype)

        @fm.numba_computation(self.client)
        def examples(batches: Any) -> Any:
            count = 0
            for part in batches:
                count += len(part.y)
            return count

        def models(model: Any, rate: Any, data: Any) -> Any:
            return fm.federated_map(local_train, [fm.federated_broadcast(model), fm.federated_broadcast(rate), data])

        @fm.federated_computation(self._at_server, self._rate, self._at_clients)
        def train(model: Any, rate: Any, data: Any) -> Any:
            return fm.federated_mean(models(model, rate, data))

        @fm.federated_computation(self._at_server, self._rate, self._at_clients)
        def train_by_examples(model: Any, rate: Any, data: Any) -> Any:
            return fm.federated_mean(models(model, rate, data), fm.federated_map(examples, data))

        self.train, self.train_by_examples = train, train_by_examples
        self.evaluate = _evaluation(model, batch)


def _local_train(model_type: fm.Type, batch_type: fm.Type, dtype: type[np.generic]) -> Any:
    """Return the computation of one client: one pass over its batches."""

    @fm.numba_computation(model_type, batch_type, dtype, donate="model")
    def step(model: Any, batch: Any, rate: Any) -> Any:
        weights, bias = fm.kernels.softmax_sgd_step(batch.x, batch.y, model.weights, model.bias, rate)
        return OrderedDict(weights=weights, bias=bias)

    @fm.federated_computation(model_type, dtype, fm.SequenceType(batch_type))
    def local_train(model: Any, rate: Any, batches: Any) -> Any:
        @fm.federated_computation(model_type, batch_type)
        def batch_fn(model: Any, batch: Any) -> Any:
            return step(model, batch, rate)

        return fm.sequence_reduce(batches, model, batch_fn)

    return local_train


def _evaluation(model_type: fm.Type, batch_type: fm.Type) -> Any:
    """Return the computation of the loss and of the number of correct answers, summed over all clients."""

    @fm.numba_computation(model_type, batch_type)
    def score(model: Any, batch: Any) -> Any:
        loss, correct = fm.kernels.softmax_evaluate(batch.x, batch.y, model.weights, model.bias)
        return OrderedDict(loss=loss, correct=correct)

    @fm.federated_computation(model_type, fm.SequenceType(batch_type))
    def local_evaluate(model: Any, batches: Any) -> Any:
        scored = fm.federated_computation(lambda batch: score(model, batch), batch_type)
        return fm.sequence_sum(fm.sequence_map(scored, batches))

    @fm.federated_computation(fm.type_at_server(model_type), fm.type_at_clients(fm.SequenceType(batch_type)))
    def evaluate(model: Any, data: Any) -> Any:
        return fm.federated_sum(fm.federated_map(local_evaluate, [fm.federated_broadcast(model), data]))

    return evaluate


@functools.cache
def softmax(dtype: type[np.generic] = np.float32, features: int = 784, classes: int = 10) -> Softmax:
    """Return the computations for these types, made once."""
    return Softmax(dtype, features, classes)


MARK = fm.to_type(np.float32)  # what a client has where its data does not matter


@functools.cache
def empty_round(features: int = 784, classes: int = 10) -> Any:
    """Return a round whose clients give the model back as they got it."""
    model_type = fm.to_type(
        OrderedDict(weights=(np.float32, [features, classes]), bias=(np.float32, [classes])),
    )

    @fm.numba_computation(model_type, MARK)
    def unchanged(model: Any, mark: Any) -> Any:
        return model

    @fm.federated_computation(fm.type_at_server(model_type), fm.type_at_clients(MARK))
    def round_(model: Any, marks: Any) -> Any:
        return fm.federated_mean(fm.federated_map(unchanged, [fm.federated_broadcast(model), marks]))

    return round_


@functools.cache
def down(size: int) -> Any:
    """Return a computation that sends float32[size] to all and sums one number a client."""
    vector = fm.to_type((np.float32, [size]))

    @fm.numba_computation(vector, MARK)
    def first(values: Any, mark: Any) -> Any:
        return values[0] * mark

    @fm.federated_computation(fm.type_at_server(vector), fm.type_at_clients(MARK))
    def send(values: Any, marks: Any) -> Any:
        return fm.federated_sum(fm.federated_map(first, [fm.federated_broadcast(values), marks]))

    return send


@functools.cache
def up(size: int) -> Any:
    """Return a computation that sums one float32[size] a client."""

    @fm.federated_computation(fm.type_at_clients((np.float32, [size])))
    def add(values: Any) -> Any:
        return fm.federated_sum(values)

    return add
