"""Sequences in the bodies of local computations: iterated, indexed, nested, empty."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.values import normalise

F32, F64, I32 = np.float32, np.float64, np.int32
SEQUENCE = fm.SequenceType(F32)
BATCHES = fm.SequenceType(OrderedDict(x=fm.TensorType(F32, [None, 3]), y=fm.TensorType(I32, [None])))


def enumerated(values):
    total = 0.0
    for i, value in enumerate(values, 1):
        total += i * value
    return total


def zipped(values):
    total = 0.0
    for a, b in zip(values, values):  # noqa: B905  # Numba knows no strict
        total += a * b
    return total


def indexed(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i] * values[-1 - i]
    return total


def left_early(values):
    total = 0.0
    for value in values:
        if value > 3:
            break
        if value > 2:
            continue
        total += value
    return total


def returned_early(values):
    for value in values:
        if value > 1:
            return value
    return np.float32(-1)


def nested(values):
    total = 0.0
    for a in values:
        for b in values:
            if a == b:
                break
            total += a * b
    return total


def comprehended(values):
    return np.array([value * 2 for value in values]).sum()


def iterated(values):
    found = iter(values)
    total = 0.0
    for value in found:
        total = value
        break
    return total + len(values)


BODIES = [enumerated, indexed, left_early, returned_early, nested, comprehended, iterated, zipped]


@pytest.mark.parametrize("function", BODIES, ids=lambda f: f.__name__)
def test_loops_over_sequences(function):
    computation = fm.numba_computation(SEQUENCE, result=F32)(function)
    for values in ([], [1.0], [1.0, 2.0, 3.0, 4.0], [0.5] * 5):
        assert computation(values) == np.float32(function([F32(v) for v in values])), values


ELEMENTS = [
    (fm.TensorType(F32, [2]), [np.ones(2, F32), np.zeros(2, F32)]),
    (fm.TensorType(np.uint8, [None]), [np.array([255, 255], np.uint8), np.zeros(0, np.uint8)]),
    (fm.TensorType(F32, [None, None]), [np.ones((1, 3), F32), np.ones((0, 2), F32), np.ones((2, 1), F32)]),
    (fm.TensorType(F64, [2, None, 3]), [np.ones((2, 1, 3)), np.full((2, 4, 3), 2.0)]),
    (fm.TensorType(np.bool_, [None]), [np.array([True, False])]),
    (fm.TensorType(np.complex64, [1]), [np.array([1j], np.complex64)]),
]


@pytest.mark.parametrize(("type_", "values"), ELEMENTS, ids=lambda v: str(v) if isinstance(v, fm.Type) else "")
def test_elements_of_every_layout(type_, values):
    @fm.numba_computation(fm.SequenceType(type_))
    def first_and_last(items):
        count = 0
        for item in items:
            count += item.size
        return items[0], items[-1], count, len(items)

    first, last, count, length = first_and_last(values)
    np.testing.assert_array_equal(first, values[0])
    np.testing.assert_array_equal(last, values[-1])
    assert (count, length) == (sum(v.size for v in values), len(values))


def test_structs_in_sequences():
    inner = OrderedDict([("a b", OrderedDict(c=F32, d=fm.TensorType(F32, [None, None]))), ("e", (I32, np.bool_))])

    @fm.numba_computation(fm.SequenceType(inner))
    def read(items):
        total = 0.0
        for item in items:
            record, (number, flag) = item
            total += record.c * record["d"].sum() + number * flag
        return total, items[1]

    data = [{"a b": {"c": 2.0, "d": np.ones((1, n), F32)}, "e": (n, True)} for n in (1, 2)]
    total, second = read(data)
    assert total == 2 + 1 + 4 + 2
    assert type(second) is OrderedDict
    assert second["e"] == (2, True)


def test_an_empty_sequence_of_structs_and_an_index_outside():
    @fm.numba_computation(BATCHES, result=F32)
    def second(batches):
        return batches[1].x[0, 0]

    batch = {"x": np.ones((1, 3), F32), "y": np.zeros(1, I32)}
    assert second([batch, batch]) == 1
    for batches in ([], [batch]):
        with pytest.raises(IndexError, match="index outside the sequence"):
            second(batches)


def test_an_error_remembers_its_batch():
    @fm.numba_computation(BATCHES, result=F32)
    def picky(batches):
        total = 0.0
        for batch in batches:
            total += batch.x[batch.y[0], 0]
        return total

    def make(label):
        return {"x": np.ones((2, 3), F32), "y": np.array([label], I32)}

    assert picky([make(0), make(1)]) == 2
    body = picky.expression.impl
    with pytest.raises(IndexError) as caught:
        body(normalise([make(0), make(1), make(7)], BATCHES))
    assert caught.value.fedmpi_batch == 2


# --- a struct that a loop replaces ---


@fm.numba_computation(OrderedDict(w=(F32, [2]), b=F32), F32)
def one_step(model, x):
    return {"w": model.w * x, "b": model.b + x}


class Line(NamedTuple):
    w: Any
    b: Any


def literal_model(model, values):
    for x in values:
        model = {"w": model["w"] * x, "b": model["b"] + x}
    return model


def called_model(model, values):
    for x in values:
        model = one_step(model, x)
    return model


def tuple_model(model, values):
    for x in values:
        model = Line(model.w * x, model.b + x)
    return model


@pytest.mark.parametrize("function", [literal_model, called_model, tuple_model], ids=lambda f: f.__name__)
@pytest.mark.parametrize("container", [OrderedDict, Line], ids=lambda c: c.__name__)
def test_a_struct_that_a_loop_replaces(function, container):
    """The read-only argument and the structs that follow it are one variable."""
    type_ = fm.to_type(container(w=(F32, [2]), b=F32))
    computation = fm.numba_computation(type_, fm.SequenceType(F32), result=type_)(function)
    for values, expected in (([], 1), ([2.0], 2), ([2.0, 3.0], 6)):
        kept = np.ones(2, F32)
        got = computation(container(w=kept, b=0.0), values)
        assert type(got) is container
        w, b = got.values() if container is OrderedDict else got
        np.testing.assert_array_equal(w, [expected] * 2)
        assert b == sum(values)
        w[:] = -1
        assert np.all(kept == 1)
