"""Arguments stay as they are, results are arrays of their own."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm

F32 = np.float32
VECTOR, MATRIX = fm.TensorType(F32, [None]), fm.TensorType(F32, [None, None])
MODEL = OrderedDict(weights=(F32, [2, 3]), bias=(F32, [3]))
model = {"weights": np.arange(6, dtype=F32).reshape(2, 3), "bias": np.ones(3, F32)}


ALIASES = {
    "whole": lambda a: a,
    "view": lambda a: a[:],
    "slice": lambda a: a[1:],
    "backwards": lambda a: a[::-1],
    "transposed": lambda a: a.T,
    "reshaped": lambda a: a.reshape(-1),
    "ravelled": lambda a: a.ravel(),
    "row": lambda a: a[1],
    "column": lambda a: a[:, 0],
    "Fortran": lambda a: np.asfortranarray(a),
    "contiguous": lambda a: np.ascontiguousarray(a),
    "broadcast": lambda a: np.broadcast_to(a[0], (3, a.shape[1])),
}


@pytest.mark.parametrize("name", ALIASES)
def test_results_own_their_memory(name):
    function, argument = ALIASES[name], np.arange(12, dtype=F32).reshape(4, 3)
    computation = fm.numba_computation(function, MATRIX)
    for value in (
        argument,
        np.asfortranarray(argument),
        argument[::-1],
        np.arange(24, dtype=F32).reshape(4, 6)[:, ::2],
    ):
        before = value.copy()
        got = computation(value)
        np.testing.assert_array_equal(got, function(before))
        assert got.flags.c_contiguous
        assert got.flags.writeable
        got[...] = -1
        np.testing.assert_array_equal(value, before)


def test_parts_of_a_result_share_no_memory():
    @fm.numba_computation(VECTOR)
    def parts(x):
        made = x * 2
        return made, made, made[1:], {"again": made}

    first, second, tail, again = parts(np.ones(3, F32))
    first[:] = 9
    for other in (second, tail, again["again"]):
        assert np.all(other == 2)


def test_fields_of_arguments_and_elements_of_sequences_are_copied():
    field = fm.numba_computation(lambda m: m.bias, MODEL)
    got = field(model)
    got[:] = 5
    assert np.all(model["bias"] == 1)
    sequence = fm.numba_computation(lambda s: (s[0], s[-1]), fm.SequenceType(VECTOR))
    data = [np.ones(2, F32), np.zeros(1, F32)]
    first, _last = sequence(data)
    first[:] = 5
    assert np.all(data[0] == 1)


TABLE = np.arange(3, dtype=F32)


def test_a_returned_global_array_is_copied():
    table = fm.numba_computation(lambda x: TABLE, F32)
    got = table(1.0)
    got[:] = 7
    np.testing.assert_array_equal(table(1.0), np.arange(3))
