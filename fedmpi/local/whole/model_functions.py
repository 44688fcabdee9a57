"""What users call as `fm.model`: in traced programs, in bodies, and in Python.

A model is an array or a scalar, or a container of models: a record in a body, a dict or a list in Python, a `Value` in
a traced program, where each function is the operator of its name.  Models of two arguments must be of one type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.tracing.applying import function_of
from fedmpi.language.tree.scopes import current_scope
from fedmpi.language.types.containers import unpack
from fedmpi.local import records
from fedmpi.local.value_errors import describe
from fedmpi.local.whole import model_twins as twins

_dot, _norm, _zeros_like, _map, _flatten, _unflatten, _cast = (
    function_of(f"model_{name}", f"fm.model.{name}")
    for name in ("dot", "norm", "zeros_like", "map", "flatten", "unflatten", "cast")
)


def dot(left: Any, right: Any) -> Any:
    """Return the sum of the products of the numbers of two models, in the dtype of their leaves, float32 or float64.

    Products and sums are float64, in one order: number k of the leaves, one leaf after the other, each in C order, goes
    to running sum k mod 16; the 16 sums are then added pairwise, sum j and sum j + 8, then 4, 2 and 1 apart.  The
    result is rounded once.
    """
    if current_scope() is not None:
        return _dot(left, right)
    one, other = _pair("dot", left, right)
    return twins.rounded(twins.dot(one, other), _float("dot", one))


def norm(model: Any) -> Any:
    """Return the Euclidean norm of all numbers of a model: the root of `dot` with itself in float64, rounded once."""
    if current_scope() is not None:
        return _norm(model)
    leaves = _leaves(model)
    dtype = _float("norm", leaves)
    return twins.rounded(twins.norm(leaves), dtype)


def zeros_like(model: Any) -> Any:
    """Return a model of zeros with the elements, shapes and dtypes of another."""
    if current_scope() is not None:
        return _zeros_like(model)
    return _like(model, [np.zeros(np.shape(leaf), np.asarray(leaf).dtype)[()] for leaf in _leaves(model)])


def map(fn: Callable[..., Any], *models: Any) -> Any:
    """Return the model of what a function of scalars makes of each number of a model, or of several of the same shapes.

    In a body the result's leaves have the dtypes of the first model's; in a traced program, where ``fn`` is a
    computation, that which it returns.
    """
    if current_scope() is not None:
        return _map(fn, list(models))
    if not models:
        raise TypeError(str(Report("there must be a model at least", "fm.model.map")))
    leaves = [_leaves(model if i == 0 else _in_order("map", models[0], model)) for i, model in enumerate(models)]
    for other in leaves[1:]:
        _check_shapes("map", leaves[0], other)
    return _like(models[0], twins.mapped(fn, leaves, [np.asarray(leaf).dtype for leaf in leaves[0]]))


def flatten(model: Any) -> Any:
    """Return all numbers of a model, whose leaves have one dtype, as one vector: leaf after leaf, each in C order."""
    if current_scope() is not None:
        return _flatten(model)
    leaves = _leaves(model)
    _one_dtype("flatten", leaves)
    return twins.flattened(leaves)


def unflatten(vector: Any, like: Any) -> Any:
    """Return the model with the elements and shapes of ``like`` whose numbers a vector holds (see `flatten`)."""
    if current_scope() is not None:
        return _unflatten(vector, like)
    leaves, array = _leaves(like), np.asarray(vector)
    dtype, size = _one_dtype("unflatten", leaves), sum(np.size(leaf) for leaf in leaves)
    if array.shape != (size,) or array.dtype != dtype:
        text = f"vector must be {dtype.name}[{size}], found {describe(array)}"
        raise TypeError(str(Report(text, "fm.model.unflatten")))
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    pieces = [array[end - np.size(leaf) : end] for leaf, end in zip(leaves, ends, strict=True)]
    return _like(like, [p.reshape(np.shape(leaf)).copy()[()] for p, leaf in zip(pieces, leaves, strict=True)])


def cast(model: Any, dtype: Any) -> Any:
    """Return a model whose leaves have another dtype: of their kind or of a richer one, as integers become floats.

    An integer that does not fit is an error; a float that is too large becomes infinite.
    """
    kind = np.dtype(dtype)
    if current_scope() is not None:
        return _cast(model, kind.type(0))
    leaves = _leaves(model)
    for leaf in leaves:
        if "biufc".find(np.asarray(leaf).dtype.kind.replace("u", "i")) > "biufc".find(kind.kind.replace("u", "i")):
            text = f"a cast must lose no kind of number, found {describe(leaf)} to {kind.name}"
            raise TypeError(str(Report(text, "fm.model.cast")))
    return _like(model, [twins.cast(leaf, kind) for leaf in leaves])


def leaves(model: Any) -> tuple[Any, ...]:
    """Return the leaves of a model one after the other, each as a vector: for a loop over them in a body."""
    return tuple(np.reshape(leaf, -1) for leaf in _leaves(model))


def _arithmetic(op: str, left: Any, right: Any) -> Any:
    """Return arithmetic of two models, or of one and a scalar, which takes the dtype of the leaves."""
    structs = [side for side in (left, right) if _parts(side) is not None]
    if len(structs) < 2:
        (model,) = structs
        made = []
        for leaf in _leaves(model):
            a, b = (leaf if side is model else side for side in (left, right))
            made.append(_leaf(op, a, b, leaf))
        return _like(model, made)
    own, other = _parts(left) or [], _parts(_in_order(op, left, right)) or []
    parts = []
    for (_, a), (_, b) in zip(own, other, strict=True):
        inner = _parts(a) is not None
        parts.append(_arithmetic(op, a, b) if inner else _leaf(op, a, b, a if np.ndim(a) >= np.ndim(b) else b))
    return _rebuilt(left, [name for name, _ in own], parts)


def _leaf(op: str, left: Any, right: Any, like: Any) -> Any:
    """Return arithmetic of two leaves in the dtype of one of them; a scalar beside it takes that dtype."""
    dtype = np.asarray(like).dtype
    sides = []
    for side in (left, right):
        found = np.asarray(side).dtype
        if np.ndim(side) and found != dtype:
            raise TypeError(str(Report(f"both sides must have one dtype, found {dtype.name} and {found.name}", op)))
        if "bifc".find(found.kind.replace("u", "i")) > "bifc".find(dtype.kind.replace("u", "i")):
            text = f"a {found.name} beside a model of {dtype.name} would change its kind"
            raise TypeError(str(Report(text, op)))
        sides.append(side if found == dtype else twins.cast(side, dtype))
    if dtype.kind == "b" or (op == "divide" and dtype.kind in "iu"):
        raise TypeError(str(Report(f"a model of {dtype.name} has no such arithmetic", op)))
    return twins.elementwise(op, *sides)


def _negative(model: Any) -> Any:
    return _like(model, [twins.negated(leaf) for leaf in _leaves(model)])


records.ARITHMETIC.update(dict.fromkeys(("add", "subtract", "multiply", "divide"), _arithmetic), negative=_negative)


# --- containers of Python ---------------------------------------------------------------------------------------------


def _parts(model: Any) -> list[tuple[str | None, Any]] | None:
    return None if isinstance(model, np.ndarray | np.generic) else unpack(model)


def _leaves(model: Any) -> list[Any]:
    parts = _parts(model)
    if parts is not None:
        return [leaf for _, part in parts for leaf in _leaves(part)]
    array = np.asarray(model)
    if array.dtype.kind not in "biufc":
        raise TypeError(str(Report(f"a model is made of arrays of numbers, found {describe(model)}", "fm.model")))
    return [array[()]]


def _like(model: Any, leaves: Sequence[Any]) -> Any:
    """Return a model like another with other leaves."""
    rest = iter(leaves)

    def made(part: Any) -> Any:
        parts = _parts(part)
        if parts is None:
            return next(rest)
        return _rebuilt(part, [name for name, _ in parts], [made(inner) for _, inner in parts])

    return made(model)


def _rebuilt(part: Any, names: Sequence[str | None], values: Sequence[Any]) -> Any:
    """Return a container like another with other elements."""
    if isinstance(part, list | tuple) and not hasattr(part, "_fields"):
        return type(part)(values)
    if isinstance(part, tuple):
        return type(part)(*values)
    return type(part)(**dict(zip(names, values, strict=True)))  # type: ignore[arg-type]


def _in_order(name: str, like: Any, model: Any) -> Any:
    """Return a model with its elements in the order of another's, by their names where both have names."""
    own, wanted = _parts(model), _parts(like)
    if own is None or wanted is None:
        if own is not wanted:
            _refuse(name, "models must have the same elements")
        return model
    names, order = [key for key, _ in own], [key for key, _ in wanted]
    if None not in (*names, *order):
        if set(names) != set(order):
            _refuse(name, f"models must have the same elements, found {names} and {order}")
        given = dict(own)
        own = [(key, given[str(key)]) for key in order]
    elif len(own) != len(wanted):
        _refuse(name, f"models must have the same elements, found {len(own)} and {len(wanted)}")
    return [_in_order(name, other, part) for (_, part), (_, other) in zip(own, wanted, strict=True)]


def _pair(name: str, left: Any, right: Any) -> tuple[list[Any], list[Any]]:
    one, other = _leaves(left), _leaves(_in_order(name, left, right))
    _check_shapes(name, one, other)
    for a, b in zip(one, other, strict=True):
        if np.asarray(a).dtype != np.asarray(b).dtype:
            _refuse(name, f"both sides must have one dtype, found {describe(a)} and {describe(b)}")
    return one, other


def _check_shapes(name: str, one: Sequence[Any], other: Sequence[Any]) -> None:
    shapes = [[np.shape(leaf) for leaf in leaves] for leaves in (one, other)]
    if shapes[0] != shapes[1]:
        found = " and ".join(str([list(shape) for shape in each]) for each in shapes)
        _refuse(name, f"models must have leaves of the same shapes, found {found}")


def _one_dtype(name: str, leaves: Sequence[Any]) -> np.dtype[Any]:
    dtypes = dict.fromkeys(np.asarray(leaf).dtype for leaf in leaves)
    if len(dtypes) != 1:
        found = ", ".join(dtype.name for dtype in dtypes) or "no array"
        _refuse(name, f"the leaves must have one dtype, found {found}")
    return next(iter(dtypes))


def _float(name: str, leaves: Sequence[Any]) -> np.dtype[Any]:
    dtype = _one_dtype(name, leaves)
    if dtype not in (np.float32, np.float64):
        _refuse(name, f"the leaves must be float32 or float64, found {dtype.name}")
    return dtype


def _refuse(name: str, text: str) -> None:
    raise TypeError(str(Report(text, name if name in records.ARITHMETIC else f"fm.model.{name}")))
