"""What is the same result, and how the first difference is told."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.columns.comparing import as_numbers, but_for_nan, difference, to_the_bit

F32, F64 = np.float32, np.float64
Pair = namedtuple("Pair", "left right")
OTHER_NAN = np.array([0x7FC00001], np.uint32).view(F32)[0]


@dataclass
class Model:
    weights: Any
    bias: Any


def model(*changed):
    weights = np.arange(6, dtype=F32).reshape(3, 2)
    for index, value in changed:
        weights[index] = value
    return Model(weights, F32(1.0))


def sequence(*values):
    return PackedSequence(pack(fm.TensorType(F32), list(map(F32, values))), 0, len(values))


SAME = [
    *(1.5, float("nan"), "text", None, [], (), F32(2.0), F32("nan"), np.array([1.0, np.nan]), np.empty((0, 3), F32)),
    *(np.array(["a", "b"], object), model(), Pair(1, [2.0]), {"a": F32(1)}, {1: F32(1)}, sequence(1.0, 2.0)),
    *(ml_dtypes.bfloat16(1.5), np.array([np.nan], ml_dtypes.bfloat16), np.array([1 + 2j, complex(np.nan, 1)])),
]


@pytest.mark.parametrize("value", SAME, ids=repr)
@pytest.mark.parametrize("same", [to_the_bit, but_for_nan, as_numbers])
def test_a_value_is_the_same_as_itself(value, same):
    assert difference(value, value, same) == ""


DIFFERENT = [
    (1.0, 2.0, "1.0 against 2.0"),
    (1, True, "int against bool"),
    ([1.0], (1.0,), "list against tuple"),
    ({"a": 1}, OrderedDict(a=1), "dict against OrderedDict"),
    ([1.0], [1.0, 2.0], "1 elements against 2"),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "elements .a, .b against .b, .a"),
    (F32(1.0), F64(1.0), "float32 against float64"),
    (np.zeros(2, F32), np.zeros(2, F64), "float32 against float64"),
    (np.zeros((2, 1)), np.zeros(2), "shape [2, 1] against [2]"),
    (F32(0.1), F32(0.3), "0.1 against 0.3"),
    ([1, model(((2, 0), 3.0))], [1, model()], "[1].weights: 3.0 against 4.0 at [2, 0]"),
    (Pair({"a": [F32(1)]}, 0), Pair({"a": [F32(2)]}, 0), ".left.a[0]: 1.0 against 2.0"),
    ({7: 1.0}, {7: 2.0}, "[7]: 1.0 against 2.0"),
    (np.array([["a"], ["b"]], object), np.array([["a"], ["c"]], object), "'b' against 'c' at [1, 0]"),
    (sequence(1.0, 2.0), sequence(1.0, 3.0), "[1]: 2.0 against 3.0"),
    (sequence(1.0), sequence(), "1 elements against 0"),
    (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "nan against 2.0 at [1]"),
    (np.array([1.0], ml_dtypes.bfloat16), np.array([2.0], ml_dtypes.bfloat16), "1 against 2 at [0]"),
]


@pytest.mark.parametrize(("found", "wanted", "text"), DIFFERENT, ids=[text for *_, text in DIFFERENT])
def test_the_first_difference_is_told(found, wanted, text):
    assert difference(found, wanted) == text


def test_what_counts_as_the_same_number():
    zeros, nans = (F32(0.0), F32(-0.0)), (F32("nan"), OTHER_NAN)
    assert difference(*zeros, as_numbers) == ""
    assert difference(*zeros) == difference(*zeros, to_the_bit) == "0.0 against -0.0"
    assert difference(*nans, as_numbers) == difference(*nans) == ""
    assert difference(*nans, to_the_bit) == "nan against the same in other bits"


def test_arrays_need_not_be_contiguous():
    rows = np.arange(6.0).reshape(2, 3)
    assert difference(rows.T, rows.T.copy()) == ""
    assert difference(rows[:, ::2], rows[:, 1:]) == "0.0 against 1.0 at [0, 0]"
