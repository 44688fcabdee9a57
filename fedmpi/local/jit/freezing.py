"""A function as it is now: what its code reads of the program around it can change later, compiled code cannot.

A local computation is compiled at its definition, and again for other layouts of arrays when compiled code calls it.
All of that must read the same globals, closure cells and arrays, and so must the key of the cache.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.tracing.computation import Computation
from fedmpi.local.value_errors import ArgumentError


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code and the code inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes(const)


def globals_read(code: types.CodeType) -> set[str]:
    """Return the global names that a function's code reads."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    return {i.argval for part in codes(code) for i in dis.get_instructions(part) if i.opname in loads}


def _same(value: Any) -> Any:
    return value


def frozen(function: types.FunctionType, convert: Callable[[Any], Any] = _same) -> types.FunctionType:
    """Return the function with the globals and closure cells of this moment, those of its plain helpers included.

    ``convert`` may give what the function reads another form.
    """
    return _frozen(function, convert, {})


def _frozen(
    function: types.FunctionType, convert: Callable[[Any], Any], done: dict[int, types.FunctionType]
) -> types.FunctionType:
    if id(function) in done:
        return done[id(function)]
    scope: dict[str, Any] = {"__builtins__": builtins, "__name__": function.__module__ or "__main__"}
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
    made.__qualname__, made.__doc__ = function.__qualname__, function.__doc__
    done[id(function)] = made  # before what it reads: a function may read itself
    own = function.__name__ if function.__qualname__ == function.__name__ else ""
    for name in globals_read(function.__code__):
        if name == own and _decorated(function.__globals__.get(name)):
            scope.setdefault(name, made)
        elif name in function.__globals__:
            scope.setdefault(name, _still(name, function.__globals__[name], convert, done))
    for name, cell, outer in zip(function.__code__.co_freevars, cells, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell is a name not bound yet
            value = _content(outer)
            is_own = name == function.__name__ and _decorated(value)
            cell.cell_contents = made if is_own else _still(name, outer.cell_contents, convert, done)
    return made


def still(value: Any) -> Any:
    """Return a constant as it is now: of an array a read-only copy."""
    return _still("", value, _same, {})


def _decorated(value: Any) -> bool:
    """Say whether what a function's own name stands for is yet to be replaced by what its decorator makes of it."""
    return value is None or isinstance(value, Computation)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _still(name: str, value: Any, convert: Callable[[Any], Any], done: dict[int, types.FunctionType]) -> Any:
    if (more := beyond_numbers(value)) is not None:
        raise ArgumentError("numbers", *more).inside(f"the name {name} of the program around it")
    if isinstance(value, np.ndarray):
        value = value.copy(order="K")
        value.flags.writeable = False
    elif isinstance(value, types.FunctionType) and _is_users(value):
        value = _frozen(value, convert, done)
    return convert(value)


def _is_users(function: types.FunctionType) -> bool:
    """Tell whether a plain function is the user's: Numba knows those of NumPy by their identity."""
    module = (function.__module__ or "").partition(".")[0]
    return module not in ("numpy", "numba", "scipy", "fedmpi", "math")
