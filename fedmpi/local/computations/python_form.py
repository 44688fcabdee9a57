"""A body's function as Python, for probes and for debug mode: what it reads of the program is made fit for that."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from fedmpi.language.tracing.calls import pack_args
from fedmpi.language.tracing.computation import Computation
from fedmpi.local.columns.values import cast_result, struct_parts
from fedmpi.local.computations.given import as_given
from fedmpi.local.jit.compile_errors import not_compiled
from fedmpi.local.jit.freezing import frozen
from fedmpi.local.jit.lending import consumed


def called(value: Any) -> Any:
    """Return what stands for a value of the program while the function runs as Python.

    A computation takes and gives what it does in compiled code: a dtype of the same kind is cast, structs are records.
    """
    if not isinstance(value, Computation):
        return value

    def run(*args: Any, **keywords: Any) -> Any:
        body: Any = getattr(value.expression, "impl", None)
        if not getattr(body, "compilable", False):
            raise AttributeError(not_compiled(value))
        argument = pack_args(body.type.parameter, args, keywords)
        packed = None if body.type.parameter is None else cast_result(argument, body.type.parameter, infinite=True)
        result = as_given(body(packed), body.type.result)
        if body.donated:  # what the caller could write to is given away
            parts = [argument] if body.fields is None else struct_parts(argument, body.type.parameter)
            consumed([parts[position if body.fields is None else body.fields[position]] for position in body.donated])
        return result

    return run


def interpreted(function: types.FunctionType) -> types.FunctionType:
    """Return a function whose helpers run as Python too, those under a decorator of Numba's included."""
    made: dict[Any, types.FunctionType] = {}

    def plain(value: Any) -> Any:
        python = getattr(value, "py_func", None)
        if not isinstance(python, types.FunctionType):
            return called(value)

        @functools.wraps(python)
        def run(*args: Any, **keywords: Any) -> Any:
            if value not in made:  # at the first call: a helper may read itself
                made[value] = _frozen(python)
            return made[value](*args, **keywords)

        return run

    _frozen: Callable[[types.FunctionType], types.FunctionType] = functools.partial(frozen, convert=plain)
    return _frozen(function)
