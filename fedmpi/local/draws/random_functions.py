"""What users call as `fm.random`: in Python, in bodies, and in traced programs.

A key is a value of type uint32[2].  All functions are pure: equal arguments give equal results, to the bit, on any
rank, in Python as in compiled code.  Number i of a result does not depend on how many there are.  A key is used for one
draw; others are made of it by `split` and `fold_in`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.errors import Report, reporting
from fedmpi.language.tracing.traced import Value, embed
from fedmpi.language.tree.scopes import current_scope
from fedmpi.language.types import TensorType, Type
from fedmpi.local.draws import distributions, threefry
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.jit.probe import probing
from fedmpi.local.value_errors import describe

KEY = TensorType(np.uint32, [2])
# Makes a local computation of a function, for calls in traced programs; `fedmpi.random` enters it.
MAKER: dict[str, Callable[..., Any]] = {}
FLOATS = (np.float32, np.float64)
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)


def key(seed: Any) -> Any:
    """Return the key of a seed, an integer of 64 bits: uint32[2]."""
    if current_scope() is not None:
        return _traced(key, [("seed", seed, TensorType(np.int64))], KEY)
    return threefry.key_of(_integer("key", "seed", seed))


def fold_in(key: Any, n: Any) -> Any:
    """Return the key of a key and an integer, such as a round's number or a client's index."""
    if current_scope() is not None:
        return _traced(fold_in, [("key", key, KEY), ("n", n, TensorType(np.int64))], KEY)
    return threefry.folded(_key("fold_in", key), _integer("fold_in", "n", n))


def split(key: Any, num: int = 2) -> Any:
    """Return ``num`` keys that are made of one, uint32[num, 2]."""
    if current_scope() is not None:
        return _traced(split, [("key", key, KEY)], (np.uint32, num, 2), num=num)
    count = _integer("split", "num", num)
    if count < 0:
        _refuse("split", f"num must be from 0, found {count}", ValueError)
    return threefry.several(_key("split", key), count)


def uniform(key: Any, shape: Any = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32) -> Any:
    """Return floats (float32 or float64) from ``low`` to ``high``, ``high`` not among them."""
    if current_scope() is not None:
        limits = [("low", low, TensorType(np.float64)), ("high", high, TensorType(np.float64))]
        return _traced(uniform, [("key", key, KEY), *limits], (dtype, shape), shape=shape, dtype=dtype)
    bounds = (0.0, 1.0) if probing() else (float(low), float(high))
    if not bounds[0] < bounds[1] or math.isinf(bounds[1] - bounds[0]):
        _refuse("uniform", f"low must be below high, both finite, found {low} and {high}", ValueError)
    return _filled("uniform", distributions.fill_uniform, key, shape, dtype, FLOATS, *bounds)


def normal(key: Any, shape: Any = (), dtype: Any = np.float32) -> Any:
    """Return standard normal numbers, float32 or float64."""
    if current_scope() is not None:
        return _traced(normal, [("key", key, KEY)], (dtype, shape), shape=shape, dtype=dtype)
    return _filled("normal", distributions.fill_normal, key, shape, dtype, FLOATS)


def integers(key: Any, low: Any, high: Any, shape: Any = (), dtype: Any = np.int64) -> Any:
    """Return integers from ``low`` to ``high`` - 1; what each is likelier than another is below 2^-64."""
    if current_scope() is not None:
        limits = [("low", low, TensorType(np.int64)), ("high", high, TensorType(np.int64))]
        return _traced(integers, [("key", key, KEY), *limits], (dtype, shape), shape=shape, dtype=dtype)
    least, most = _integer("integers", "low", low), _integer("integers", "high", high)
    least, most = (0, 1) if probing() else (least, most)
    limits_of = np.iinfo(_dtype("integers", dtype, INTEGERS))
    if not least < most or least < limits_of.min or most - 1 > limits_of.max:
        held = f"{limits_of.dtype.name} holds {limits_of.min} to {limits_of.max}"
        _refuse("integers", f"low must be below high, and {held}, found {least} and {most}", ValueError)
    return _filled("integers", distributions.fill_integers, key, shape, dtype, INTEGERS, least, most)


def bernoulli(key: Any, p: Any, shape: Any = ()) -> Any:
    """Return truth values, each true with probability ``p``."""
    if current_scope() is not None:
        chance = ("p", p, TensorType(np.float64))
        return _traced(bernoulli, [("key", key, KEY), chance], (np.bool_, shape), shape=shape)
    if not 0.0 <= float(p) <= 1.0 and not probing():
        _refuse("bernoulli", f"p must be from 0 to 1, found {p}", ValueError)
    return _filled("bernoulli", distributions.fill_bernoulli, key, shape, np.bool_, (np.bool_,), float(p))


def permutation(key: Any, n: Any) -> Any:
    """Return the numbers 0 to ``n`` - 1 in a random order, int64[n]."""
    if current_scope() is not None:
        return _traced(permutation, [("key", key, KEY)], (np.int64, n), n=n)
    count = _integer("permutation", "n", n)
    if count < 0:
        _refuse("permutation", f"n must be from 0, found {count}", ValueError)
    return distributions.permuted(_key("permutation", key), count)


def choice(key: Any, n: Any, k: Any) -> Any:
    """Return ``k`` different numbers below ``n``, in the order of drawing: the first of `permutation`, int64[k].

    Time and memory are those of k: ten clients of ten million take microseconds.
    """
    if current_scope() is not None:
        return _traced(choice, [("key", key, KEY), ("n", n, TensorType(np.int64))], (np.int64, k), k=k)
    count, most = _integer("choice", "k", k), _integer("choice", "n", n)
    most = max(most, count) if probing() else most
    if not 0 <= count <= most:
        _refuse("choice", f"k must be from 0 to n, found {count} of {most}", ValueError)
    return distributions.chosen(_key("choice", key), most, count)


def gamma(key: Any, alpha: Any, shape: Any = ()) -> Any:
    """Return gamma numbers of shape ``alpha`` and scale 1, float64 (Marsaglia and Tsang, 2000)."""
    if current_scope() is not None:
        shapes = ("alpha", alpha, TensorType(np.float64))
        return _traced(gamma, [("key", key, KEY), shapes], (np.float64, shape), shape=shape)
    alpha = 1.0 if probing() else alpha
    if not 0.0 < float(alpha) < math.inf:
        _refuse("gamma", f"alpha must be positive and finite, found {alpha}", ValueError)
    return _filled("gamma", distributions.fill_gamma, key, shape, np.float64, (np.float64,), float(alpha))


def dirichlet(key: Any, alpha: Any, shape: Any = ()) -> Any:
    """Return rows of shares that add up to 1, float64[*shape, c], by the shapes alpha[c]; they may be tiny."""
    if current_scope() is not None:
        _refuse("dirichlet", "it is for partitions, outside of programs", TypeError)
    shapes = np.ascontiguousarray(alpha, np.float64)
    if shapes.ndim != 1 or not shapes.size or not (np.all(shapes > 0) and np.all(np.isfinite(shapes))):
        _refuse("dirichlet", f"alpha must be a vector of positive numbers, found {describe(alpha)}", ValueError)
    dims = _shape("dirichlet", shape)
    out = np.empty((math.prod(dims), shapes.size))
    distributions.fill_dirichlet(_key("dirichlet", key), shapes, out)
    return out.reshape(*dims, shapes.size)


# --- arguments --------------------------------------------------------------------------------------------------------


def _refuse(name: str, text: str, kind: type[Exception]) -> NoReturn:
    raise kind(str(Report.here(text, who=f"fm.random.{name}")))


def _key(name: str, value: Any) -> Any:
    array = np.asarray(value) if beyond_numbers(value) is None else value
    if not isinstance(array, np.ndarray) or array.dtype != np.uint32 or array.shape != (2,):
        text = f"key must be a key, uint32[2] (fm.random.key(seed) makes one), found {describe(value)}"
        _refuse(name, text, TypeError)
    own = np.ascontiguousarray(array).view()
    own.flags.writeable = False  # one compiled form for all
    return own


def _integer(name: str, parameter: str, value: Any) -> int:
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        _refuse(name, f"{parameter} must be an integer, found {describe(value)}", TypeError)
    if not -(2**63) <= number < 2**63:
        _refuse(name, f"{parameter} must be an integer of 64 bits, found {number}", ValueError)
    return number


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    dims = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    sizes = tuple(_integer(name, "shape", size) for size in dims)
    if any(size < 0 for size in sizes):
        _refuse(name, f"shape must have sizes from 0, found {list(sizes)}", ValueError)
    return sizes


def _dtype(name: str, dtype: Any, allowed: tuple[Any, ...]) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found.type not in allowed:
        names = ", ".join(np.dtype(each).name for each in allowed)
        _refuse(name, f"dtype must be one of {names}, found {dtype!r}", TypeError)
    made: np.dtype[Any] = found
    return made


def _filled(name: str, fill: Any, key: Any, shape: Any, dtype: Any, allowed: tuple[Any, ...], *args: Any) -> Any:
    dims, kind = _shape(name, shape), _dtype(name, dtype, allowed)
    out = np.empty(math.prod(dims), kind)
    fill(_key(name, key), *args, out)
    return out.reshape(dims)[()]


# --- in traced programs -----------------------------------------------------------------------------------------------


def _traced(function: Any, dynamic: list[tuple[str, Any, TensorType]], result: Any, **fixed: Any) -> Value:
    """Call a function as a local computation: of values, and of what is known while the program is traced.

    ``result`` is the type of what it returns, or its dtype and sizes.
    """
    name = function.__name__
    with reporting(f"fm.random.{name}"):
        values = [embed(value, wanted, parameter) for parameter, value, wanted in dynamic]
    for parameter, value in fixed.items():
        if isinstance(value, Value):
            text = f"{parameter} must be known while the program is traced, found a value of {value.type_signature}"
            _refuse(name, text, TypeError)
    for (parameter, _, wanted), value in zip(dynamic, values, strict=True):
        found = value.type_signature
        same_kind = isinstance(found, TensorType) and found.shape == () and wanted.shape == () and (
            found.dtype.kind == wanted.dtype.kind or {found.dtype.kind, wanted.dtype.kind} <= {"i", "u", "f"}
        )  # fmt: skip
        if found != wanted and not same_kind:
            _refuse(name, f"{parameter} must be {wanted}, found {found}", TypeError)
    if "shape" in fixed:
        fixed["shape"] = _shape(name, fixed["shape"])
    known = tuple((parameter, np.dtype(v).type if parameter == "dtype" else v) for parameter, v in fixed.items())
    names = tuple(parameter for parameter, _, _ in dynamic)
    if not isinstance(result, TensorType):
        dtype, *sizes = result
        dims = [size for each in sizes for size in _shape(name, each)]
        result = TensorType(_dtype(name, dtype, (*FLOATS, *INTEGERS, np.bool_)), dims)
    made = _local(function, names, tuple(value.type_signature for value in values), known, result)
    drawn: Value = made(*values)
    return drawn


@functools.cache
def _local(
    function: Any, names: tuple[str, ...], types: tuple[Type, ...], known: tuple[tuple[str, Any], ...], result: Type
) -> Any:
    constants = {f"{parameter}_": value for parameter, value in known}
    arguments = [f"{name}={name}" for name in names] + [f"{parameter}={parameter}_" for parameter, _ in known]
    body = f"    return draw({', '.join(arguments)})\n"
    made = generated_function(function.__name__, ", ".join(names), body, {"draw": function, **constants})
    return MAKER["local"](made, *types, result=result)
