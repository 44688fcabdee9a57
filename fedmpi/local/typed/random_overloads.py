"""`fm.random`'s functions in bodies, as Numba compiles them: the code that Python calls, with checks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.local.draws import distributions, random_functions, threefry
from fedmpi.local.jit.array_kinds import read_only
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.numba_parts.intermediate import errors
from fedmpi.local.typed.coerce import MARK

_SCOPE = {
    "empty": np.empty, "read_only": read_only, "int64": np.int64, "float64": np.float64, "isfinite": np.isfinite,
    "float32": np.float32, "bool_": np.bool_,
}  # fmt: skip


def _fail(name: str, text: str) -> Any:
    raise errors.NumbaTypeError(f"{MARK}fm.random.{name}: {text}")


def _given(value: Any) -> Any:
    """Return an argument's type, or the default that stands for it."""
    return value.value if isinstance(value, types.Omitted) else value


def _check_key(name: str, key: Any) -> None:
    if not isinstance(key, types.Array) or key.ndim != 1 or key.dtype != types.uint32:
        _fail(name, f"key must be a key, uint32[2] (fm.random.key(seed) makes one), found {key}")


def _check_integer(name: str, parameter: str, value: Any) -> None:
    if not isinstance(types.unliteral(_given(value)) if isinstance(_given(value), types.Type) else None, types.Integer):
        _fail(name, f"{parameter} must be an integer, found {value}")


def _check_number(name: str, parameter: str, value: Any) -> None:
    given = _given(value)
    if isinstance(given, types.Type) and not isinstance(types.unliteral(given), types.Integer | types.Float):
        _fail(name, f"{parameter} must be a number, found {value}")


def _draws(shape: Any, name: str) -> str:
    """Return how many numbers are drawn: "one", "row" for an integer, or "array" for a tuple."""
    given = _given(shape)
    if given == () or (isinstance(given, types.BaseTuple) and not len(given)):
        return "one"
    if isinstance(given, types.BaseTuple) and all(isinstance(types.unliteral(size), types.Integer) for size in given):
        return "array"
    if isinstance(given, types.Type) and isinstance(types.unliteral(given), types.Integer):
        return "row"
    return str(_fail(name, f"shape must be an integer or a tuple of integers, found {shape}"))


def _dtype(name: str, dtype: Any, allowed: tuple[Any, ...]) -> Any:
    given = _given(dtype)
    found = np.dtype(str(getattr(given, "dtype", given))) if isinstance(given, types.Type) else np.dtype(given)
    if found.type not in allowed:
        _fail(name, f"dtype must be one of {', '.join(np.dtype(each).name for each in allowed)}, found {found.name}")
    return found.type


def _implementation(
    name: str, parameters: str, fill: str, shape: Any, dtype: Any, function: Any, checks: str = ""
) -> Callable[..., Any]:
    """Return a function that fills new memory; ``fill`` are the arguments between the key and the memory."""
    kinds = {"one": "1", "row": "shape", "array": "shape"}
    drawn = _draws(shape, name)
    result = {"one": "out[0]", "row": "out", "array": "out"}[drawn]
    flat = "out" if drawn != "array" else "out.reshape(-1)"
    body = (
        f"    if key.shape[0] != 2:\n        raise ValueError('fm.random.{name}: key must be uint32[2]')\n{checks}"
        f"    out = empty({kinds[drawn]}, kind)\n    fill(read_only(key), {fill}{flat})\n    return {result}\n"
    )
    return generated_function("draw", parameters, body, {**_SCOPE, "kind": dtype, "fill": function})


@overload(random_functions.key, strict=False, jit_options=OPTIONS)
def _key(seed: Any) -> Any:
    _check_integer("key", "seed", seed)
    return generated_function("draw", "seed", "    return make(int64(seed))\n", {**_SCOPE, "make": threefry.key_of})


@overload(random_functions.fold_in, strict=False, jit_options=OPTIONS)
def _fold_in(key: Any, n: Any) -> Any:
    _check_key("fold_in", key)
    _check_integer("fold_in", "n", n)
    body = "    return make(read_only(key), int64(n))\n"
    return generated_function("draw", "key, n", body, {**_SCOPE, "make": threefry.folded})


@overload(random_functions.split, strict=False, jit_options=OPTIONS)
def _split(key: Any, num: int = 2) -> Any:
    _check_key("split", key)
    body = (
        "    if num < 0:\n        raise ValueError('fm.random.split: num must be from 0')\n"
        "    return make(read_only(key), int64(num))\n"
    )
    return generated_function("draw", "key, num=2", body, {**_SCOPE, "make": threefry.several})


@overload(random_functions.uniform, strict=False, jit_options=OPTIONS)
def _uniform(key: Any, shape: Any = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float32) -> Any:
    _check_key("uniform", key)
    _check_number("uniform", "low", low)
    _check_number("uniform", "high", high)
    checks = (
        "    if not low < high or not isfinite(float64(high) - float64(low)):\n"
        "        raise ValueError('fm.random.uniform: low must be below high, both finite')\n"
    )
    kind = _dtype("uniform", dtype, random_functions.FLOATS)
    parameters = "key, shape=(), low=0.0, high=1.0, dtype=float32"
    fill = "float64(low), float64(high), "
    return _implementation("uniform", parameters, fill, shape, kind, distributions.fill_uniform, checks)


@overload(random_functions.normal, strict=False, jit_options=OPTIONS)
def _normal(key: Any, shape: Any = (), dtype: Any = np.float32) -> Any:
    _check_key("normal", key)
    kind = _dtype("normal", dtype, random_functions.FLOATS)
    return _implementation("normal", "key, shape=(), dtype=float32", "", shape, kind, distributions.fill_normal)


@overload(random_functions.integers, strict=False, jit_options=OPTIONS)
def _integers(key: Any, low: Any, high: Any, shape: Any = (), dtype: Any = np.int64) -> Any:
    _check_key("integers", key)
    _check_integer("integers", "low", low)
    _check_integer("integers", "high", high)
    kind = _dtype("integers", dtype, random_functions.INTEGERS)
    limits = np.iinfo(kind)
    tests = [f"int64(low) < {max(limits.min, -(2**63))}", f"int64(high) - 1 > {min(limits.max, 2**63 - 1)}"]
    checks = (
        f"    if not int64(low) < int64(high) or {' or '.join(tests)}:\n"
        f"        raise ValueError('fm.random.integers: low must be below high, and {np.dtype(kind).name} hold both')\n"
    )
    parameters = "key, low, high, shape=(), dtype=int64"
    fill = "int64(low), int64(high), "
    return _implementation("integers", parameters, fill, shape, kind, distributions.fill_integers, checks)


@overload(random_functions.bernoulli, strict=False, jit_options=OPTIONS)
def _bernoulli(key: Any, p: Any, shape: Any = ()) -> Any:
    _check_key("bernoulli", key)
    _check_number("bernoulli", "p", p)
    checks = (
        "    if not (p >= 0.0 and p <= 1.0):\n        raise ValueError('fm.random.bernoulli: p must be from 0 to 1')\n"
    )
    function = distributions.fill_bernoulli
    return _implementation("bernoulli", "key, p, shape=()", "float64(p), ", shape, np.bool_, function, checks)


@overload(random_functions.gamma, strict=False, jit_options=OPTIONS)
def _gamma(key: Any, alpha: Any, shape: Any = ()) -> Any:
    _check_key("gamma", key)
    _check_number("gamma", "alpha", alpha)
    checks = (
        "    if not (alpha > 0.0 and isfinite(float64(alpha))):\n"
        "        raise ValueError('fm.random.gamma: alpha must be positive and finite')\n"
    )
    function = distributions.fill_gamma
    return _implementation("gamma", "key, alpha, shape=()", "float64(alpha), ", shape, np.float64, function, checks)


@overload(random_functions.permutation, strict=False, jit_options=OPTIONS)
def _permutation(key: Any, n: Any) -> Any:
    _check_key("permutation", key)
    _check_integer("permutation", "n", n)
    body = (
        "    if n < 0:\n        raise ValueError('fm.random.permutation: n must be from 0')\n"
        "    return make(read_only(key), int64(n))\n"
    )
    return generated_function("draw", "key, n", body, {**_SCOPE, "make": distributions.permuted})


@overload(random_functions.choice, strict=False, jit_options=OPTIONS)
def _choice(key: Any, n: Any, k: Any) -> Any:
    _check_key("choice", key)
    _check_integer("choice", "n", n)
    _check_integer("choice", "k", k)
    body = (
        "    if k < 0 or k > n:\n        raise ValueError('fm.random.choice: k must be from 0 to n')\n"
        "    return make(read_only(key), int64(n), int64(k))\n"
    )
    return generated_function("draw", "key, n, k", body, {**_SCOPE, "make": distributions.chosen})
