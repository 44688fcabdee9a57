"""A loop gives its state away to a kernel's in-place form: where that is seen to be safe, and with the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from fedmpi import kernels
from fedmpi.local.computations.numba_bodies import can_consume

step = kernels.softmax_sgd_step


def tutorial(model, batch, rate):
    weights, bias = fm.kernels.softmax_sgd_step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": bias}


def in_brackets(model, batch, rate):
    made = step(batch["x"], batch["y"], model["weights"], model["bias"], rate)
    return made[0], made[1]


def with_other_work(model, batch, rate):
    half = rate * np.float32(0.5)
    w, b = step(batch.x, batch.y, model.weights, model.bias, half)
    return dict(weights=w, bias=b)  # noqa: C408


@pytest.mark.parametrize("body", [tutorial, in_brackets, with_other_work])
def test_the_state_can_be_given_away(body):
    assert can_consume(body, "model")
    assert not can_consume(body, "batch")


def reads_it_later(model, batch, rate):
    weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": bias - model.bias}


def keeps_a_part(model, batch, rate):
    weights, _ = step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": model.bias}


def returns_one_twice(model, batch, rate):
    weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": bias, "again": bias}


def returns_a_view(model, batch, rate):
    weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights[:], "bias": bias}


def branches(model, batch, rate):
    if rate > 0:
        weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
        return {"weights": weights, "bias": bias}
    return {"weights": model.weights, "bias": model.bias}


def two_steps(model, batch, rate):
    weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
    weights, bias = step(batch.x, batch.y, weights, bias, rate)
    return {"weights": weights, "bias": bias}


def the_same_part_twice(model, batch, rate):
    weights, bias = step(batch.x, batch.y, model.weights, model.weights, rate)
    return {"weights": weights, "bias": bias}


def trains_on_itself(model, batch, rate):
    weights, bias = step(model.weights, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": bias}


def no_kernel(model, batch, rate):
    return {"weights": model.weights * rate, "bias": model.bias}


def stores_it(model, batch, rate):
    kept = [model.weights]
    weights, bias = step(batch.x, batch.y, model.weights, model.bias, rate)
    return {"weights": weights, "bias": bias + kept[0][0, 0]}


REFUSED = [reads_it_later, keeps_a_part, returns_one_twice, returns_a_view, branches, two_steps, the_same_part_twice]
REFUSED += [trains_on_itself, no_kernel, stores_it]


@pytest.mark.parametrize("body", REFUSED)
def test_anything_else_leaves_the_state_alone(body):
    assert not can_consume(body, "model")


BATCH = fm.to_type({"x": (np.float32, [None, 5]), "y": (np.int32, [None])})
MODEL = fm.to_type({"weights": (np.float32, [5, 3]), "bias": (np.float32, [3])})


def rounds(body):
    """Return two rounds of two computations that share the model with others: trained, and trained minus given."""
    train = fm.numba_computation(body, MODEL, BATCH, np.float32)

    @fm.federated_computation(fm.type_at_server(MODEL), fm.type_at_clients(fm.SequenceType(BATCH)))
    def round_(model, data):
        @fm.federated_computation(MODEL, fm.SequenceType(BATCH))
        def local(model, batches):
            one = fm.federated_computation(lambda m, b: train(m, b, np.float32(0.25)), MODEL, BATCH)
            return fm.sequence_reduce(batches, model, one), model

        both = fm.federated_map(local, [fm.federated_broadcast(model), data])
        return fm.federated_mean(both[0]), fm.federated_mean(both[1])

    return round_


@pytest.mark.slow
@pytest.mark.parametrize("body", [tutorial, with_other_work, two_steps, returns_a_view])
def test_the_bits_are_the_same_and_the_model_is_not_written_to(body):
    rng = np.random.default_rng(0)
    batch = lambda n: {"x": rng.random((n, 5), np.float32), "y": rng.integers(0, 3, n, np.int32)}  # noqa: E731
    data = [[batch(4), batch(1)], [], [batch(2)] * 3]
    model = {"weights": rng.random((5, 3), np.float32), "bias": rng.random(3, np.float32)}
    before = {name: part.copy() for name, part in model.items()}
    results = []
    for context in (fm.MpiContext(fuse=True), fm.MpiContext(fuse=False), fm.ReferenceContext()):
        fm.set_default_context(context)
        results.append(rounds(body)(model, data))
    fm.set_default_context(None)
    for name, part in before.items():
        assert np.array_equal(model[name], part)
        for trained, given in results:
            assert np.array_equal(trained[name], results[0][0][name])
            assert np.allclose(given[name], part, rtol=1e-6)
        assert not np.array_equal(results[0][0][name], part)
