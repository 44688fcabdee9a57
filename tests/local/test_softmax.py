"""Softmax kernels against float64 NumPy, SciPy's logsumexp, finite differences and the tutorial's numbers."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.special import logsumexp, softmax

from fedmpi import data, kernels
from fedmpi.kernels import (
    Kernel,
    softmax_evaluate,
    softmax_gradient,
    softmax_loss,
    softmax_predict,
    softmax_sgd_step,
    softmax_sgd_step_into,
)
from fedmpi.local.jit.probe import probe, probing

ALL = [
    softmax_evaluate,
    softmax_gradient,
    softmax_loss,
    softmax_predict,
    softmax_sgd_step,
    softmax_sgd_step_into,
]
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def problem(n, d, c, dtype=np.float32, labels=np.int32, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(dtype)
    y = rng.integers(0, c, n).astype(labels)
    return x, y, (scale * rng.standard_normal((d, c))).astype(dtype), rng.standard_normal(c).astype(dtype)


@np.errstate(under="ignore")
def expected(x, y, weights, bias):
    """(row losses, gradient by weights, by bias) in float64, written without a look at the kernels."""
    z = x.astype(np.float64) @ weights.astype(np.float64) + bias.astype(np.float64)
    rows = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    slope = (softmax(z, axis=1) - np.eye(len(bias))[y]) / len(y)
    return rows, np.einsum("nd,nc->dc", x.astype(np.float64), slope), slope.sum(axis=0)


def run_both(kernel, *arguments):
    """The results of the compiled kernel and of its twin."""
    compiled = kernel(*arguments)
    with probe():
        return compiled, kernel(*arguments)


# --- values

shapes = st.tuples(st.integers(1, 40), st.integers(1, 200), st.integers(1, 20))
kinds = st.sampled_from([(np.float32, np.int32), (np.float64, np.int64), (np.float32, np.uint8)])


@settings(max_examples=60, deadline=None)
@given(shapes, kinds, st.integers(0, 1000), st.sampled_from([0.0, 1.0, 30.0]))
def test_kernels_and_twins_equal_float64_numpy(shape, kind, seed, scale):
    dtype, labels = kind
    x, y, weights, bias = problem(*shape, dtype, labels, seed, scale)
    rows, by_weight, by_bias = expected(x, y, weights, bias)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype] * max(scale, 1) * shape[1]}
    for loss in run_both(softmax_loss, x, y, weights, bias):
        np.testing.assert_allclose(loss, rows.mean(), **close)
    for got_weight, got_bias in run_both(softmax_gradient, x, y, weights, bias):
        assert got_weight.dtype == got_bias.dtype == dtype
        np.testing.assert_allclose(got_weight, by_weight, **close)
        np.testing.assert_allclose(got_bias, by_bias, **close)
    for new_weight, new_bias in run_both(softmax_sgd_step, x, y, weights, bias, 0.25):
        assert new_weight.dtype == new_bias.dtype == dtype
        np.testing.assert_allclose((weights - new_weight) / 0.25, by_weight, **close)
        np.testing.assert_allclose((bias - new_bias) / 0.25, by_bias, **close)
    for total, correct in run_both(softmax_evaluate, x, y, weights, bias):
        np.testing.assert_allclose(total, rows.sum(), rtol=close["rtol"], atol=close["atol"] * len(y))
        assert correct == (softmax_predict(x, weights, bias) == y).sum()


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 12), st.integers(1, 20), st.integers(1, 6)), st.integers(0, 1000))
def test_gradient_is_the_slope_of_the_loss(shape, seed):
    x, y, weights, bias = problem(*shape, np.float64, np.int64, seed)
    by_weight, by_bias = softmax_gradient(x, y, weights, bias)
    rng = np.random.default_rng(seed)
    along_w, along_b, h = rng.standard_normal(weights.shape), rng.standard_normal(bias.shape), 1e-5
    up = softmax_loss(x, y, weights + h * along_w, bias + h * along_b)
    down = softmax_loss(x, y, weights - h * along_w, bias - h * along_b)
    slope = (by_weight * along_w).sum() + (by_bias * along_b).sum()
    np.testing.assert_allclose((up - down) / (2 * h), slope, atol=1e-6 * shape[1])


@pytest.mark.parametrize(("n", "d", "c"), [(1, 1, 1), (1, 784, 10), (7, 5, 2), (8, 16, 3), (9, 1, 300), (300, 63, 2)])
def test_predictions_are_the_highest_scores(n, d, c):
    x, _, weights, bias = problem(n, d, c, np.float64)
    for classes in run_both(softmax_predict, x, weights, bias):
        assert classes.dtype == np.int32
        np.testing.assert_array_equal(classes, (x @ weights + bias).argmax(axis=1))


def test_equal_scores_give_the_lowest_class_and_nan_wins_as_in_argmax():
    x = np.ones((1, 1))
    for bias in ([0.0, 2.0, 2.0], [0.0, np.nan, 5.0], [np.nan, 1.0, np.nan], [-np.inf, -np.inf, 0.0]):
        assert softmax_predict(x, np.zeros((1, 3)), np.array(bias))[0] == np.argmax(bias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_are_safe(dtype):
    x, y = np.eye(3, dtype=dtype), np.arange(3, dtype=np.int32)
    weights, bias = (1e4 * np.eye(3)).astype(dtype), np.zeros(3, dtype)
    for loss in run_both(softmax_loss, x, y, weights, bias):
        assert loss == 0
    for loss in run_both(softmax_loss, x, (y + 1) % 3, weights, bias):
        assert loss == 1e4
    for by_weight, by_bias in run_both(softmax_gradient, x, (y + 1) % 3, weights, bias):
        assert np.isfinite(by_weight).all()
        assert np.isfinite(by_bias).all()
        np.testing.assert_allclose(by_weight, (np.eye(3) - np.roll(np.eye(3), 1, axis=1)) / 3, rtol=1e-6)


def test_one_class_has_no_loss_and_no_gradient():
    x, y, weights, bias = problem(5, 3, 1, np.float64)
    assert softmax_loss(x, y, weights, bias) == 0
    assert softmax_evaluate(x, y, weights, bias) == (0, 5)
    assert not np.any(softmax_gradient(x, y, weights, bias)[0])


def test_no_features_leaves_the_bias():
    x, y, bias = np.zeros((4, 0)), np.array([0, 1, 2, 0], np.int32), np.array([1.0, 2.0, 3.0])
    for loss in run_both(softmax_loss, x, y, np.zeros((0, 3)), bias):
        np.testing.assert_allclose(loss, np.mean(logsumexp(bias) - bias[y]))


def test_no_rows_have_no_loss_and_a_zero_gradient():
    x, y, weights, bias = problem(0, 5, 3)
    for loss in run_both(softmax_loss, x, y, weights, bias):
        assert np.isnan(loss)
    for by_weight, by_bias in run_both(softmax_gradient, x, y, weights, bias):
        assert not by_weight.any()
        assert not by_bias.any()
    for new_weight, new_bias in run_both(softmax_sgd_step, x, y, weights, bias, 0.1):
        np.testing.assert_array_equal(new_weight, weights)
        np.testing.assert_array_equal(new_bias, bias)
    assert run_both(softmax_evaluate, x, y, weights, bias) == ((0, 0), (0, 0))


def test_rows_do_not_depend_on_their_batch():
    """A row's score has one order of summation, wherever the row stands: losses of parts add up to the whole's."""
    x, y, weights, bias = problem(37, 101, 7, np.float64)
    one_by_one = [softmax_loss(x[i : i + 1], y[i : i + 1], weights, bias) for i in range(37)]
    total = 0.0
    for loss in one_by_one:
        total += loss
    assert softmax_evaluate(x, y, weights, bias)[0] == total


def test_accumulates_in_float64():
    n = 200_000
    x, y = np.zeros((n, 1), np.float32), np.zeros(n, np.int32)
    weights, bias = np.zeros((1, 3), np.float32), np.zeros(3, np.float32)
    assert np.float32(softmax_evaluate(x, y, weights, bias)[0]) == np.float32(n * np.log(3))


# --- the tutorial


def test_tutorials_numbers_for_digit_5():
    batches = data.by_digit(data.mnist().train)[5]
    x, y = batches[-1]["x"], batches[-1]["y"]
    weights, bias = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    assert softmax_loss(x, y, weights, bias) == pytest.approx(2.3025851, rel=2e-6)
    losses = []
    for _ in range(5):
        weights, bias = softmax_sgd_step(x, y, weights, bias, np.float32(0.1))
        losses.append(softmax_loss(x, y, weights, bias))
    assert losses == pytest.approx([0.19690023, 0.13176313, 0.10113225, 0.08273812, 0.070301384], rel=2e-6)


def test_tutorials_local_training_in_place():
    clients = data.by_digit(data.mnist().train)
    weights, bias = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)

    def local_eval(digit):
        return sum(np.float32(softmax_loss(b["x"], b["y"], weights, bias)) for b in clients[digit])

    assert local_eval(5) == pytest.approx(23.025854, rel=2e-6)
    for batch in clients[5]:
        softmax_sgd_step_into(batch["x"], batch["y"], weights, bias, np.float32(0.1))
    assert local_eval(5) == pytest.approx(0.43484688, rel=2e-6)
    assert local_eval(0) == pytest.approx(74.50075, rel=2e-6)


# --- arguments


def test_functional_forms_leave_their_arguments_alone_and_take_read_only_ones():
    arguments = problem(20, 12, 4)
    before = [a.copy() for a in arguments]
    for array in arguments:
        array.setflags(write=False)
    weights, bias = softmax_sgd_step(*arguments, 0.5)
    softmax_gradient(*arguments)
    softmax_evaluate(*arguments)
    softmax_loss(*arguments)
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert weights.flags.writeable
    assert bias.flags.writeable
    assert not np.shares_memory(weights, arguments[2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_place_form_gives_the_same_bits(dtype):
    x, y, weights, bias = problem(53, 31, 5, dtype)
    new_weights, new_bias = softmax_sgd_step(x, y, weights, bias, 0.3)
    assert softmax_sgd_step_into(x, y, weights, bias, 0.3) is None
    np.testing.assert_array_equal(weights, new_weights)
    np.testing.assert_array_equal(bias, new_bias)


def test_in_place_table():
    assert softmax_sgd_step.in_place is softmax_sgd_step_into
    assert softmax_sgd_step_into.writes == (2, 3)
    assert [k for k in ALL if k.in_place or k.writes] == [softmax_sgd_step, softmax_sgd_step_into]


def test_strided_arguments_give_the_same_bits():
    x, y, weights, bias = problem(40, 24, 6)
    plain = softmax_gradient(x[::2].copy(), y[::2].copy(), weights, bias)
    strided = softmax_gradient(x[::2], y[::2], np.asfortranarray(weights), bias)
    for a, b in zip(plain, strided, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kernel", [softmax_loss, softmax_gradient, softmax_evaluate])
@pytest.mark.parametrize(("label", "labels"), [(10, np.int32), (-1, np.int32), (255, np.uint8), (2**40, np.int64)])
def test_label_out_of_range_is_refused(kernel, label, labels, compiled):
    x, y, weights, bias = problem(9, 3, 10, labels=labels)
    y[6] = label
    run = kernel if compiled else kernel.twin
    with pytest.raises(ValueError, match=rf"^softmax: label {label} in row 6 is outside 0\.\.9$"):
        run(x, y, weights, bias)


def test_refused_label_leaves_the_buffers_alone():
    x, y, weights, bias = problem(9, 3, 4)
    y[8] = 4
    before = weights.copy(), bias.copy()
    for _ in range(2):
        with pytest.raises(ValueError, match="softmax: label 4 in row 8"):
            softmax_sgd_step_into(x, y, weights, bias, 0.1)
    np.testing.assert_array_equal(weights, before[0])
    np.testing.assert_array_equal(bias, before[1])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "weights", "bias"),
    [((5, 3), 4, (3, 2), 2), ((5, 3), 6, (3, 2), 2), ((5, 3), 5, (4, 2), 2), ((5, 3), 5, (3, 2), 3)],
)
def test_shapes_that_do_not_agree_are_refused(x, y, weights, bias, compiled):
    arrays = np.zeros(x, np.float32), np.zeros(y, np.int32), np.zeros(weights, np.float32), np.zeros(bias, np.float32)
    text = rf"x\[{x[0]}, {x[1]}\], y\[{y}\], weights\[{weights[0]}, {weights[1]}\], bias\[{bias}\]$"
    with pytest.raises(ValueError, match="softmax: shapes do not agree: " + text):
        (softmax_loss if compiled else softmax_loss.twin)(*arrays)


@pytest.mark.parametrize("compiled", [True, False])
def test_dtypes_that_make_no_model_are_refused(compiled):
    x, y, weights, bias = problem(5, 3, 2)
    run = softmax_loss if compiled else softmax_loss.twin
    with pytest.raises(ValueError, match="labels must be integers"):
        run(x, y.astype(np.float32), weights, bias)
    with pytest.raises(ValueError, match="labels must be integers"):
        run(x, y.astype(np.bool_), weights, bias)
    with pytest.raises(ValueError, match="weights and bias must be floating-point"):
        run(x, y, weights.astype(np.int32), bias)


# --- Kernel objects

nested_loss = softmax_loss  # another name for the same object


@njit
def outer(x, y, weights, bias):
    return inner(x, y, weights, bias) + kernels.softmax_loss(x, y, weights, bias)


@njit
def inner(x, y, weights, bias):
    new = softmax_sgd_step(x, y, weights, bias, 0.1)
    return nested_loss(x, y, new[0], new[1])


def test_kernels_are_called_inside_jitted_functions():
    arguments = problem(6, 5, 3)
    for array in arguments:
        array.setflags(write=False)
    after = softmax_loss(*arguments[:2], *softmax_sgd_step(*arguments, 0.1))
    assert outer(*arguments) == pytest.approx(after + softmax_loss(*arguments), rel=1e-6)
    bad = arguments[1].copy()
    bad[2] = 3
    with pytest.raises(ValueError, match="softmax: label 3 in row 2"):
        outer(arguments[0], bad, *arguments[2:])


def test_kernel_as_closure_variable_and_as_argument():
    kernel = softmax_loss
    arguments = problem(6, 5, 3)
    assert njit(lambda x, y, w, b: kernel(x, y, w, b))(*arguments) == softmax_loss(*arguments)
    assert njit(lambda f, x, y, w, b: f(x, y, w, b))(softmax_loss, *arguments) == softmax_loss(*arguments)


def test_probes_compile_nothing():
    assert not probing()
    arguments = problem(2, 3, 4, np.float64, np.int16)
    before = len(softmax_loss.dispatcher.signatures)
    with probe():
        assert probing()
        with probe():
            assert isinstance(softmax_loss(*arguments), np.float64)
        assert probing()
    assert not probing()
    assert len(softmax_loss.dispatcher.signatures) == before


def test_kernel_describes_and_pickles_itself():
    assert repr(softmax_loss) == "<kernel softmax_loss(x, y, weights, bias)>"
    assert softmax_loss.__doc__.startswith("The mean cross-entropy")
    for kernel in ALL:
        assert isinstance(kernel, Kernel)
        assert pickle.loads(pickle.dumps(kernel)) is kernel


PROGRAM = """
import sys
import numpy as np
from numba import njit
import fedmpi.kernels
from fedmpi import kernels

def make(kernel):
    @njit(cache=True)
    def closure(x, y, weights, bias):
        return kernel(x, y, weights, bias)
    return closure

@njit(cache=True)
def inner(x, y, weights, bias):
    return kernels.softmax_loss(x, y, weights, bias)

@njit(cache=True)
def outer(x, y, weights, bias):
    return inner(x, y, weights, bias)

closure = make(kernels.softmax_loss)
arguments = np.ones((3, 4)), np.array([0, 1, int(sys.argv[1])]), np.ones((4, 2)), np.zeros(2)
for function in (outer, closure):
    try:
        print(round(function(*arguments), 6))
    except ValueError as error:
        print(error)
print(*(sum(f.stats.cache_hits.values()) for f in (outer, closure)))
"""


@pytest.mark.slow
def test_callers_are_cached_and_still_raise(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    root = str(Path(kernels.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run(label):
        command = [sys.executable, "program.py", label]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout.splitlines()

    refused = "softmax: label 2 in row 2 is outside 0..1"
    assert run("1") == ["0.693147", "0.693147", "0 0"]
    assert run("1") == ["0.693147", "0.693147", "1 1"]
    assert run("2") == [refused, refused, "1 1"]
