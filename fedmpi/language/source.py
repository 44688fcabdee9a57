"""Where in the user's program something happens."""

from __future__ import annotations

import dis
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The layers that are not the user's.  `fedmpi/tutorial.py` is not among them: it is written as a user would write it.
_OURS = tuple(os.path.join(PACKAGE, layer) + os.sep for layer in ("language", "local", "runtime", "interop", "cli"))


def leave_out(folder: str) -> None:
    """Leave a folder's code out of what counts as the user's: a package through which a program calls fedmpi."""
    global _OURS
    _OURS = (*_OURS, folder + os.sep)
    _is_users.cache_clear()


_LIBRARY = os.path.dirname(os.__file__) + os.sep  # Python's own, which calls the methods of values too


@functools.lru_cache(maxsize=4096)
def _is_users(filename: str) -> bool:
    packages = "site-packages", "dist-packages"  # they may stand in the same folder
    library = filename.startswith(_LIBRARY) and not filename.startswith(packages, len(_LIBRARY))
    return not library and not filename.startswith(_OURS)


leave_out(os.path.dirname(np.__file__))  # NumPy's functions call the methods of values


Result = TypeVar("Result")


def called_at(where: str, function: Callable[[], Result]) -> Result:
    """Run a function for a call that another thread has made at the place ``where`` of the user's program."""
    return function()


def user_location() -> str:
    """Return "file:line" of the innermost stack frame that is not fedmpi's own, or "" if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is called_at.__code__:
            return str(frame.f_locals["where"])
        if _is_users(frame.f_code.co_filename):
            return _text(frame.f_code.co_filename, frame.f_lineno)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""


def stack_is_deep() -> bool:
    """Say whether the calls around take half of what Python allows: then a `RecursionError` below is their fault."""
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    return depth > sys.getrecursionlimit() // 2


def passed_at(error: BaseException, fn: Callable[..., Any]) -> str:
    """Return "file:line" of the innermost frame of a function that an exception has passed, or ""."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code is getattr(fn, "__code__", None):
            place = _text(code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return place


def definition_location(fn: Callable[..., Any]) -> str:
    """Return "file:line" of a Python function's definition; where there is no source, of the user's current line."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    code = getattr(fn, "__code__", None) or getattr(getattr(fn, "__func__", None), "__code__", None)
    return user_location() if code is None else _text(code.co_filename, code.co_firstlineno)


def return_location(fn: Callable[..., Any]) -> str:
    """Return "file:line" of a function's ``return``, "" if it has none, or several."""
    lines = _return_lines(fn)
    return _text(fn.__code__.co_filename, min(lines)) if len(lines) == 1 else ""


def _return_lines(fn: Callable[..., Any]) -> set[int]:
    code = getattr(fn, "__code__", None)
    instructions = dis.get_instructions(code) if code is not None else ()
    lines = {i.positions.lineno for i in instructions if i.opname in ("RETURN_VALUE", "RETURN_CONST") and i.positions}
    return {line for line in lines if line is not None}


def run_to_return(
    fn: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any] | None = None
) -> tuple[Any, str]:
    """Call a function; return its result and "file:line" of the ``return`` that gave it, "" where that is not known."""
    if len(_return_lines(fn)) < 2 or sys.getprofile() is not None:
        return fn(*arguments, **(keywords or {})), return_location(fn)
    line = 0

    def note(frame: Any, event: str, _: Any) -> None:
        nonlocal line
        if event == "return" and frame.f_code is fn.__code__:
            line = frame.f_lineno

    sys.setprofile(note)
    try:
        result = fn(*arguments, **(keywords or {}))
    finally:
        sys.setprofile(None)
    return result, _text(fn.__code__.co_filename, line)


def function_name(fn: Callable[..., Any]) -> str:
    """Return the name of a Python function ("<lambda>" for a lambda)."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__name__", type(fn).__name__)


def _text(filename: str, line: int) -> str:
    return f"{_cell(filename) or _basename(filename)}:{line}"


_basename = functools.lru_cache(maxsize=1024)(os.path.basename)


def _cell(filename: str) -> str:
    """Return "In[n]" if the file stands for a cell of a notebook, which IPython calls so in its own tracebacks."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    named = shell.compile.format_code_name(filename) if shell is not None else None
    return named[1] if named is not None else ""
