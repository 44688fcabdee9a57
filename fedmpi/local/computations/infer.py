"""The result type of a local computation, found by running its undecorated function on small probes.

Every open dimension is 2 in the first run and 3 in the second: a dimension of the result that differs between them is
open. Dtypes follow NumPy's rules (a Python number becomes what `infer_type` says).  Probes hold ones, integer arrays
zeros: labels and indices that are good everywhere.  A dimension that may come from these values, as that of
``x[x > 0]`` or ``np.arange(n)``, is tried with other values.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.source import run_to_return
from fedmpi.language.tree.scopes import entered
from fedmpi.language.types import SequenceType, StructType, StructWithPythonType, TensorType, Type, struct_of
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.to_type import type_of
from fedmpi.language.types.walking import preorder_types
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.computations.bodies import NumbaBody
from fedmpi.local.computations.python_form import called
from fedmpi.local.jit.compile_errors import ReturnedNoneError, probe_refusal, untyped_refusal
from fedmpi.local.jit.freezing import frozen
from fedmpi.local.jit.lending import lending
from fedmpi.local.jit.probe import probe
from fedmpi.local.records import element_names


@dataclass(frozen=True)
class Fill:
    """What probes are filled with: every open dimension, scalars, arrays of integers, alternating other arrays."""

    size: int
    scalar: int = 1
    integer: int = 0
    others: tuple[int, int] = (1, 1)


_OTHER_VALUES = (Fill(2, scalar=2, others=(2, -1)), Fill(2, scalar=3, integer=1, others=(-1, 0)))


def probe_value(type_: Type, fill: Fill) -> Any:
    """Return a small normalised value of a type."""
    match type_:
        case TensorType(dtype, shape):
            if dtype.kind == "U":
                return "text" if not shape else np.full([d or fill.size for d in shape], "text", dtype=object)
            if not shape:
                return dtype.type(fill.scalar)
            values = np.array([fill.integer] if dtype.kind in "iu" else fill.others).astype(dtype)
            array = np.resize(values, [fill.size if d is None else d for d in shape])
            array.flags.writeable = False
            return array
        case StructType():
            return tuple(probe_value(t, fill) for t in type_)
        case SequenceType(element):
            return PackedSequence(pack(element, [probe_value(element, fill)] * fill.size), 0, fill.size)
    raise TypeError(f"a local computation takes no {type_}")


def infer_result(body: NumbaBody) -> Type:
    """Return the type of what the function returns; its parameter type is that of ``body.type``.

    Raises `TypeError` for a function that cannot be run on the probes, or returns what has no type.
    """
    failure: Exception | None = None
    function = frozen(body.function, called)
    for integer in (0, 1):
        try:
            found = [_run(function, body, Fill(size, integer=integer)) for size in (2, 3)]
        except Exception as error:
            failure = failure or error
            continue
        try:
            type_ = _merge(*(_type_of(value) for value, _ in found))
            if _may_depend_on_values(type_, body.type.parameter):
                type_ = _opened(type_, _type_of(found[0][0]), function, body)
        except (TypeError, NotImplementedError) as error:
            raise TypeError(untyped_refusal(body.name, found[0][1] or body.where, error)) from error
        return type_
    assert failure is not None
    raise TypeError(probe_refusal(body.name, body.where, failure)) from failure


def _run(function: Callable[..., Any], body: NumbaBody, fill: Fill) -> tuple[Any, str]:
    """Return what the function returns on a probe, and the place of its ``return``."""
    parameter = body.type.parameter
    argument = None if parameter is None else probe_value(parameter, fill)
    with probe(), entered(None), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = body.python_arguments(argument)
        with lending([arguments[i] for i in body.donated]):
            return run_to_return(function, (*body.given, *arguments), body.keywords)


def _may_depend_on_values(type_: Type, parameter: Type | None) -> bool:
    """Tell whether a known dimension of the result is small, as those of probes are, and none of the argument's."""
    declared = set() if parameter is None else set(_dimensions(parameter))
    return any(size is not None and size <= 3 and size not in declared for size in _dimensions(type_))


def _dimensions(type_: Type) -> Iterator[int | None]:
    for part in preorder_types(type_):
        if isinstance(part, TensorType):
            yield from part.shape or ()


def _opened(type_: Type, small: Type, function: Callable[..., Any], body: NumbaBody) -> Type:
    """Return the type with every dimension open that other values of the argument change."""
    for fill in _OTHER_VALUES:
        with contextlib.suppress(Exception):  # such as an index outside of an array: the first probes were good
            type_ = _merge(type_, _merge(small, _type_of(_run(function, body, fill)[0])))
    return type_


def _type_of(value: Any) -> Type:
    if isinstance(value, Mapping):
        return StructWithPythonType([(k, _type_of(v)) for k, v in unpack(value) or ()], type(value))
    if isinstance(value, list | tuple):
        parts = [_type_of(v) for v in value]
        names = element_names(value)
        items: list[Any] = parts if names is None else list(zip(names, parts, strict=True))
        # A record is an argument's struct, or that of a computation that was called.
        container = value.fedmpi_container if hasattr(value, "fedmpi_names") else type(value)  # type: ignore[union-attr]
        return struct_of(items, container)
    inferred = type_of(value)
    if inferred is None:
        raise ReturnedNoneError("the function returns None, write return …")
    return inferred


def _merge(small: Type, large: Type) -> Type:
    """Return the type of both results: dimensions that differ are open."""
    match small, large:
        case TensorType(dtype, shape), TensorType(other, other_shape) if shape is not None and other_shape is not None:
            if dtype == other and len(shape) == len(other_shape):
                return TensorType(dtype, [a if a == b else None for a, b in zip(shape, other_shape, strict=True)])
        case StructType(), StructType() if len(small) == len(large):
            parts = [(n, _merge(a, b)) for (n, a), b in zip(small.items(), large, strict=True)]
            return struct_of(parts, small.python_container)
    raise TypeError(f"the result has the type {small} for one size of its argument and {large} for another")
