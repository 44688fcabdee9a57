"""The result type of a local computation, found by running its undecorated function on small probes.

Every open dimension is 2 in the first run and 3 in the second: a dimension of the result that differs between them is
open. Dtypes follow NumPy's rules (a Python number becomes what `infer_type` says).  Probes hold ones, integer arrays
zeros: labels and indices that are good everywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fedmpi.language.scopes import entered
from fedmpi.language.to_type import infer_type
from fedmpi.language.types import SequenceType, StructType, StructWithPythonType, TensorType, Type
from fedmpi.local.bodies import LocalBody
from fedmpi.local.columns import PackedSequence, pack
from fedmpi.local.probe import probe
from fedmpi.local.records import element_names


class ProbeFailed(Exception):
    """The function could not be run on the probes; the cause is chained."""


def probe_value(type_: Type, size: int, integer: int = 0) -> Any:
    """Return a small normalised value: open dimensions and sequences have ``size``, integer arrays hold ``integer``."""
    match type_:
        case TensorType(dtype, shape):
            if dtype.kind == "U":
                return "text"
            one = dtype.type(1 if not shape or dtype.kind not in "iu" else integer)
            array = np.full(tuple(size if d is None else d for d in shape or ()), one, dtype=dtype)
            array.flags.writeable = False
            return array if shape else array[()]
        case StructType():
            return tuple(probe_value(t, size, integer) for t in type_)
        case SequenceType(element):
            return PackedSequence(pack(element, [probe_value(element, size, integer)] * size), 0, size)
    raise ProbeFailed(f"a local computation takes no {type_}")


def infer_result(body: LocalBody) -> Type:
    """Return the type of what ``body.function`` returns; its parameter type is that of ``body.type``."""
    failures = []
    for integer in (0, 1):
        try:
            found = [_run(body, size, integer) for size in (2, 3)]
        except Exception as error:
            failures.append(error)
            continue
        return _merge(_type_of(found[0], body), _type_of(found[1], body))
    raise ProbeFailed(f"{type(failures[0]).__name__}: {failures[0]}") from failures[0]


def _run(body: LocalBody, size: int, integer: int) -> Any:
    parameter = body.type.parameter
    argument = None if parameter is None else probe_value(parameter, size, integer)
    with probe(), entered(None), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return body.function(*body.python_arguments(argument))


def _type_of(value: Any, body: LocalBody) -> Type:
    names = element_names(value) if isinstance(value, tuple) else None
    if hasattr(value, "element_names"):  # a record: the struct that an argument is, or another of its kind
        declared = next((s for s in _structs(body.type.parameter) if tuple(s.fields() or ()) == names), None)
        parts = [_type_of(v, body) for v in value]
        items = list(zip(names or (), parts, strict=True))
        container = declared.python_container if declared is not None else None
        return StructType(items) if container is None else StructWithPythonType(items, container)
    if isinstance(value, Mapping):
        return StructWithPythonType([(k, _type_of(v, body)) for k, v in value.items()], type(value))
    if names is not None:
        return StructWithPythonType([(n, _type_of(v, body)) for n, v in zip(names, value, strict=True)], type(value))
    if isinstance(value, list | tuple):
        return StructWithPythonType([_type_of(v, body) for v in value], type(value))
    inferred = infer_type(value)
    if inferred is None:
        raise TypeError("the function returned None")
    return inferred


def _structs(type_: Type | None) -> Iterator[StructType]:
    match type_:
        case StructType():
            yield type_
            for part in type_:
                yield from _structs(part)
        case SequenceType(element):
            yield from _structs(element)


def _merge(small: Type, large: Type) -> Type:
    """Return the type of both results: dimensions that differ are open."""
    match small, large:
        case TensorType(dtype, shape), TensorType(other, other_shape) if shape is not None and other_shape is not None:
            if dtype == other and len(shape) == len(other_shape):
                return TensorType(dtype, [a if a == b else None for a, b in zip(shape, other_shape, strict=True)])
        case StructType(), StructType() if len(small) == len(large):
            parts = [(n, _merge(a, b)) for (n, a), b in zip(small.items(), large, strict=True)]
            container = small.python_container
            return StructType(parts) if container is None else StructWithPythonType(parts, container)
    raise TypeError(f"the result has the type {small} for one size of its argument and {large} for another")
