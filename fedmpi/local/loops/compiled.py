"""A function value of the language, compiled: normalised values in, normalised values out."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import Column, conformed_sequence, dense_sequence
from fedmpi.local.columns.flat import flat_layout, flat_value, vectors_of
from fedmpi.local.columns.sparse import Csr
from fedmpi.local.computations.bodies import PROGRESS, LocalBody, NumbaBody, note_progress
from fedmpi.local.jit import cache
from fedmpi.local.jit.announcing import announced
from fedmpi.local.jit.debugging import check_compiler
from fedmpi.local.jit.interrupts import run
from fedmpi.local.loops.codegen import Generator, linked
from fedmpi.local.loops.lifting import generate, text_of
from fedmpi.local.typed.tokens import TypeToken


class CompiledFunction:
    """``function`` compiled for its parameter; ``captured`` lists what it needs besides (see `codegen.generate`).

    It is checked and translated when it is made, and becomes machine code when it is called from Python: a loop over
    clients takes the translation into its own.  Raises `codegen.NotCompilable` for what only the interpreter can do,
    `CompileError` for what Numba refuses.
    """

    def __init__(self, function: Any, parameter: Type | None, result: Type, name: str) -> None:
        self.function, self.parameter, self.result, self.name = function, parameter, result, name
        self._entries: dict[tuple[str, ...], Any] = {}
        generator, self.captured = generate(function, parameter, result)
        self._bodies = generator.bodies
        prepare_numba()
        with announced(name):
            self._core = Core(generator, name)

    def _entry(self, forms: tuple[str, ...]) -> Any:
        """Return the compiled code for arguments whose sequences are stored in these forms."""

        def write(dense: bool) -> Generator:
            generator, self.captured = generate(self.function, self.parameter, self.result, forms, dense=dense)
            self._bodies = generator.bodies
            return generator

        if forms not in self._entries:
            stored = any(forms)
            with announced(self.name):
                self._entries[forms] = compile_entry(write, self.name, stored=True) if stored else self._core.entry()
        return self._entries[forms]

    def __call__(self, argument: Any, captures: Any) -> Any:
        """Run on one argument and the values of ``captured``."""
        flat: list[Any] = []
        forms: list[str] = []
        if self.parameter is not None:
            flatten(argument, self.parameter, flat, forms)
        for value, captured in zip(captures, self.captured, strict=True):
            flatten(value, captured.type, flat)
        progress = np.full(PROGRESS, -1, dtype=np.int64)
        try:
            leaves = run(self._entry(tuple(forms) if any(forms) else ()), progress, *flat)
        except Exception as error:
            note_progress(error, progress, self._bodies)
            raise
        return unflatten(self.result, iter(_apart(leaves)))


def _apart(leaves: tuple[Any, ...]) -> list[Any]:
    """Return the leaves with a copy of each array that shares memory with one before it."""
    apart: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, np.ndarray) and any(
            isinstance(a, np.ndarray) and np.may_share_memory(a, leaf) for a in apart
        ):
            leaf = leaf.copy()
        apart.append(leaf)
    return apart


def flatten(value: Any, type_: Type, out: list[Any], forms: list[str] | None = None) -> None:
    """Append the leaves of a normalised value, in the order of the entry's parameters.

    ``forms`` takes the forms in which the arrays of its sequences are stored; without it they are made dense.
    """
    match type_:
        case TensorType():
            out.append(_shown(value))
        case StructType() if (layout := flat_layout(type_)) is not None:
            out += map(_shown, vectors_of(value, layout))
        case StructType():
            for part, part_type in zip(value, type_, strict=True):
                flatten(part, part_type, out, forms)
        case SequenceType(element):
            value = conformed_sequence(value, element)
            if forms is None:
                value = dense_sequence(value)
            if forms is not None:
                forms += value.column.forms
            flatten_arrays(value.column, out)
            out += (value.start, value.stop)


def _shown(value: Any) -> Any:
    """Return a tensor as the compiled signature says: read-only."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def flatten_arrays(column: Column, out: list[Any]) -> None:
    """Append the arrays of a column, in the order of the parameters that `Generator.arrays` makes for them."""
    for array in column.arrays:
        if isinstance(array, Csr):
            out += array
        else:
            out.append(array)


def unflatten(type_: Type, leaves: Any) -> Any:
    """Return the normalised value whose leaves the entry returned."""
    layout = flat_layout(type_)
    if layout is not None:
        return flat_value(layout, [next(leaves) for _ in layout.formats])
    if isinstance(type_, StructType):
        return tuple(unflatten(part, leaves) for part in type_)
    assert isinstance(type_, TensorType)
    leaf = next(leaves)
    return leaf if isinstance(leaf, np.ndarray) else type_.dtype.type(leaf)


@functools.cache
def prepare_numba() -> None:
    """Make ready for compiled code: extensions registered, every loaded BLAS on one thread.

    ``np.dot`` gives other bits on other numbers of threads, and ranks are the parallelism.
    """
    check_compiler()
    import scipy.linalg.cython_blas  # noqa: F401  # what Numba's np.dot calls: loaded before the threads are set
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)


def compile_entry(write: Callable[[bool], Generator], name: str, *, stored: bool = False) -> Any:
    """Return the compiled entry that ``write(dense)`` generates; ``name`` is what it is called when that takes long.

    Rows that are ``stored`` in another form than an array are given to user code as they are if it can be compiled for
    them, because it gives them to kernels only; otherwise as arrays, for which ``dense`` is True.  That it cannot is
    found while types are inferred, before any machine code is made, and kept in the cache: it is tried once.
    """
    from fedmpi.local.jit.store import Refused
    from fedmpi.local.numba_parts.intermediate import errors

    prepare_numba()
    refusals = (errors.NumbaError, AttributeError, TypeError)
    with announced(name):
        if stored:
            with contextlib.suppress(Refused, *refusals):
                return _compile(write(False), name, refusals)
        return _compile(write(stored), name)


class Core:
    """What a generator wrote, checked and translated for compiled callers, of which `entry` is one."""

    def __init__(self, generator: Generator, title: str) -> None:
        from fedmpi.local.jit.callee import callee

        self.title = title
        text, self.parameters = text_of(generator, "core"), ", ".join(["progress", *generator.parameters])
        self.signature, scope = _signature(generator), linked(generator.scope)
        self.key = _key(scope, text, self.signature)
        self.dispatcher = _compiled("core", callee, text, scope, self.key, self.signature, title)

    def entry(self) -> Any:
        """Return the function that Python calls."""
        text = f"def entry({self.parameters}):\n    return core({self.parameters})\n"
        key = None if self.key is None else hashlib.sha256(f"called {self.key}".encode()).hexdigest()
        return _compiled("entry", _called, text, {"core": self.dispatcher}, key, self.signature, self.title)


def _called(function: Any, *, cache: bool) -> Any:
    """Return the dispatcher of a function that Python calls."""
    from fedmpi.local.jit.callee import jitted
    from fedmpi.local.jit.store import Store

    return jitted(function, store=Store(function) if cache else None, nogil=True)


def _compile(generator: Generator, title: str, refusals: tuple[type[Exception], ...] = ()) -> Any:
    text, signature, scope = text_of(generator, "entry"), _signature(generator), linked(generator.scope)
    return _compiled("entry", _called, text, scope, _key(scope, text, signature), signature, title, refusals)


def _signature(generator: Generator) -> tuple[Any, ...]:
    """Return the Numba types of an entry's parameters."""
    from numba import types

    from fedmpi.local.numba_parts.lowering import from_dtype

    signature: list[Any] = [types.Array(types.int64, 1, "C")]
    for dtype, rank, written in generator.signature:
        scalar = types.int64 if dtype is None else from_dtype(np.dtype(dtype))
        signature.append(types.Array(scalar, rank, "C", readonly=not written) if rank else scalar)
    return tuple(signature)


def _compiled(
    name: str, make: Callable[..., Any], text: str, scope: dict[str, Any], key: str | None, signature: Any, title: str,
    refusals: tuple[type[Exception], ...] = (),
) -> Any:  # fmt: skip
    """Return the dispatcher that ``make`` makes of the function ``name`` in a text, compiled or loaded.

    Errors in ``refusals`` are kept in the cache, and are a `Refused` there.
    """
    prepare_numba()
    made = make(cache.function_of(name, text, scope, key, title), cache=key is not None)
    if key is None:
        made.compile(signature)
    else:
        with made._cache.compiling(signature), made._cache.tried_once(signature, refusals):
            made.compile(signature)
    made.disable_compile()
    return made


def _key(scope: dict[str, Any], text: str, signature: tuple[Any, ...]) -> str | None:
    """Return the hash of all that the compiled code depends on, None where that cannot be told."""
    digest = hashlib.sha256(f"{cache.conditions()}\n{signature}\n{text}".encode())
    for name, value in sorted(scope.items()):
        digest.update(name.encode())
        if isinstance(value, TypeToken):
            digest.update(repr(value.cache_key()).encode())
        elif hasattr(value, "fedmpi_names"):
            digest.update(repr(value.fedmpi_names).encode())
        elif not name.islower():  # the helpers of coerce and numba_types are lower case, and part of the versions
            try:
                digest.update(cache.fingerprint(value).encode())
            except cache.Uncacheable:
                return None
    return digest.hexdigest()


__all__ = ["CompiledFunction", "LocalBody", "NumbaBody", "flatten", "prepare_numba", "unflatten"]
