"""Ordered keys: their order is that of the numbers, for every dtype, compiled and not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.local.sums import extremes, terms

FLOATS = [np.float16, np.float32, np.float64]
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


def rank(number):
    """Return what numbers are ordered by."""
    return (number, math.copysign(1, number)) if isinstance(number, float) else number


@given(st.data(), st.sampled_from([*FLOATS, *INTEGERS]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_order_and_inverse(data, dtype, least):
    kind = np.dtype(dtype)
    numbers = st.integers(0, 2 ** (8 * kind.itemsize) - 1).map(
        lambda n: np.frombuffer(n.to_bytes(kind.itemsize, "little"), kind)[0]
    )
    one, two = data.draw(numbers), data.draw(numbers)
    turn = terms.turn_of(kind, least=least)
    a, b = (int(extremes.keys_of(x, turn)[0]) for x in (one, two))
    nan = [x != x for x in (one, two)]
    if not any(nan):
        assert ((a < b) == (rank(one.item()) < rank(two.item()))) != (least and a != b)
    for key, number, is_nan in zip((a, b), (one, two), nan, strict=True):
        assert (key == 2**64 - 1) or not is_nan
        (back,) = extremes.numbers_of(np.array([key], np.uint64), turn, kind)
        assert back.tobytes() == (kind.type(np.nan) if is_nan else number).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, *INTEGERS])
@pytest.mark.parametrize("least", [False, True])
def test_compiled_forms_keep_the_same_keys(dtype, least):
    kind = np.dtype(dtype)
    numbers = np.frombuffer(np.random.default_rng(3).bytes(400 * kind.itemsize), kind).reshape(100, 4)
    if kind.kind == "f":
        numbers = np.concatenate([numbers, np.array([[-0.0, 0.0, np.nan, np.inf]], kind)])
    turn = terms.turn_of(kind, least=least)
    want = np.max([extremes.keys_of(row, turn) for row in numbers], axis=0)
    many, single = np.zeros(6, np.uint64), np.zeros(6, np.uint64)
    form = "float" if kind.kind == "f" else "integer"
    for row in numbers:
        getattr(extremes, f"keep_{form}s")(many, np.int64(1), row, turn)
        for i in range(4):
            getattr(extremes, f"keep_{form}")(single, np.int64(1 + i), row[i], turn)
    assert many.tolist() == single.tolist() == [0, *want.tolist(), 0]
