"""`fm.model`'s functions in bodies, as Numba compiles them; `local.whole` has the same in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.language.operators.models import with_dtype
from fedmpi.language.types import StructType, TensorType
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.typed import model_forms
from fedmpi.local.typed.coerce import cast_to, put_at
from fedmpi.local.typed.flat_structs import FlatStruct, same_places
from fedmpi.local.typed.record_arithmetic import (
    KINDS,
    Implementation,
    dtype_of,
    dtype_of_all,
    each_piece,
    fail,
    is_struct,
    leaves_of_model,
    order_of,
)
from fedmpi.local.typed.tokens import token_of
from fedmpi.local.value_errors import UnequalShapesError
from fedmpi.local.whole import model_functions


def _in_order(text: str, value: Any, like: Any) -> list[tuple[str, Any]]:
    """Return texts and types of a model's leaves in the order of the elements of another."""
    if is_struct(value) != is_struct(like):
        fail("fm.model.dot: both sides must have the same elements")
    if not is_struct(value):
        return leaves_of_model(text, value)
    order, parts = order_of("fm.model.dot", like, value), list(value)
    pairs = zip(order, like, strict=True)
    return [leaf for k, other in pairs for leaf in _in_order(f"{text}[{k}]", parts[k], other)]


def _vector(text: Implementation, name: str, model: str, value: Any, like: Any = None) -> str:
    """Write all numbers of a model as one vector, its own if it is flat; return its text.

    They stand in the order of ``like``'s elements, if it is given.
    """
    dtype = dtype_of_all(name, value)
    leaves = leaves_of_model(model, value) if like is None else _in_order(model, value, like)
    if isinstance(value, FlatStruct) and leaves == leaves_of_model(model, value):
        return text.vectors(model, value)[0]
    if isinstance(value, types.Array) and value.ndim:
        return text.bind(f"{model}.ravel()")
    sizes = " + ".join(f"{leaf}.size" if isinstance(type_, types.Array) else "1" for leaf, type_ in leaves)
    vector = text.bind(f"{text.named('empty', np.empty)}({sizes or '0'}, {text.named('dtype', dtype.type)})")
    text.lines.append("at = 0")
    for leaf, type_ in leaves:
        if isinstance(type_, types.Array) and type_.ndim:
            text.lines.append(f"{text.named('put', put_at)}({vector}, at, {leaf}.ravel())")
            text.lines.append(f"at += {leaf}.size")
        else:
            text.lines += [f"{vector}[at] = {leaf}{'[()]' * isinstance(type_, types.Array)}", "at += 1"]
    return vector


def _expect_float(name: str, dtype: np.dtype[Any]) -> None:
    if dtype not in (np.float32, np.float64):
        fail(f"fm.model.{name}: the leaves must be float32 or float64, found {dtype.name}")


@overload(model_functions.dot, strict=False, jit_options=OPTIONS)
def _dot(left: Any, right: Any) -> Any:
    dtype, other = dtype_of_all("dot", left), dtype_of_all("dot", right)
    _expect_float("dot", dtype)
    if dtype != other:
        fail(f"fm.model.dot: both sides must have one dtype, found {dtype.name} and {other.name}")
    text = Implementation("left, right")
    one, two = _vector(text, "dot", "left", left), _vector(text, "dot", "right", right, left)
    unequal = text.named("Unequal", UnequalShapesError)
    text.lines += [f"if {one}.size != {two}.size:", f"    raise {unequal}('dot', {one}.shape, {two}.shape)"]
    function = text.named("dot", model_forms.vector_dot)
    return text.made(f"{text.named('as', dtype.type)}({function}({one}, {two}))")


@overload(model_functions.norm, strict=False, jit_options=OPTIONS)
def _norm(model: Any) -> Any:
    dtype = dtype_of_all("norm", model)
    _expect_float("norm", dtype)
    text = Implementation("model")
    vector = _vector(text, "norm", "model", model)
    return text.made(f"{text.named('as', dtype.type)}({text.named('norm', model_forms.vector_norm)}({vector}))")


@overload(model_functions.zeros_like, strict=False, jit_options=OPTIONS)
def _zeros_like(model: Any) -> Any:
    def zeros(text: Implementation, leaf: str, value: Any) -> str:
        dtype = text.named("dtype", dtype_of(value).type)
        if isinstance(value, types.Array):
            return f"{text.named('zeros', np.zeros)}({leaf}.shape, {dtype})"
        return text.named("zero", dtype_of(value).type(0))

    text = Implementation("model")
    return text.made(each_piece(text, "model", model, zeros))


@overload(model_functions.flatten, strict=False, jit_options=OPTIONS)
def _flatten(model: Any) -> Any:
    text = Implementation("model")
    return text.made(f"{_vector(text, 'flatten', 'model', model)}.copy()")


@overload(model_functions.unflatten, strict=False, jit_options=OPTIONS)
def _unflatten(vector: Any, like: Any) -> Any:
    dtype = dtype_of_all("unflatten", like)
    integers = isinstance(vector, types.Array) and isinstance(vector.dtype, types.Integer) and dtype.kind in "iu"
    if not isinstance(vector, types.Array) or vector.ndim != 1 or not (integers or dtype_of(vector) == dtype):
        fail(f"fm.model.unflatten: vector must be {dtype.name}[?], found {vector}")
    text = Implementation("vector, like")
    text.lines.append("at = 0")
    token = text.named("T", token_of(TensorType(dtype), "fm.model.unflatten"))
    given = text.bind(f"{text.named('cast', model_forms.cast_tensor)}(vector, {token})")

    def taken(text: Implementation, leaf: str, value: Any) -> str:
        if not isinstance(value, types.Array):
            text.lines.append("at += 1")
            return f"{given}[at - 1]"
        text.lines.append(f"at += {leaf}.size")
        return f"{given}[at - {leaf}.size : at].copy().reshape({leaf}.shape)"

    sizes = " + ".join(
        f"{leaf}.size" if isinstance(t, types.Array) else "1" for leaf, t in leaves_of_model("like", like)
    )
    unequal = text.named("Unequal", UnequalShapesError)
    size = text.bind(sizes) if not isinstance(like, FlatStruct) else str(like.layout.formats[0][1][0])
    text.lines += [f"if {given}.size != {size}:", f"    raise {unequal}('unflatten', {given}.shape, ({size},))"]
    if isinstance(like, FlatStruct):
        return text.made(text.flat(like.struct, [given]))
    return text.made(each_piece(text, "like", like, taken))


@overload(model_functions.cast, strict=False, jit_options=OPTIONS)
def _cast(model: Any, dtype: Any) -> Any:
    wanted = np.dtype(str(getattr(dtype, "dtype", dtype)))

    def cast(text: Implementation, leaf: str, value: Any) -> str:
        found = dtype_of(value)
        if KINDS.find(found.kind.replace("u", "i")) > KINDS.find(wanted.kind.replace("u", "i")):
            fail(f"fm.model.cast: a cast must lose no kind of number, found {found.name} to {wanted.name}")
        token = text.named("T", token_of(TensorType(wanted), "fm.model.cast"))
        return f"{text.named('cast', model_forms.cast_tensor)}({leaf}, {token})"

    text = Implementation("model, dtype")
    if isinstance(model, FlatStruct) and len(model.vectors) == 1:
        struct = with_dtype(model.struct, wanted)
        assert isinstance(struct, StructType)
        vector = text.bind(cast(text, text.vectors("model", model)[0], model.vectors[0]))
        return text.made(text.flat(struct, [vector]))
    return text.made(_each_leaf(text, "model", model, cast))


def _each_leaf(text: Implementation, model: str, value: Any, leaf: Callable[[Implementation, str, Any], str]) -> str:
    """Write what is done with each leaf of a model, whose dtypes may change; return the record of the results."""
    if is_struct(value):
        parts = [_each_leaf(text, f"{model}[{i}]", part, leaf) for i, part in enumerate(value)]
        return text.bind(text.record(value, parts))
    return text.bind(leaf(text, model, value))


@overload(model_functions.map, strict=False, jit_options=OPTIONS)
def _map(fn: Any, *models: Any) -> Any:
    if not models:
        fail("fm.model.map: there must be a model at least")
    text = Implementation("fn, *models")
    return text.made(_mapped(text, [(f"models[{i}]", model) for i, model in enumerate(models)]))


def _mapped(text: Implementation, models: list[tuple[str, Any]]) -> str:
    first = models[0][1]
    if isinstance(first, FlatStruct) and all(
        isinstance(value, FlatStruct) and same_places(first, value) for _, value in models
    ):
        vectors = [zip(text.vectors(*model), model[1].vectors, strict=True) for model in models]
        return text.bind(text.flat(first.struct, [_mapped(text, list(each)) for each in zip(*vectors, strict=True)]))
    if is_struct(first):
        if not all(is_struct(value) for _, value in models):
            fail("fm.model.map: models must have the same elements")
        orders = [order_of("fm.model.map", first, value) for _, value in models]
        parts = []
        for i in range(len(first)):
            each = zip(models, orders, strict=True)
            parts.append(_mapped(text, [(f"{m}[{order[i]}]", list(value)[order[i]]) for (m, value), order in each]))
        return text.bind(text.record(first, parts))
    dtype = dtype_of(first)
    cast = text.named("as", cast_to(dtype))
    if not isinstance(first, types.Array):
        return text.bind(f"{cast}(fn({', '.join(m for m, _ in models)}))")
    names = [text.bind(f"{model}.ravel()") for model, _ in models]
    unequal = text.named("Unequal", UnequalShapesError)
    for model, _ in models[1:]:
        text.lines += [f"if {model}.shape != {models[0][0]}.shape:"]
        text.lines += [f"    raise {unequal}('map', {models[0][0]}.shape, {model}.shape)"]
    out = text.bind(f"{text.named('empty', np.empty)}({names[0]}.size, {text.named('dtype', dtype.type)})")
    text.lines += [f"for i in range({out}.size):"]
    text.lines += [f"    {out}[i] = {cast}(fn({', '.join(f'{name}[i]' for name in names)}))"]
    return text.bind(f"{out}.reshape({models[0][0]}.shape)")


@overload(model_functions.leaves, strict=False, jit_options=OPTIONS)
def _leaves_of(model: Any) -> Any:
    text = Implementation("model")
    if isinstance(model, FlatStruct) and len(model.vectors) == 1:
        dtype = model.layout.formats[0][0]
        struct = StructType([TensorType(dtype, [place.stop - place.start]) for place in model.layout.leaves])
        return text.made(text.flat(struct, text.vectors("model", model)))
    parts = []
    for leaf, value in leaves_of_model("model", model):
        array = isinstance(value, types.Array) and value.ndim
        parts.append(f"{leaf}.ravel()" if array else f"{text.named('full', np.full)}(1, {leaf})")
    return text.made(f"({''.join(part + ', ' for part in parts)})")
