"""What compiled code depends on: the key under which it is kept on disk, so that a second run starts in seconds.

Loops that are put together at run time have no file that a cache could go by.  So the text of each is a module whose
name is the hash of everything that goes in: the text, the code of the user's functions with the globals and closure
cells that they read, the types, the versions.  A changed program has another name and never meets stale code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.language.source import PACKAGE
from fedmpi.language.tracing.computation import Computation
from fedmpi.local.jit.cache_folder import folder
from fedmpi.local.jit.freezing import codes, globals_read
from fedmpi.local.jit.generated import code_of
from fedmpi.version import __version__

# Of Numba's settings (variables of the environment, a file, or set by the program) those that change what it compiles.
_SETTINGS = (
    "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "USING_SVML", "CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES", "ENABLE_PROFILING", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS",
    "DEBUG_JIT", "DEBUG_NRT", "DEBUG_ARRAY_OPT_RUNTIME", "FULL_TRACEBACKS", "PARFOR_MAX_TUPLE_SIZE",
)  # fmt: skip
_TITLE = 60  # characters of a computation's name in the name of a file


@functools.cache
def versions() -> str:
    """Return what compiled code depends on besides the program: versions, the CPU, fedmpi's own code generator."""
    import llvmlite
    import llvmlite.binding
    import numba

    own, layer = hashlib.sha256(), Path(PACKAGE, "local")
    for source in sorted(layer.rglob("*.py")):
        own.update(f"{source.relative_to(layer)}\n".encode() + source.read_bytes())
    parts = [__version__, own.hexdigest(), sys.version, numba.__version__, llvmlite.__version__, np.__version__]
    cpu = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_host_cpu_features().flatten()}"
    return "\n".join([*parts, platform.machine(), cpu, str(sys.flags.optimize)])


def conditions() -> str:
    """Return `versions` and Numba's settings as they are now."""
    from numba import config

    return f"{versions()}\n{[getattr(config, name, None) for name in _SETTINGS]}"


@functools.cache
def _folder_of_versions() -> str:
    return f"{__version__}-{hashlib.sha256(versions().encode()).hexdigest()[:16]}"


def place() -> Path | None:
    """Return the folder for code of these versions, None where nothing can be kept."""
    above = folder()
    if above is None:
        return None
    path = above / _folder_of_versions()
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError:  # a full or vanished disk must not stop a run that can compile
        return None
    return path


# Modules whose version says what they hold; the standard library belongs to Python's.
_VERSIONED = frozenset(("numpy", "numba", "llvmlite", "scipy")) | sys.stdlib_module_names


class Uncacheable(Exception):
    """A function reads something whose content cannot be hashed."""


def fingerprint(value: Any) -> str:
    """Return a hash of a function's code and of all that it reads: globals, closure cells, functions it calls.

    Raises `Uncacheable` for a value whose content cannot be told.
    """
    digest = hashlib.sha256()
    _feed(digest, value, set())
    return digest.hexdigest()


def _feed(digest: Any, value: Any, seen: set[int]) -> None:
    digest.update(f"{type(value).__qualname__}(".encode())
    described = getattr(value, "cache_key", None)
    if callable(described) and not isinstance(value, type):
        _feed(digest, described(), seen)
    elif _name_says_all(value):
        digest.update(f"{value.__module__}.{value.__qualname__}".encode())
    elif isinstance(value, types.FunctionType):
        _feed_function(digest, value, seen)
    elif hasattr(value, "py_func"):
        digest.update(repr(sorted(getattr(value, "targetoptions", {}).items(), key=str)).encode())
        _feed(digest, value.py_func, seen)
    elif hasattr(value, "dispatcher"):
        _feed(digest, value.dispatcher, seen)
    elif isinstance(value, Computation):
        _feed(digest, getattr(value.expression, "impl", None), seen)
    elif isinstance(value, types.ModuleType):
        digest.update(f"{value.__name__} {getattr(value, '__version__', '')}".encode())
    elif isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise Uncacheable(repr(value))
        digest.update(f"{value.dtype.descr} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bool | int | float | complex | str | bytes | np.dtype) or value is None or value is Ellipsis:
        digest.update(repr(value).encode())
    elif isinstance(value, tuple | list | frozenset):
        items = sorted(value, key=repr) if isinstance(value, frozenset) else value
        _feed(digest, getattr(type(value), "_fields", None), seen)
        for item in items:
            _feed(digest, item, seen)
    elif isinstance(value, types.CodeType):
        _feed_code(digest, value, seen)
    elif isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
        digest.update(repr((value.__qualname__, value._fields)).encode())
    elif isinstance(value, np.ufunc | types.BuiltinFunctionType) and type(value).__module__ in ("numpy", "builtins"):
        digest.update(f"{getattr(value, '__module__', '')}.{value.__name__}".encode())
    else:
        raise Uncacheable(repr(value))
    digest.update(b")")


def _name_says_all(value: Any) -> bool:
    """Tell whether a function or class can be found under its name in a module with a version."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    # fedmpi/local is part of `versions`; the functions it generates are not found in its modules.
    if module.partition(".")[0] not in _VERSIONED and not module.startswith("fedmpi.local."):
        return False
    return getattr(sys.modules.get(module), name, None) is value


def _feed_code(digest: Any, code: types.CodeType, seen: set[int]) -> None:
    digest.update(code.co_code)
    for part in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_consts):
        _feed(digest, part, seen)
    digest.update(f"{code.co_argcount} {code.co_flags} {code.co_exceptiontable!r}".encode())


def _feed_function(digest: Any, function: types.FunctionType, seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    # Loading compiled code imports the module that it came from: it must be the one that asks, which is there already.
    digest.update(f"{function.__globals__.get('__name__')}".encode())
    _feed_code(digest, function.__code__, seen)
    _feed(digest, function.__defaults__, seen)
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # an empty cell is a name not bound yet
            _feed(digest, cell.cell_contents, seen)
    names = {name for code in codes(function.__code__) for name in code.co_names}
    for name in sorted(globals_read(function.__code__) & set(function.__globals__)):
        digest.update(name.encode())
        _feed_global(digest, function.__globals__[name], names, seen)


def _feed_global(digest: Any, value: Any, names: set[str], seen: set[int]) -> None:
    _feed(digest, value, seen)
    if not isinstance(value, types.ModuleType) or id(value) in seen:
        return
    if value.__name__.partition(".")[0] in _VERSIONED or value.__name__.startswith("fedmpi.local."):
        return
    seen.add(id(value))
    for name in sorted(names & set(value.__dict__)):  # ``module.function(…)``: what is reached by attribute counts too
        digest.update(name.encode())
        _feed_global(digest, value.__dict__[name], names, seen)


def function_of(name: str, text: str, scope: dict[str, Any], key: str | None, title: str = "") -> Any:
    """Return the function ``name`` of the module ``text`` with ``scope`` as its globals.

    With a key its module has a name of its own, by which stored code finds it.  ``title`` says what it is the code of:
    the file of stored code bears it, and so do tracebacks and profiles, which show the lines of the text.
    """
    own: dict[str, Any] = {}
    if key is not None:
        called = re.sub(r"\W+", "_", title, flags=re.ASCII).strip("_")[:_TITLE] or name
        module = types.ModuleType(f"{called}_{key[:32]}")
        sys.modules[module.__name__], own = module, module.__dict__
    own.update(scope)
    exec(code_of(text, title or name), own)
    return own[name]
