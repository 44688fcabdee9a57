"""Dimensions and dtypes of results: inferred from probes or declared, checked at every call."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.comparing import difference

F32, F64, I32 = np.float32, np.float64, np.int32
VECTOR, MATRIX = fm.TensorType(F32, [None]), fm.TensorType(F32, [None, None])


def same(got, want):
    assert difference(got, want) == ""


SHAPES = [
    (lambda x: x.T, [MATRIX], "float32[?,?]"),
    (lambda x: x[0], [MATRIX], "float32[?]"),
    (lambda x: x.sum(axis=0), [fm.TensorType(F32, [None, 4])], "float32[4]"),
    (lambda x: np.zeros((3, 2)), [VECTOR], "float64[3,2]"),
    (lambda x: np.outer(x, x), [VECTOR], "float32[?,?]"),
    (lambda x: x[x > 0], [VECTOR], "float32[?]"),
    (lambda n: np.arange(n), [I32], "int64[?]"),
    (lambda x: np.arange(3) * x[0], [fm.TensorType(I32, [None])], "int64[3]"),
    (lambda x: {"n": len(x), "x": x}, [VECTOR], "<n=int32,x=float32[?]>"),
]


@pytest.mark.parametrize(("function", "types", "expected"), SHAPES)
def test_dimensions_of_results(function, types, expected):
    assert str(fm.numba_computation(function, *types).type_signature.result) == expected


def test_dimensions_are_checked_at_every_call():
    @fm.numba_computation(VECTOR, result=(F32, [3]))
    def three(x):
        return x * 2

    same(three(np.ones(3, F32)), np.full(3, 2, F32))
    with pytest.raises(TypeError, match=r"^three: result: expected float32\[3\], found float32\[4\]"):
        three(np.ones(4, F32))
    with pytest.raises(TypeError, match=r"parameter x.*expected float32\[2\], found float32\[4\]"):
        fm.numba_computation(lambda x: x, fm.TensorType(F32, [2]))(np.ones(4, F32))

    with pytest.raises(TypeError, match=r"three: result: expected float32\[3\], found float32\[5\]"):
        fm.numba_computation(VECTOR, result=(F32, [3]))(lambda x: three(x))(np.ones(5, F32))


def test_dimensions_inside_a_struct_are_named():
    @fm.numba_computation(VECTOR, result=OrderedDict(a=F32, b=(F32, [2])))
    def made(x):
        return {"a": x[0], "b": x}

    with pytest.raises(TypeError, match=r"made: result, b: expected float32\[2\], found float32\[3\]"):
        made(np.ones(3, F32))


# --- dtypes ----------------------------------------------------------------------------------------------------------

KINDS = [
    (lambda a: a * 2.0 + 1, [F32], 3.0, F32(7)),
    (lambda a: np.exp(a) * 0, [F32], 3.0, F32(0)),
    (lambda a: a.mean(), [VECTOR], np.arange(4, dtype=F32), F32(1.5)),
    (lambda a: a / 2, [I32], 3, F64(1.5)),
    (lambda a: a // 2, [I32], 3, I32(1)),
    (lambda a: a + 1, [np.uint8], 3, np.uint8(4)),
    (lambda a: a + 1, [fm.TensorType(np.uint8, [None])], np.array([255, 1], np.uint8), np.array([0, 2], np.uint8)),
    (lambda a: not a, [np.bool_], True, np.bool_(False)),
    (lambda a: a > 1, [VECTOR], np.arange(3, dtype=F32), np.array([False, False, True])),
    (lambda a: a * 2j, [np.complex64], 1 + 1j, np.complex64(-2 + 2j)),
    (lambda a: abs(a), [np.complex64], 3 + 4j, F32(5)),
    (lambda a: 1 / a, [F32], 0.0, F32(np.inf)),
    (lambda a: 3, [F32], 0.0, I32(3)),
    (lambda a: True, [F32], 0.0, np.bool_(True)),
]


@pytest.mark.parametrize(("function", "types", "argument", "expected"), KINDS)
def test_dtypes_of_results(function, types, argument, expected):
    same(fm.numba_computation(function, *types)(argument), expected)


@pytest.mark.parametrize(
    ("declared", "source", "found"),
    [(F32, "a + 1", "int64"), (I32, "a * 0.5", "float64"), (I32, "a > 1", "bool"), (np.bool_, "a", "int32")],
)
def test_a_result_of_another_kind_is_refused_at_the_definition(declared, source, found):
    expected = np.dtype(declared).name
    with pytest.raises(TypeError, match=rf"<lambda>: result: expected {expected}, found {found}\n  at"):
        fm.numba_computation(eval(f"lambda a: {source}"), I32, result=declared)


def test_a_result_of_the_same_kind_is_cast():
    same(fm.numba_computation(lambda a: np.float64(a) * 2, F32, result=F32)(1.5), F32(3))
    same(fm.numba_computation(lambda a: a.astype(np.float64), VECTOR, result=VECTOR)(np.ones(2, F32)), np.ones(2, F32))
    same(fm.numba_computation(lambda a: a.sum(), fm.TensorType(I32, [None]), result=I32)(np.ones(3, I32)), I32(3))


@pytest.mark.parametrize("dtype", [np.float16, np.str_, fm.TensorType(np.float16, [None])])
def test_dtypes_without_a_compiled_form_are_referred_to_python_computation(dtype):
    with pytest.raises(TypeError, match=r"has no compiled form .a python_computation runs it interpreted"):
        fm.numba_computation(lambda a: a, dtype)


def test_tensors_of_unknown_rank_are_refused():
    with pytest.raises(TypeError, match="a float32 tensor of unknown rank has no compiled form, declare its rank"):
        fm.numba_computation(lambda a: a.sum(), fm.TensorType(F32, None))
