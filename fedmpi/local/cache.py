"""Compiled code on disk, so that a second run starts in seconds.

Numba caches a function of a file; loops that are put together at run time have no file.  So the text of each is written
as a module whose name is the hash of everything that goes in: the text, the code of the user's functions with the
globals and closure cells that they read, the types, the versions.  A changed program has another name and never meets
stale code.

One process of a machine compiles while the others wait for a lock and load what it wrote.  The folder belongs to the
user alone (mode 0700): reading a cache means unpickling, and this is the one place where fedmpi does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import stat
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.language.computation import Computation
from fedmpi.local.announcing import waiting
from fedmpi.local.freezing import codes, globals_read
from fedmpi.version import __version__

try:
    import fcntl
except ImportError:  # not on this system: every process compiles for itself
    fcntl = None  # type: ignore[assignment]


@functools.cache
def folder() -> Path | None:
    """Return the user's cache folder, or None where no safe one can be made.

    ``FEDMPI_CACHE_DIR`` names it; otherwise it is ``fedmpi`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    named = os.environ.get("FEDMPI_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    uid = os.getuid() if hasattr(os, "getuid") else 0
    candidates = (
        [named] if named else [os.path.join(base, "fedmpi"), os.path.join(tempfile.gettempdir(), f"fedmpi-{uid}")]
    )
    for candidate in candidates:
        with contextlib.suppress(OSError):
            path = Path(candidate)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _private(path, uid) and os.access(path, os.W_OK | os.X_OK):
                return path
    return None


def _private(path: Path, uid: int) -> bool:
    """Tell whether the folder is this user's and nobody else can write to it."""
    if not hasattr(os, "getuid"):
        return True
    info = path.stat()
    # A link is as good as a folder (home on a cluster is small) if nobody else made it.
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != uid or path.lstat().st_uid != uid:
        return False
    if info.st_mode & 0o077:
        path.chmod(0o700)
    return True


@functools.cache
def versions() -> str:
    """Return what compiled code depends on besides the program: versions, the CPU, fedmpi's own code generator."""
    import llvmlite
    import llvmlite.binding
    import numba

    own = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        own.update(source.read_bytes())
    parts = [__version__, own.hexdigest(), sys.version, numba.__version__, llvmlite.__version__, np.__version__]
    cpu = f"{llvmlite.binding.get_host_cpu_name()} {llvmlite.binding.get_host_cpu_features().flatten()}"
    return "\n".join([*parts, platform.machine(), cpu])


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


@contextlib.contextmanager
def cached_function(name: str, text: str, scope: dict[str, Any], key: str | None) -> Iterator[tuple[Any, bool]]:
    """Give the function ``name`` of the module ``text`` with ``scope`` as its globals, and whether it has a file.

    With a key the module is a file of the cache folder, and its lock is held inside the ``with`` block: the first
    process of a machine compiles, the others wait and load.  Without a key, or without a folder, the module lives in
    memory only and every process compiles for itself.
    """
    with contextlib.ExitStack() as stack:
        made = None if key is None else _from_folder(stack, name, text, scope, key)
        if made is not None:
            yield made, True
            return
        own: dict[str, Any] = dict(scope)
        exec(compile(text, f"<fedmpi {name}>", "exec"), own)
        yield own[name], False


def _from_folder(stack: contextlib.ExitStack, name: str, text: str, scope: dict[str, Any], key: str) -> Any:
    """Return the function of the module's file, its lock held by ``stack``; None where no file can be had."""
    cache = folder()
    if cache is None:
        return None
    path = cache / f"{name}_{key[:32]}.py"
    try:
        lock = stack.enter_context(path.with_suffix(".lock").open("a"))
        if fcntl is not None:
            # A file system without locks: several may compile, each result is good.
            with contextlib.suppress(OSError), waiting():
                fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or path.read_bytes() != text.encode():
            _write(path, text)
    except OSError:  # a full or vanished disk must not stop a run that can compile
        return None
    return _import(path, name, scope)


def forget(key: str | None, name: str) -> None:
    """Remove what is stored under a key: it cannot be read."""
    cache = folder()
    if cache is not None and key is not None:
        for path in cache.rglob(f"{name}_{key[:32]}.*.nb[ic]"):
            with contextlib.suppress(OSError):
                path.unlink()


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-", suffix=".py")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _import(path: Path, name: str, scope: dict[str, Any]) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Numba finds the module of cached code by its name
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder holds what Numba compiled, no more
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    module.__dict__.update(scope)
    return module.__dict__[name]
