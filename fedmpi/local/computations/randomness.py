"""No global random numbers in local computations: their state is a rank's, and results would depend on the ranks."""

from __future__ import annotations

import dis
import random
import types
from typing import Any

import numpy as np

_MODULES = ("random", "numpy.random", "numpy.random.mtrand", "numpy.random._generator")


def uses_random(function: Any) -> bool:
    """Tell whether a function, or one that it calls or defines, reads `random` or `numpy.random`."""
    return isinstance(function, types.FunctionType) and _reads(function.__code__, function, set())


def _reads(code: types.CodeType, function: types.FunctionType, seen: set[Any]) -> bool:
    """Follow a function's code; ``function`` gives the globals and closure cells of the code inside it, too."""
    if code in seen:
        return False
    seen.add(code)
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    before: Any = None
    for instruction in dis.get_instructions(code):
        value: Any = None
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = function.__globals__.get(instruction.argval)
        elif instruction.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
            value = _content(cells.get(instruction.argval))
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(before, types.ModuleType):
            value = getattr(before, instruction.argval, None)
        elif (instruction.opname == "IMPORT_NAME" and instruction.argval in _MODULES) or (
            isinstance(instruction.argval, types.CodeType) and _reads(instruction.argval, function, seen)
        ):
            return True
        elif instruction.opname in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
            continue
        if _is_random(value):
            return True
        helper = getattr(value, "py_func", value)  # plain functions and those that Numba compiles
        if isinstance(helper, types.FunctionType) and not _foreign(helper) and _reads(helper.__code__, helper, seen):
            return True
        before = value
    return False


def _content(cell: Any) -> Any:
    try:
        return None if cell is None else cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _is_random(value: Any) -> bool:
    """Tell whether a value is a random module, something of it, or a method of its global state."""
    if value is random or value is np.random:
        return True
    owner = getattr(value, "__self__", None)
    return isinstance(value, np.random.RandomState | np.random.Generator | random.Random) or (
        (callable(value) or isinstance(value, type))
        and (
            getattr(value, "__module__", None) in _MODULES
            or isinstance(owner, random.Random | np.random.RandomState | np.random.Generator)
        )
    )


def _foreign(function: types.FunctionType) -> bool:
    """Tell whether a function belongs to a library whose inside is no concern of this check."""
    return (function.__module__ or "").partition(".")[0] in ("numpy", "numba", "scipy", "fedmpi")
