"""Sums and means straight from their definitions: the oracle of the accumulator, with nothing in common.

The sum of floating-point terms is the true sum, by `math.fsum` or fractions, rounded once to its type.  A mean is the
sum of the weighted terms in float64, over the sum of the weights in float64, then cast.  Integers are Python's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.language.types.walking import dotted, flat, leaves_with_paths
from fedmpi.runtime.collective import failures
from fedmpi.runtime.stage.nonfinite import NotFinite

Terms = np.ndarray[Any, np.dtype[np.float64]]
# Bits after the leading one, exponents of the least and of the first too large number: IEEE 754-2008, table 3.5.
_FORMATS = {"float16": (10, -14, 16), "bfloat16": (7, -126, 128), "float32": (23, -126, 128)}


def total(members: Sequence[Any], type_: Type) -> Any:
    """Return the sum of members of a type.  Raises `OverflowError` for integers that do not fit."""
    if isinstance(type_, StructType):
        return tuple(total([m[i] for m in members], t) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    shape = _common_shape(members, type_)
    if type_.dtype.kind in "iu":
        return _integers(members, shape, type_)
    columns = _columns(members, [1] * len(members), shape)
    part = _part_of(type_)
    return _array([_nearest_sum(column, part) for column in columns], shape, type_)


def mean(members: Sequence[Any], weights: Sequence[Any], type_: Type) -> Any:
    """Return the mean of members with these weights, integers or floats; a member of weight 0 is not looked at."""
    if any(weights):
        pairs = [(m, w) for m, w in zip(members, weights, strict=True) if w]
        members, weights = [m for m, _ in pairs], [w for _, w in pairs]
    if isinstance(type_, StructType):
        return tuple(mean([m[i] for m in members], weights, t) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    if all(isinstance(w, int | np.integer) for w in weights):
        divisor = np.float64(sum(map(int, weights)))
    else:
        divisor = _nearest_sum([float(w) for w in weights], np.dtype(np.float64))
    shape, part = _common_shape(members, type_), _part_of(type_)
    numbers = []
    if not divisor:
        members = [np.zeros(shape, type_.dtype) for _ in members]
    with np.errstate(all="ignore"):
        for column in _columns(members, weights, shape):
            quotient = _nearest_sum(column, np.dtype(np.float64)) / divisor
            numbers.append(_nearest_sum([float(quotient)], part))
    return _array(numbers, shape, type_)


def extreme(op: str, members: Sequence[Any], type_: Type) -> Any:
    """Return the least or the greatest of the members, elementwise: -0.0 is less than +0.0, and NaN gives NaN."""
    if not members:
        least = "least" if op == "federated_min" else "greatest"
        raise ValueError(f"{op}: there are no clients to take the {least} value of")
    if isinstance(type_, StructType):
        return tuple(extreme(op, [m[i] for m in members], t) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    shape, choose = _common_shape(members, type_), min if op == "federated_min" else max
    rows = [np.asarray(member).reshape(-1).tolist() for member in members]
    chosen = [
        math.nan if any(x != x for x in column) else choose(column, key=lambda x: (x, math.copysign(1, x)))
        for column in zip(*rows, strict=True)
    ]
    return np.array(chosen, type_.dtype).reshape(shape)[()]


def secure(op: str, members: Sequence[Any], limits: Iterator[int], type_: Type, cohort: Any = None) -> Any:
    """Return the sum of members whose integers are in 0 … limit, one for each tensor; or of any, modulo limit + 1.

    ``cohort`` is that of `failures.who`.
    """
    if isinstance(type_, StructType):
        return tuple(secure(op, [m[i] for m in members], limits, t, cohort) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    limit = next(limits)
    for client, member in enumerate(members):
        for number in np.asarray(member).reshape(-1).tolist():
            if op != "federated_secure_modular_sum" and not 0 <= number <= limit:
                who = failures.who(client, cohort=cohort)
                raise ValueError(f"{op}: {who}: a number must be in 0 … {limit}, found {number}")
    shape = _common_shape(members, type_)
    total = sum((np.asarray(m).astype(object) for m in members), np.zeros(shape, object))
    if op == "federated_secure_modular_sum":
        total = total % (limit + 1)
    return _integers([total], shape, type_)


def not_finite(members: Sequence[Any], weights: Sequence[Any] | None, type_: Type) -> NotFinite | None:
    """Return what terms are infinite or NaN."""
    times, found = "" if weights is None else " times its weight", []
    names = [dotted(path) or "its value" for path, _ in leaves_with_paths(type_)]
    for client, (member, weight) in enumerate(zip(members, weights or [1] * len(members), strict=True)):
        for name, part in zip(names, flat(member, type_), strict=True) if weight else ():
            terms = [float(term) for term in _terms(part, weight)]
            found += [(client, name + times, str(term)) for term in terms if not math.isfinite(term)]
    if not found:
        return None
    client, leaf, kind = found[0]
    return NotFinite(len(found), client, 0, leaf, kind)


def _common_shape(members: Sequence[Any], type_: TensorType) -> tuple[int, ...]:
    shape = np.shape(members[0]) if members else tuple(d or 0 for d in type_.shape or ())
    if any(np.shape(member) != shape for member in members):
        raise ValueError("the clients' values differ in size")
    return shape


def _part_of(type_: TensorType) -> np.dtype[Any]:
    """Return the dtype of one part of a complex number, of any other the dtype itself."""
    return np.dtype(f"f{type_.dtype.itemsize // 2}") if type_.dtype.kind == "c" else type_.dtype


def _terms(value: Any, weight: Any) -> Terms:
    """Return weight · value, rounded to float64, flat; of complex numbers the real and the imaginary parts in turn."""
    array = np.asarray(value).reshape(-1)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1).reshape(-1)
    with np.errstate(all="ignore"):
        terms: Terms = array.astype(np.float64) * np.float64(weight)
    return terms


def _columns(members: Sequence[Any], weights: Sequence[Any], shape: tuple[int, ...]) -> list[list[float]]:
    """Return for each number of a member the clients' terms; without clients none."""
    rows = [_terms(member, weight).tolist() for member, weight in zip(members, weights, strict=True)]
    return [list(column) for column in zip(*rows, strict=True)]


def _nearest_sum(terms: Sequence[float], dtype: np.dtype[Any]) -> Any:
    """Return the true sum of the terms, rounded once; infinities and NaN are added as IEEE 754 adds them."""
    special = [term for term in terms if not math.isfinite(term)]
    if special:
        return dtype.type(special[0] if len(set(map(str, special))) == 1 else math.nan)
    if dtype != np.float64:
        return dtype.type(_rounded(sum(map(Fraction, terms), Fraction(0)), *_FORMATS[dtype.name]))
    try:
        return np.float64(math.fsum(terms))
    except OverflowError:  # of the true sum, or only on the way
        return np.float64(_rounded(sum(map(Fraction, terms), Fraction(0)), 52, -1022, 1024))


def _rounded(value: Fraction, digits: int, least: int, limit: int) -> float:
    """Return the nearest number of a binary format, ties to even; from 2^limit on infinity."""
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    if abs(value) < Fraction(2) ** exponent:
        exponent -= 1  # 2^exponent <= |value| < 2^(exponent + 1)
    unit = Fraction(2) ** (max(exponent, least) - digits)
    nearest = round(value / unit) * unit  # Python rounds halves to even
    if abs(nearest) >= Fraction(2) ** limit:
        return math.inf if nearest > 0 else -math.inf
    return float(nearest)


def _array(numbers: list[Any], shape: tuple[int, ...], type_: TensorType) -> Any:
    """Return numbers as a tensor; zeros are +0.0, and every NaN the quiet one."""
    part = _part_of(type_)
    count = math.prod(shape) * (2 if type_.dtype.kind == "c" else 1)
    array = np.array(numbers if numbers else [0] * count, dtype=part) + part.type(0)
    array[np.isnan(array)] = np.nan
    return array.view(type_.dtype).reshape(shape)[()]


def _integers(members: Sequence[Any], shape: tuple[int, ...], type_: TensorType) -> Any:
    exact = np.zeros(shape, dtype=object)
    for member in members:
        exact = exact + np.asarray(member).astype(object)
    info = np.iinfo(type_.dtype)
    for value in np.asarray(exact, dtype=object).reshape(-1):
        if not info.min <= value <= info.max:
            raise OverflowError(f"federated_sum: the sum does not fit {type_.dtype.name}: it is {value}")
    return np.asarray(exact).astype(type_.dtype)[()]
