"""From a Python function and declared types to a parameter type; the forms of decorators: language.md, section 3.1."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, overload

import numpy as np

from fedmpi.language.errors import TypingError, reporting
from fedmpi.language.source import function_name
from fedmpi.language.tracing.calls import counted, listed
from fedmpi.language.tracing.computation import Computation, PolymorphicComputation
from fedmpi.language.tracing.traced import FunctionSource
from fedmpi.language.types import StructType, StructWithPythonType, Type
from fedmpi.language.types.classes import TypeSpec
from fedmpi.language.types.to_type import read_type

DeclaredType = Type | np.dtype[Any] | Sequence[Any] | Mapping[str, Any] | type[Any] | None


@dataclass(frozen=True)
class Bound:
    """How a Python function's parameters get their values from one parameter of the language.

    ``fields`` is None if the one Python parameter takes the whole argument; else it gives, for each Python parameter in
    order, the index of its element in the struct ``type``.  ``names`` are the Python parameters' names.
    """

    type: Type | None
    fields: tuple[int, ...] | None
    names: tuple[str, ...]


def parameter_names(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a function's parameters; raise `TypingError` for a kind of parameter that cannot be typed."""
    given = fn.keywords if isinstance(fn, functools.partial) else {}
    try:
        signature = inspect.signature(fn)
    except ValueError as error:
        raise TypingError(str(error)) from None  # a builtin that does not tell
    names = []
    for name, parameter in signature.parameters.items():
        if name in given:
            continue  # its value came with functools.partial
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise TypingError(
                f"a computation has plain parameters only, found the {parameter.kind.description} one {name!r}"
            )
        if parameter.default is not parameter.empty:
            raise TypingError(f"a parameter of a computation has no default, found {name}={parameter.default!r}")
        names.append(name)
    return tuple(names)


def bind_parameter(fn: Callable[..., Any], types: Sequence[TypeSpec | None]) -> Bound:
    """Return the parameter type of ``fn`` for these types; raise `TypingError` if they do not fit its parameters."""
    names = parameter_names(fn)
    given = [read_type(t) for t in types if t is not None]
    if len(given) < len(types) and (names or len(types) > 1):
        raise TypingError("None stands for no parameter, so it must be the only type, of a function without parameters")
    if not names:
        if given:
            raise TypingError(f"the function takes no parameter, found {counted(given, 'type')}: {listed(given)}")
        return Bound(None, (), ())
    if len(names) == 1:
        return Bound(given[0] if len(given) == 1 else StructType(given), None, names)
    if len(given) == 1 and isinstance(given[0], StructType):
        return _bind_struct(names, given[0])
    if len(given) != len(names):
        raise TypingError(
            f"{counted(names, 'parameter')} ({listed(names)}) need as many types, found {len(given)}: {listed(given)}"
        )
    return Bound(_named(names, given), tuple(range(len(names))), names)


def _bind_struct(names: tuple[str, ...], struct: StructType) -> Bound:
    fields = struct.fields()
    if len(struct) != len(names):
        raise TypingError(
            f"{counted(names, 'parameter')} ({listed(names)}) need as many elements, found {len(struct)}: {struct}"
        )
    if not fields:
        return Bound(_named(names, struct), tuple(range(len(names))), names)
    first = next(index for index, (name, _) in enumerate(struct.items()) if name is not None)
    if any(name is None for name, _ in struct.items()[first:]):
        raise TypingError(f"the elements without a name must come before those with one, found {struct}")
    order = {name: index for index, (name, _) in enumerate(struct.items()) if name is not None}
    free = [index for index, (name, _) in enumerate(struct.items()) if name is None]
    order.update(zip([name for name in names if name not in order], free, strict=False))
    if set(order) != set(names):
        raise TypingError(f"the elements of {struct} must have the names of the parameters: {listed(names)}")
    return Bound(struct, tuple(order[name] for name in names), names)


def _named(names: Sequence[str], types: Any) -> StructType:
    return StructWithPythonType(list(zip(names, types, strict=True)), OrderedDict)


class Decorator(Protocol):
    """A decorator of computations, in its forms ``@d()``, ``@d(T1, …)``, and ``@d``, ``d(fn, T1, …)``."""

    # A class is callable, too; so the form with types comes first.
    @overload
    def __call__(self, **options: Any) -> Callable[[Callable[..., Any]], Computation]: ...
    @overload
    def __call__(
        self, spec: DeclaredType, /, *types: TypeSpec, **options: Any
    ) -> Callable[[Callable[..., Any]], Computation]: ...
    @overload
    def __call__(self, fn: Callable[..., Any], /, *types: TypeSpec, **options: Any) -> Computation: ...


def decorator(name: str, build: Callable[..., Computation]) -> Decorator:
    """Return a decorator of computations with all its forms, and the doc of ``build``; ``name`` is for error texts.

    ``build(fn, types, **options)`` makes the computation; ``options`` are the decorator's keyword arguments.  A
    function with parameters and no declared types becomes a `PolymorphicComputation`.
    """

    def make(fn: Any, types: Sequence[Type | None], options: dict[str, Any]) -> Computation | PolymorphicComputation:
        with reporting(f"{name} of {function_name(fn)}"):
            if not is_function(fn):
                raise TypingError(f"a computation is made of a Python function, found {fn!r}")
            if isinstance(fn, FunctionSource):
                raise TypingError("a computation is made of a Python function, found one that is a computation already")
            if _suspends(fn):
                raise TypingError("a computation is made of a function that returns, found one that awaits or yields")
            parameters = parameter_names(fn)
            if parameters and not types:
                return PolymorphicComputation(fn, functools.partial(build, **options))
            if len(parameters) > 1 and len(types) == 1 and isinstance(types[0], StructType):
                _check_names(types[0])
            return build(fn, tuple(types), **options)

    def decorate(*args: Any, **options: Any) -> Any:
        inline = bool(args) and is_function(args[0])
        with reporting(name):
            types = [None if arg is None else read_type(arg) for arg in args[inline:]]
        return make(args[0], types, options) if inline else lambda fn: make(fn, types, options)

    decorate.__name__ = decorate.__qualname__ = name
    decorate.__doc__ = build.__doc__
    return cast(Decorator, decorate)


def _suspends(fn: Any) -> bool:
    """Say whether a call of the function gives a coroutine or a generator in place of a result."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    tests = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(test(each) for test in tests for each in (fn, type(fn).__call__))


def _check_names(struct: StructType) -> None:
    if 0 < len(struct.fields()) < len(struct):
        raise TypingError(f"the elements of a declared parameter must all have names, or none, found {struct}")


def is_function(obj: Any) -> bool:
    """Say whether a decorator's first argument is the function itself, and not a type."""
    return callable(obj) and not isinstance(obj, type | Type)
