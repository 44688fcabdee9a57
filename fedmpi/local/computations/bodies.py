"""What a local computation is below its type: a Python function, compiled by Numba or interpreted.

A body takes one normalised argument (see `fedmpi.local.columns.column`) and returns a normalised result.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.source import return_location
from fedmpi.language.types import FunctionType, StructType, Type
from fedmpi.local.attributes import attributes_of
from fedmpi.local.columns.values import cast_result
from fedmpi.local.computations.given import as_given
from fedmpi.local.computations.python_form import interpreted
from fedmpi.local.jit.debugging import debugging
from fedmpi.local.jit.freezing import frozen
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.local.jit.lending import lending
from fedmpi.local.value_errors import ArgumentError, DoesNotFitError


class NotCompilable(Exception):
    """The function holds something that only the interpreter can do; the text says what.

    ``asked`` tells that the program asked for it: by a `python_computation`.
    """

    def __init__(self, text: str, *, asked: bool = False) -> None:
        super().__init__(text)
        self.asked = asked


class LocalBody:
    """A user's function with its type.

    ``fields`` gives, for each Python parameter, its element of the parameter struct; None where the one Python
    parameter takes the whole argument.
    """

    compilable = False
    infinite = False  # whether a float of the result that is too large becomes infinite
    donated: frozenset[int] = frozenset()  # the positions of the parameters that the function may write into

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
        """Return the arguments for the Python function, which are its own."""
        parameter = self.type.parameter
        if parameter is None:
            return []
        if self.fields is None:
            return [as_given(argument, parameter, writable=0 in self.donated)]
        assert isinstance(parameter, StructType)
        types = list(parameter)
        return [
            as_given(argument[i], types[i], writable=position in self.donated) for position, i in enumerate(self.fields)
        ]

    def interpret(self, argument: Any) -> Any:
        """Run the undecorated function and check what it returns against the declared type."""
        result = self.run_python(self.python_arguments(argument))
        try:
            return cast_result(result, self.type.result, infinite=self.infinite)
        except ArgumentError as error:
            kind = OverflowError if isinstance(error, DoesNotFitError) else TypeError
            place = return_location(self.function) or self.where
            raise kind(str(Report(str(error), f"{self.name}: result", place))) from None

    def run_python(self, arguments: list[Any]) -> Any:
        """Call the undecorated function."""
        return self.function(*arguments)

    def __call__(self, argument: Any) -> Any:
        try:
            return self.interpret(argument)
        except GeneratorExit as error:  # to the caller no error: ranks would part
            made = RuntimeError(f"GeneratorExit: {error}")
            note_body(made, self)
            raise made from error
        except Exception as error:
            note_body(error, self)
            raise


Compiled = Callable[[Any, Sequence[Any]], Any]  # of a normalised argument, and the values of what was captured


class PythonBody(LocalBody):
    """The body of a `python_computation`."""


class NumbaBody(LocalBody):
    """The body of a `numba_computation`.

    ``parameters`` are the names of the Python parameters; ``given`` and ``keywords`` are the constant arguments that
    came with `functools.partial`.  ``translate`` makes the function that `compiled` is.
    ``function`` is the user's as it is at the definition (see `fedmpi.local.jit.freezing`).
    """

    compilable = True
    infinite = True

    def __init__(
        self, function: Any, *args: Any, boundscheck: bool = True, translate: Callable[[NumbaBody], Compiled]
    ) -> None:
        super().__init__(frozen(function), *args)
        self._translate = translate
        self.boundscheck = boundscheck
        self.parameters: tuple[str, ...] = ()
        self.given: tuple[Any, ...] = ()
        self.keywords: dict[str, Any] = {}

    def cache_key(self) -> tuple[Any, ...]:
        """Return what the compiled code depends on (see `fedmpi.local.jit.cache`)."""
        constants = (self.given, tuple(self.keywords.items()))
        types = str(self.type), self.fields, self.parameters, sorted(self.donated)
        return (self.function, constants, types, self.boundscheck, self.name)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The compiled function with the Python parameters, typed at both edges."""
        return typed_dispatcher(self)

    @functools.cached_property
    def compiled(self) -> Compiled:
        """The body as a function of its own, for calls from Python."""
        return self._translate(self)

    def compile(self) -> None:
        """Compile the body, or load what an earlier run compiled; raise `TypeError` if it cannot be compiled."""
        from fedmpi.local.jit.compile_errors import cannot_compile, refusal

        try:
            self.compiled  # noqa: B018
        except NotCompilable as reason:
            raise TypeError(cannot_compile(self.name, self.where, str(reason))) from None
        except Exception as error:  # Numba raises many classes, AttributeError among them
            if is_of_handler(error):
                raise
            raise TypeError(refusal(self.name, self.where, error)) from None

    @functools.cached_property
    def interpreted(self) -> Any:
        """The function as Python, its helpers included."""
        return interpreted(self.function)

    def run_python(self, arguments: list[Any]) -> Any:
        """Call the function as Python; of numbers, what compiled code lets pass passes."""
        with np.errstate(all="ignore"), lending([arguments[i] for i in self.donated]):
            return self.interpreted(*self.given, *arguments, **self.keywords)

    def __call__(self, argument: Any) -> Any:
        if debugging():
            return super().__call__(argument)
        if "compiled" not in self.__dict__:  # it was defined in debug mode
            self.compile()
        return self.compiled(argument, ())


def typed_dispatcher(body: NumbaBody) -> Any:
    """Return ``f(p0, p1, …)`` that accepts arguments of the declared types and returns the declared type."""
    from fedmpi.local.computations.numba_bodies import compile_body
    from fedmpi.local.jit.callee import callee
    from fedmpi.local.jit.generated import code_of
    from fedmpi.local.typed.coerce import accept, coerce
    from fedmpi.local.typed.sharing import lent
    from fedmpi.local.typed.tokens import token_of

    # The user's own parameter names, because compiled callers may pass arguments by keyword; ours begin with what none
    # of them begins with.
    prefixes = ("_" * n for n in itertools.count(1))
    own = next(p for p in prefixes if not any(name.startswith(p) for name in body.parameters))
    scope: dict[str, Any] = {
        "__name__": __name__,
        f"{own}user": compile_body(body.function, body.boundscheck, result=body.type.result),
        f"{own}accept": accept,
        f"{own}lent": lent,
        f"{own}coerce": coerce,
        f"{own}result": token_of(body.type.result, f"{body.name}: result"),
    }
    arguments = []
    for position, value in enumerate(body.given):
        scope[f"{own}given{position}"] = value
        arguments.append(f"{own}given{position}")
    for position, (name, part) in enumerate(zip(body.parameters, parameter_types(body), strict=True)):
        scope[f"{own}type{position}"] = token_of(part, f"{body.name}: parameter {name}")
        # By keyword where functools.partial gave keywords: these may stand before.
        if position in body.donated:
            others = "".join(f"{other}, " for other in body.parameters if other != name)
            arguments.append(f"{name}={own}lent({name}, {own}type{position}, ({others}))")
        else:
            arguments.append(f"{name}={own}accept({name}, {own}type{position})")
    for name, value in body.keywords.items():
        scope[f"{own}keyword_{name}"] = value
        arguments.append(f"{name}={own}keyword_{name}")
    text = (
        f"def {own}typed({', '.join(body.parameters)}):\n"
        f"    return {own}coerce({own}user({', '.join(arguments)}), {own}result)\n"
    )
    exec(code_of(text, body.name), scope)
    return callee(scope[f"{own}typed"])


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


# Where compiled code notes how far it has got, in an array int64[PROGRESS]: the element of the outermost sequence, the
# client, the operator, the local computation that is running; each is -1 outside of all.
BATCH, CLIENT, STEP, BODY = range(4)
PROGRESS = 4


def note_body(error: BaseException, body: LocalBody) -> None:
    """Remember in which local computation an error arose; the innermost has the say."""
    attributes_of(error).setdefault("fedmpi_body", f"{body.name} ({body.where})")


def note_progress(error: BaseException, progress: Any, bodies: Sequence[LocalBody]) -> None:
    """Remember what compiled code has noted; ``bodies`` are the local computations by their numbers."""
    if progress[BODY] >= 0:
        note_body(error, bodies[progress[BODY]])
    if progress[BATCH] >= 0:
        note_batch(error, int(progress[BATCH]))


def note_batch(error: BaseException, index: int) -> None:
    """Remember in which batch an error arose; the innermost loop that knows has the say."""
    attributes_of(error).setdefault("fedmpi_batch", index)
