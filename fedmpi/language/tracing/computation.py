"""Computations: typed functions of the language, as Python objects that can be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmpi.language.errors import ContextError, TypingError, reporting
from fedmpi.language.source import definition_location, function_name
from fedmpi.language.tracing.calls import pack_args
from fedmpi.language.tracing.default_context import current_context
from fedmpi.language.tracing.traced import FunctionSource, Value, alive, call, embed
from fedmpi.language.tree.expressions import Expr, free, show
from fedmpi.language.tree.scopes import Scope, current_scope, entered, leaked, tracing_scope
from fedmpi.language.types import FunctionType, StructType, Type, is_federated
from fedmpi.language.types.presenting import check_presentable
from fedmpi.language.types.to_type import read_type, type_of


class Computation(FunctionSource):
    """A typed function.  Called in a traced body it adds a call to the program; called elsewhere it runs.

    ``expression`` is a `Lambda` or a `Local`; it is closed, except for a computation defined inside another one whose
    values it uses: that one can be used only inside of it.  ``where`` is the file and line of the definition, ``names``
    are the Python parameters' names.  ``any_placed`` tells whether a computation with placements has been defined: from
    then on the ranks of a job expect each other.
    """

    any_placed = False

    def __init__(
        self, expression: Expr, *, name: str = "", where: str = "", doc: str | None = None, names: tuple[str, ...] = ()
    ) -> None:
        if not isinstance(expression.type, FunctionType):
            raise TypeError(f"a computation must be a function, found {expression.type}")
        self.expression = expression
        self.type_signature = expression.type
        self.name = name or "computation"
        self.where = where
        self.names = names
        self.__doc__ = doc
        Computation.any_placed |= is_federated(expression.type)
        self._owner: Scope | None = current_scope() if any(free(expression)) else None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the computation in a traced body, or run it in the default context."""
        with reporting(self.name):
            argument = pack_args(self.type_signature.parameter, args, kwargs)
            if current_scope() is not None:
                return call(self.as_value(None), argument)
        self._check_runnable(args, kwargs)
        return current_context().invoke(self, argument)

    def resident(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run like a call, but leave what is at the clients where it is: each such result is a `ClientData`.

        That is how clients keep a state from round to round: nothing of it travels.
        """
        with reporting(self.name):
            if current_scope() is not None:
                raise ContextError(f"{self.name}.resident runs a computation: it cannot be used in a traced body")
            argument = pack_args(self.type_signature.parameter, args, kwargs)
        self._check_runnable(args, kwargs)
        return current_context().invoke(self, argument, resident=True)

    def _check_runnable(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._check_alive()
        if self._unpresentable is not None:
            with reporting(f"{self.name} ({self.where})" if self.where else self.name):
                raise TypingError(self._unpresentable.text, self._unpresentable.hint)
        for arg in (*args, *kwargs.values()):
            if isinstance(arg, Value):
                alive(arg)

    @functools.cached_property
    def _unpresentable(self) -> TypingError | None:
        """Why no result could be given back, whatever the argument."""
        try:
            check_presentable(self.type_signature.result)
        except TypingError as error:
            return error
        return None

    @property
    def root(self) -> str:
        """What error texts call an argument that is the whole parameter."""
        return self.names[0] if len(self.names) == 1 else "argument"

    def as_value(self, parameter: Type | None) -> Value:
        """Return the function as a value of the body that is being traced."""
        self._check_alive()
        return Value(self.expression, tracing_scope(self.name))

    def _check_alive(self) -> None:
        if self._owner is not None and not self._owner.is_around(current_scope()):
            used = self._owner.describe(next(free(self.expression)))
            raise leaked(self._owner, f"{self.name} ({self.where}), which uses {used},")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Computation) and self.expression == other.expression

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.expression)  # a walk over the tree: every call looks the computation up

    @functools.cached_property
    def called(self) -> tuple[str, str, tuple[str, ...]]:
        """What errors call it: equal computations may have different names."""
        return self.name, self.where, self.names

    def __repr__(self) -> str:
        return f"<computation {self.name}: {self.type_signature}" + (f", {self.where}>" if self.where else ">")

    def __str__(self) -> str:
        return show(self.expression)


class PolymorphicComputation(FunctionSource):
    """A function without a declared parameter type: it becomes a `Computation` for each type that it is applied to."""

    def __init__(self, fn: Callable[..., Any], build: Callable[..., Computation]) -> None:
        self.name = function_name(fn)
        self.where = definition_location(fn)
        self.__doc__ = fn.__doc__
        self._fn = fn
        self._build = build
        self._scope = current_scope()
        self._instances: dict[Type, Computation] = {}

    def fn_for_argument_type(self, type_: Any) -> Computation:
        """Return the computation for one type of (packed) argument; it is traced once."""
        with reporting(self.name):
            parameter = read_type(type_)
            if parameter not in self._instances:
                with entered(self._scope if self._scope is not None and self._scope.open else None):
                    self._instances[parameter] = self._build(self._fn, (parameter,))
        return self._instances[parameter]

    def as_value(self, parameter: Type | None) -> Value:
        """Return the function as a value, for a known type of argument."""
        if parameter is None:
            raise TypingError(
                f"{self.name} ({self.where}) has no parameter type, and none is known here",
                "declare it in the decorator, or give fn_for_argument_type(T)",
            )
        return self.fn_for_argument_type(parameter).as_value(parameter)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the computation in a traced body, or run it in the default context."""
        with reporting(self.name):
            args, kwargs = self._bound(args, kwargs)
            if current_scope() is not None:
                args = tuple([embed(arg, None, f"argument {i}") for i, arg in enumerate(args)])
                kwargs = {name: embed(arg, None, name) for name, arg in kwargs.items()}
            found = [(None, type_of(arg)) for arg in args] + [(n, type_of(arg)) for n, arg in kwargs.items()]
            if any(type_ is None for _, type_ in found):
                raise TypingError("an argument must be a value, found None")
            type_ = found[0][1] if len(args) == 1 and not kwargs else StructType(found)
        return self.fn_for_argument_type(type_)(*args, **kwargs)

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Check the arguments against the function's parameters; one by name for its one parameter is the argument."""
        takes = inspect.signature(self._fn)
        if len(args) == 1 and not kwargs:
            return args, kwargs  # for several parameters, the struct of them
        try:
            takes.bind(*args, **kwargs)
        except TypeError as error:
            raise TypingError(f"{error}", f"it takes ({', '.join(takes.parameters)})") from None
        return (args, kwargs) if len(takes.parameters) > 1 else (tuple(kwargs.values()), {})

    def __repr__(self) -> str:
        return f"<polymorphic computation {self.name}, {self.where}>"
