"""What a local computation is below its type: a Python function, compiled by Numba or interpreted.

A body takes one normalised argument (see `fedmpi.local.columns`) and returns a normalised result.
"""

from __future__ import annotations

import functools
from typing import Any

from fedmpi.language.types import FunctionType, StructType, Type
from fedmpi.local.values import ArgumentError, as_record, cast_result


class LocalBody:
    """A user's function with its type.

    ``fields`` gives, for each Python parameter, its element of the parameter struct; None where the one Python
    parameter takes the whole argument.
    """

    compilable = False

    def __init__(
        self, function: Any, type_: FunctionType, fields: tuple[int, ...] | None, name: str, where: str
    ) -> None:
        self.function, self.type, self.fields, self.name, self.where = function, type_, fields, name, where

    def __repr__(self) -> str:
        return f"<{self.name}: {self.type}>"

    @property
    def dispatcher(self) -> Any:
        """The Numba dispatcher that other compiled code calls."""
        raise TypeError(f"{self.name} is a python_computation: compiled code cannot call it")

    def python_arguments(self, argument: Any) -> list[Any]:
        """Return the arguments for the Python function, structs as records."""
        parameter = self.type.parameter
        if parameter is None:
            return []
        if self.fields is None:
            return [as_record(argument, parameter)]
        assert isinstance(parameter, StructType)
        types = list(parameter)
        return [as_record(argument[i], types[i]) for i in self.fields]

    def interpret(self, argument: Any) -> Any:
        """Run the undecorated function and check what it returns against the declared type."""
        result = self.function(*self.python_arguments(argument))
        try:
            return cast_result(result, self.type.result)
        except ArgumentError as error:
            raise TypeError(f"{self.name}: result: {error}\n  at {self.where}") from None

    def __call__(self, argument: Any) -> Any:
        return self.interpret(argument)


class PythonBody(LocalBody):
    """The body of a `python_computation`."""


class NumbaBody(LocalBody):
    """The body of a `numba_computation`."""

    compilable = True

    def __init__(self, *args: Any, boundscheck: bool = True) -> None:
        super().__init__(*args)
        self.boundscheck = boundscheck

    def cache_key(self) -> tuple[Any, ...]:
        """Return what the compiled code depends on (see `fedmpi.local.cache`)."""
        return (self.function, str(self.type), self.fields, self.boundscheck)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The compiled function with the Python parameters, typed at both edges."""
        return typed_dispatcher(self)

    @functools.cached_property
    def compiled(self) -> Any:
        """The body as a function of its own, for calls from Python."""
        from fedmpi.local.compiled import CompiledFunction

        return CompiledFunction(self, self.type.parameter, self.type.result, self.name)

    def __call__(self, argument: Any) -> Any:
        return self.compiled(argument, ())


def typed_dispatcher(body: NumbaBody) -> Any:
    """Return ``f(p0, p1, …)`` that accepts arguments of the declared types and returns the declared type."""
    from numba import njit

    from fedmpi.local.coerce import accept, coerce, token_of
    from fedmpi.local.numba_types import BodyCompiler

    function = getattr(body.function, "py_func", body.function)
    user = njit(pipeline_class=BodyCompiler, error_model="numpy", boundscheck=body.boundscheck)(function)
    scope: dict[str, Any] = {
        "__name__": __name__,
        "user": user,
        "accept": accept,
        "coerce": coerce,
        "T": token_of(body.type.result),
    }
    names, arguments = [], []
    for position, part in enumerate(parameter_types(body)):
        name = function.__code__.co_varnames[position]
        names.append(name)
        arguments.append(f"accept({name}, T{position}_)")
        scope[f"T{position}_"] = token_of(part)
    # The user's own parameter names: compiled callers may pass arguments by keyword.
    inner = {"user": "user", "accept": "accept", "coerce": "coerce"}
    for fixed in inner:
        if fixed in names:
            scope[f"{fixed}_"] = scope.pop(fixed)
            inner[fixed] = f"{fixed}_"
    arguments = [a.replace("accept(", f"{inner['accept']}(", 1) for a in arguments]
    text = (
        f"def {_identifier(body.name)}({', '.join(names)}):\n"
        f"    return {inner['coerce']}({inner['user']}({', '.join(arguments)}), T)\n"
    )
    exec(compile(text, f"<fedmpi {body.name}>", "exec"), scope)
    return njit(error_model="numpy")(scope[_identifier(body.name)])


def _identifier(name: str) -> str:
    return name if name.isidentifier() else "local"


def parameter_types(body: LocalBody) -> list[Type]:
    """Return the type of each Python parameter."""
    parameter = body.type.parameter
    if parameter is None:
        return []
    if body.fields is None:
        return [parameter]
    assert isinstance(parameter, StructType)
    types = list(parameter)
    return [types[i] for i in body.fields]


def note_batch(error: BaseException, index: int) -> None:
    """Remember in which batch an error arose; the innermost loop that knows has the say."""
    if not hasattr(error, "fedmpi_batch"):
        error.fedmpi_batch = index  # type: ignore[attr-defined]
