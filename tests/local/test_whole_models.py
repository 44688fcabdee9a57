"""Arithmetic of whole models in bodies: compiled as in Python, and both as NumPy would do it leaf by leaf."""

from __future__ import annotations

import math
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.comparing import difference
from fedmpi.local.whole import model_twins

F32, F64, I32 = np.float32, np.float64, np.int32
WIDE = fm.to_type(OrderedDict(w=(F32, [2, 3]), b=F32, e=(F32, [4]), none=(F32, [0])))
FEW = fm.to_type(OrderedDict(w=F32, b=F32))
WHOLE = fm.to_type(OrderedDict(w=(I32, [3]), b=I32))
MIXED = fm.to_type(OrderedDict(w=(F32, [3]), b=I32))


def value_of(type_, seed):
    random = np.random.default_rng(seed)

    def made(part):
        if isinstance(part, fm.TensorType):
            return (random.standard_normal(part.shape) * 5).astype(part.dtype)[()]
        return OrderedDict((name, made(inner)) for name, inner in part.items())

    return made(type_)


def multiply(x, y):
    return x * y


def swapped(m):
    return {"b": m.b, "w": m.w}


def total(m):
    found = m.w.dtype.type(0)
    for leaf in fm.model.leaves(m):
        found += leaf.sum()
    return found


def rebound(a, b):
    before = a
    a += b
    a *= 2
    a -= before
    return before, a


ANY = {
    "rebound": rebound,
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "negative": lambda a, b: -a,
    "scaled": lambda a, b: 3 * a * I32(2),
    "zeros": lambda a, b: fm.model.zeros_like(a) - b,
    "cast": lambda a, b: fm.model.cast(a, F64),
}
OF_ONE_DTYPE = {
    "vector": lambda a, b: fm.model.flatten(a),
    "back": lambda a, b: fm.model.unflatten(fm.model.flatten(a) + fm.model.flatten(b), b),
    "mapped": lambda a, b: fm.model.map(multiply, a, b),
}


def divided(a, b):
    a /= b
    return a


FLOATS = {
    "divided": divided,
    "quotient": lambda a, b: a / b,
    "half": lambda a, b: 0.5 * a + a / 3.0 - (1 - b),
    "clipped": lambda a, b: a * (1 / max(fm.model.norm(a), F32(1))),
    "dot": lambda a, b: fm.model.dot(a, b),
}
CASES = [
    *(
        (t, n, f)
        for t in (WIDE, FEW, WHOLE, MIXED)
        for n, f in ANY.items()
        if t is not MIXED or n not in ("scaled", "rebound")
    ),
    *((t, n, f) for t in (WIDE, FEW, WHOLE) for n, f in OF_ONE_DTYPE.items()),
    *((t, n, f) for t in (WIDE, FEW) for n, f in FLOATS.items()),
    (WIDE, "leaves", lambda a, b: total(a)),
]


@pytest.mark.parametrize(("type_", "function"), [(t, f) for t, _, f in CASES], ids=[f"{t}-{n}" for t, n, _ in CASES])
def test_compiled_as_in_python(type_, function):
    a, b = value_of(type_, 1), value_of(type_, 2)
    body = fm.numba_computation(type_, type_)(function)
    found = body(a, b)
    with fm.debug():
        assert difference(found, body(a, b)) == ""


def test_names_decide_and_not_their_order():
    two = fm.to_type(OrderedDict(w=(F32, [2]), b=(F32, [2])))
    body = fm.numba_computation(two, two)(
        lambda a, b: (
            a - swapped(b),
            swapped(a) - b,
            fm.model.map(multiply, a, swapped(b)),
            fm.model.dot(a, swapped(b)),
        )
    )
    a, b = ({"w": [1.0, 2.0], "b": [3.0, 4.0]}, {"w": [10.0, 20.0], "b": [30.0, 40.0]})
    found = body(a, b)
    assert [list(part) for part in found[:3]] == [["w", "b"], ["b", "w"], ["w", "b"]]
    assert found[0]["w"].tolist() == found[1]["w"].tolist() == [-9, -18]
    assert found[2]["b"].tolist() == [90, 160]
    assert found[3] == 10 + 40 + 90 + 160
    with fm.debug():
        assert difference(found, body(a, b)) == ""


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000, 70000])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_order_of_a_dot_product(size, dtype):
    """Sixteen running sums, added pairwise: as the documentation says, in Python's own floats."""
    random = np.random.default_rng(size)
    a, b = (random.standard_normal(size).astype(dtype) for _ in range(2))
    lanes = [0.0] * 16
    for k in range(size):
        lanes[k % 16] += float(a[k]) * float(b[k])
    for step in (8, 4, 2, 1):
        lanes = [lanes[j] + lanes[j + step] for j in range(step)]
    assert model_twins.dot([a], [b]) == lanes[0]
    body = fm.numba_computation((dtype, [size]), (dtype, [size]))(lambda x, y: fm.model.dot(x, y))
    assert body(a, b) == dtype(lanes[0])
    true = sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))
    assert math.isclose(lanes[0], float(true), abs_tol=1e-9)
    assert fm.model.norm(OrderedDict(a=a)) == dtype(math.sqrt(model_twins.dot([a], [a])))


def test_integers_never_wrap():
    for dtype in (np.int8, np.uint8, np.int64):
        limits = np.iinfo(dtype)
        type_ = fm.to_type({"w": (dtype, [2])})
        for function, value in (
            (lambda m: m + m, limits.max), (lambda m: m * m, limits.max), (lambda m: -m, limits.min or 1),
            (lambda m: m - 1, limits.min),
        ):  # fmt: skip
            body = fm.numba_computation(type_, result=type_)(function)
            for mode in (fm.debug(False), fm.debug()):
                with mode, pytest.raises(OverflowError, match=f"does not fit {np.dtype(dtype).name}"):
                    body({"w": np.array([0, value], dtype)})


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda m: m * F64(0.5), "a float64 beside a model of int32 would change its kind"),
        (lambda m: m / 2, "a model of int32 has no such arithmetic"),
        (lambda m: m + {"w": m.w}, "both sides must have the same elements"),
        (lambda m: fm.model.norm(m), "the leaves must be float32 or float64, found int32"),
        (lambda m: fm.model.cast(m, np.bool_), "a cast must lose no kind of number"),
    ],
)
def test_bodies_that_are_refused(function, text):
    with pytest.raises(TypeError, match=text):
        fm.numba_computation(WHOLE)(function)
    with pytest.raises(TypeError, match=text):
        fm.numba_computation(WHOLE, result=WHOLE)(function)


def test_shapes_are_compared():
    open_ = fm.to_type(OrderedDict(w=(F32, [None])))
    body = fm.numba_computation(open_, open_)(lambda a, b: a - b)
    assert body({"w": [1.0, 2.0]}, {"w": [1.0, 1.0]})["w"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="both sides must have one shape"):
        body({"w": [1.0, 2.0]}, {"w": [1.0]})
    dot = fm.numba_computation(open_, open_)(lambda a, b: fm.model.dot(a, b))
    with pytest.raises(ValueError, match="dot: both sides must have one shape"):
        dot({"w": [1.0, 2.0]}, {"w": [1.0]})


def test_in_python():
    model = {"w": np.array([3.0, 4.0], F32), "b": [F32(2)]}
    assert fm.model.norm(model) == F32(math.sqrt(29))
    assert fm.model.flatten(model).tolist() == [3, 4, 2]
    assert fm.model.unflatten(np.arange(3, dtype=F32), model)["b"] == [2]
    assert fm.model.cast(model, F64)["w"].dtype == F64
    assert fm.model.map(lambda x: x + 1, model)["w"].tolist() == [4, 5]
    assert [leaf.tolist() for leaf in fm.model.leaves(model)] == [[3, 4], [2]]
    for call, text in (
        (lambda: fm.model.dot(model, {"w": model["w"]}), r"fm\.model\.dot: models must have the same elements"),
        (
            lambda: fm.model.unflatten(np.zeros(2, F32), model),
            r"unflatten: vector must be float32\[3\], found float32\[2\]",
        ),
        (lambda: fm.model.norm({"a": "text"}), "a model is made of arrays of numbers, found str"),
        (lambda: fm.model.map(abs), "there must be a model at least"),
        (
            lambda: fm.model.flatten({"a": F32(1), "b": F64(1)}),
            "the leaves must have one dtype, found float32, float64",
        ),
        (lambda: fm.model.cast({"a": F32(1)}, I32), "a cast must lose no kind of number"),
    ):
        with pytest.raises(TypeError, match=text):
            call()
    with pytest.raises(OverflowError, match="uint8"):
        fm.model.cast({"a": I32(-1)}, np.uint8)
