"""Softmax kernels on sparse rows and on pixels, at sizes around those of vectors and tiles, on other vector widths."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import fedmpi
from fedmpi.kernels import (
    softmax_evaluate,
    softmax_gradient,
    softmax_loss,
    softmax_predict,
    softmax_sgd_step,
    softmax_sgd_step_into,
)
from fedmpi.local.columns.sparse import Csr, Pixels

pytestmark = pytest.mark.slow  # each form of rows and dtype is compiled

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


def sparse(x, lead=0):
    """The rows of `x`, behind `lead` numbers of other rows."""
    row, column = np.nonzero(x)
    values = np.concatenate([np.full(lead, np.nan, x.dtype), x[row, column]])
    columns = np.concatenate([np.full(lead, 10**6), column]).astype(np.int32)
    offsets = lead + np.concatenate([[0], np.cumsum((x != 0).sum(axis=1))]).astype(np.int64)
    for array in (values, columns, offsets):
        array.setflags(write=False)
    return Csr(values, columns, offsets, x.shape[1])


def problem(n, d, c, dtype, seed):
    rng = np.random.default_rng(seed)
    pixels = (rng.integers(0, 256, (n, d)) * (rng.random((n, d)) < 0.3)).astype(np.uint8)
    weights, bias = rng.standard_normal((d, c)).astype(dtype), rng.standard_normal(c).astype(dtype)
    return pixels, rng.integers(0, c, n).astype(np.int32), weights, bias


def results(x, y, weights, bias, twins=False):
    """What all kernels, or their twins, return for these rows, as one list of arrays."""
    new = weights.copy(), bias.copy()
    kernels = [softmax_loss, softmax_evaluate, softmax_gradient]
    found = [(k.twin if twins else k)(x, y, weights, bias) for k in kernels]
    found.append((softmax_sgd_step.twin if twins else softmax_sgd_step)(x, y, weights, bias, 0.25))
    found.append((softmax_predict.twin if twins else softmax_predict)(x, weights, bias))
    (softmax_sgd_step_into.twin if twins else softmax_sgd_step_into)(x, y, *new, 0.25)
    for in_place, functional in zip(new, found[3], strict=True):
        np.testing.assert_array_equal(in_place, functional)
    return [np.asarray(part) for one in found for part in (one if isinstance(one, tuple) else (one,))]


shapes = st.tuples(st.integers(0, 70), st.integers(1, 150), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from([np.float32, np.float64]), st.integers(0, 1000), st.sampled_from([0, 5]))
def test_forms_agree_with_the_array(shape, dtype, seed, lead):
    pixels, y, weights, bias = problem(*shape, dtype, seed)
    x = (pixels / 255.0).astype(dtype)
    dense = results(x, y, weights, bias)
    for got, expected in zip(results(Pixels(pixels), y, weights, bias), dense, strict=True):
        np.testing.assert_array_equal(got, expected)  # to the bit
    close = {"rtol": TOLERANCE[dtype] * shape[1], "atol": TOLERANCE[dtype] * shape[1] * max(shape[0], 1)}
    for got, expected in zip(results(sparse(x, lead), y, weights, bias), dense, strict=True):
        np.testing.assert_allclose(got, expected, **close)
    for form in (x, Pixels(pixels), sparse(x, lead)):
        for got, expected in zip(results(form, y, weights, bias, twins=True), dense, strict=True):
            np.testing.assert_allclose(got, expected, **close)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 100, 300])
def test_batches_around_the_size_of_tiles_and_blocks(n):
    pixels, y, weights, bias = problem(n, 784, 10, np.float64, n)
    x = pixels / 255.0
    z = x @ weights + bias
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(n), y] -= 1
    for form in (x, Pixels(pixels), sparse(x)):
        by_weight, by_bias = softmax_gradient(form, y, weights, bias)
        np.testing.assert_allclose(by_weight, x.T @ p / n, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(by_bias, p.mean(axis=0), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 4, 5, 6, 10, 11, 12, 13])
def test_steps_of_few_rows(n, dtype):
    """Around the number of rows and of classes, and the features taken together, up to which nothing is turned."""
    for d in (1, 7, 8, 9, 16, 31):
        for c in (2, 3, 4, 5, 8, 9, 16, 17):
            pixels, y, weights, bias = problem(n, d, c, dtype, d)
            x = (pixels / 255.0).astype(dtype)
            close = {"rtol": 0, "atol": TOLERANCE[dtype] * d}
            by_weight, by_bias = softmax_gradient.twin(x, y, *(a.astype(np.float64) for a in (weights, bias)))
            for form in (x, np.asfortranarray(x), Pixels(pixels)):
                found = softmax_sgd_step(form, y, weights, bias, 0.25)
                np.testing.assert_allclose(found[0], weights - 0.25 * by_weight, **close)
                np.testing.assert_allclose(found[1], bias - 0.25 * by_bias, **close)
                np.testing.assert_allclose(softmax_gradient(form, y, weights, bias)[0], by_weight, **close)
                softmax_sgd_step_into(form, y, weights_into := weights.copy(), bias_into := bias.copy(), 0.25)
                np.testing.assert_array_equal(weights_into, found[0])
                np.testing.assert_array_equal(bias_into, found[1])


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 129])
@pytest.mark.parametrize("c", [1, 2, 3, 4, 5, 6, 15, 16, 17])
def test_nothing_beyond_the_weights_is_written(d, c):
    """Whole vectors are read and written in scratch memory only: what lies behind the caller's arrays stays."""
    pixels, y, weights, bias = problem(9, d, c, np.float32, d)
    x = (pixels / 255.0).astype(np.float32)
    around = np.full(d * c + 64, 7, np.float32)
    inside = around[32 : 32 + d * c].reshape(d, c)
    for form in (x, sparse(x)):
        inside[:] = weights
        softmax_sgd_step_into(form, y, inside, bias.copy(), 0.5)
        np.testing.assert_array_equal(inside, softmax_sgd_step(form, y, weights, bias, 0.5)[0])
    assert (around[:32] == 7).all()
    assert (around[32 + d * c :] == 7).all()


def test_strided_weights_are_written_where_they_are():
    pixels, y, weights, bias = problem(20, 33, 7, np.float32, 0)
    x = (pixels / 255.0).astype(np.float32)
    for form in (x, Pixels(pixels), sparse(x)):
        expected = softmax_sgd_step(form, y, weights, bias, 0.5)
        room = np.full((66, 14), 7, np.float32)
        room[::2, ::2] = weights
        new_bias = bias.copy()
        softmax_sgd_step_into(form, y, room[::2, ::2], new_bias, 0.5)
        np.testing.assert_array_equal(room[::2, ::2], expected[0])
        np.testing.assert_array_equal(new_bias, expected[1])
        assert (room[1::2] == 7).all()
        assert (room[:, 1::2] == 7).all()


def test_rows_of_any_dtype_are_numbers():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 21)).astype(np.uint8), rng.integers(0, 3, 40)
    weights, bias = rng.standard_normal((21, 3)).astype(np.float32), np.zeros(3, np.float32)
    expected = softmax_gradient(x.astype(np.float32), y, weights, bias)
    for dtype in (np.uint8, np.int64, np.float64):
        for rows in (x.astype(dtype), np.asfortranarray(x.astype(dtype))):
            for got, bits in zip(softmax_gradient(rows, y, weights, bias), expected, strict=True):
                np.testing.assert_array_equal(got, bits)


def test_a_nan_spoils_its_row_alone():
    pixels, y, weights, bias = problem(50, 40, 6, np.float32, 3)
    x = (pixels / 255.0).astype(np.float32)
    whole = softmax_predict(x, weights, bias)
    x[17, 39] = np.nan
    x[18, 0] = np.inf
    assert np.isnan(softmax_loss(x, y, weights, bias))
    keep = np.delete(np.arange(50), [17, 18])
    np.testing.assert_array_equal(softmax_predict(x, weights, bias)[keep], whole[keep])
    assert np.isnan(softmax_gradient(x[16:19], y[16:19], weights, bias)[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials_to_the_last_bits(dtype):
    """With the scores (0, -t) the gradient by the second bias is exp(-t) / (1 + exp(-t))."""
    t = np.concatenate([np.linspace(0, 80, 4001), [87.2, 88, 200, 1e30]]).astype(dtype)
    wide = t.astype(np.longdouble)
    with np.errstate(under="ignore"):
        expected = np.exp(-wide) / (1 + np.exp(-wide))
    zero = np.zeros(1, np.int32)
    x, weights = np.ones((1, 1), dtype), np.zeros((1, 2), dtype)
    got = np.array([softmax_gradient(x, zero, weights, np.array([0, -v], dtype))[1][1] for v in t])
    small = np.finfo(dtype).tiny
    np.testing.assert_allclose(got.astype(np.longdouble), expected, rtol=3 * np.finfo(dtype).eps, atol=small)
    assert got[-1] == 0


def test_width_of_sparse_rows_must_be_that_of_the_weights():
    pixels, y, weights, bias = problem(5, 8, 3, np.float32, 0)
    x = sparse((pixels / 255.0).astype(np.float32))
    wrong = x._replace(width=9)
    for run in (softmax_loss, softmax_loss.twin, softmax_sgd_step_into):
        rest = (0.1,) if run is softmax_sgd_step_into else ()
        with pytest.raises(ValueError, match=r"softmax: shapes do not agree: x\[5, 9\], y\[5\], weights\[8, 3\]"):
            run(wrong, y, weights, bias, *rest)
    with pytest.raises(ValueError, match="softmax: label 3 in row 0 is outside"):
        softmax_loss(x, y * 0 + 3, weights, bias)


@njit
def train(x, y, weights, bias):
    for _ in range(2):
        softmax_sgd_step_into(x, y, weights, bias, 0.5)


@pytest.mark.parametrize("n", [10, 120])
def test_compiled_callers_get_the_same_bits(n):
    pixels, y, weights, bias = problem(n, 784, 10, np.float32, 0)
    x = (pixels / 255.0).astype(np.float32)
    for form in (x, Pixels(pixels), sparse(x)):
        one, other = weights.copy(), weights.copy()
        train(form, y, one, bias.copy())
        new_bias = bias.copy()
        for _ in range(2):
            softmax_sgd_step_into(form, y, other, new_bias, 0.5)
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(("features", "width"), [("+avx2,+fma,+avx", 32), ("+sse4.2", 16)])
def test_other_vector_widths(features, width, tmp_path):
    """The tests of values on narrower vectors, as another processor has them."""
    code = f"import sys, pytest; from fedmpi.local.jit import simd; assert simd.VECTOR == {width}; "
    code += "sys.exit(pytest.main(sys.argv[1:]))"
    root = Path(fedmpi.__file__).parent.parent
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features, "PYTHONPATH": str(root)}
    environment |= {"FEDMPI_CACHE_DIR": str(tmp_path)}
    here = ["tests/local/test_softmax_forms.py", "-k", "agree or around or nothing_beyond or last_bits"]
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", *here]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
