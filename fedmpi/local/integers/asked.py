"""What a function of NumPy's gives for integers of given dtypes: it is asked, with small arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integers.promotion import DTYPES, Elements, Iterated, Number, constant, weak


def called(function: Any, args: Any, kws: Any) -> Any:
    """Return what a function gives, None if it raises."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*args, **kws)
    except Exception:  # such as an index outside of the small array
        return None


def found_of(value: Any) -> Any:
    """Return what is known of something like a value."""
    if isinstance(value, tuple):
        return tuple(map(found_of, value))
    if isinstance(value, np.ndarray):
        return Elements(value.dtype.name)
    found = constant(value)
    return weak() if found is not None and "weak" in found.kinds else found


def sample(known: Any, type_: Any) -> Any:
    """Return a small value of which this is known; None if there is none."""
    match type_:
        case types.NumberClass():
            return getattr(np, f"{type_.instance_type}".replace("bool", "bool_"), None)
        case types.DType():
            return np.dtype(str(type_.dtype))
        case types.StringLiteral():
            return type_.literal_value
        case types.Array():
            kind = known.kind if isinstance(known, Elements) else str(type_.dtype)
            return np.ones((2,) * type_.ndim, kind) if kind in DTYPES or "float" in kind else None
    match known:
        case Number(kinds) if kinds == {"weak"}:
            return known.bounds[0] if known.bounds[0] == known.bounds[1] is not None else 1
        case Number(kinds) if kinds == {"pybool"}:
            return True
        case Number(kinds) if len(kinds) == 1 and kinds <= DTYPES:
            return np.dtype(next(iter(kinds))).type(1)
        case Number() if isinstance(type_, types.Float):
            return np.dtype(str(type_)).type(1)
        case tuple(parts) if isinstance(type_, types.BaseTuple):
            made = [sample(part, t) for part, t in zip(parts, type_, strict=True)]
            return None if any(m is None for m in made) else tuple(made)
        case Iterated(element) if isinstance(type_, types.List):
            made_one = sample(element, type_.dtype)
            return None if made_one is None else [made_one, made_one]
    return None
