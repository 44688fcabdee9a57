"""The tree of a typed program.

Nodes are frozen dataclasses: they compare by value, and a pass over them is a ``match``.  A program that exists has
been checked: whoever builds a node computes its ``type`` with the same typing rule that the checker uses.  Locals are
bound in a `Block` (a value used twice is computed once), functions are closed only over the locals and parameters
around them.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fedmpi.language.types import FederatedType, FunctionType, StructType, TensorType, Type


@dataclass(frozen=True)
class Ref:
    """A parameter or a local, by name; names are unique within nested scopes."""

    name: str
    type: Type


@dataclass(frozen=True)
class Literal:
    """A constant tensor: its bytes in C order (for dtype ``str`` a text, or the texts of an array in C order)."""

    data: bytes | str | tuple[str, ...]
    type: TensorType

    @property
    def value(self) -> Any:
        """The NumPy scalar, read-only array or `str` that the literal stands for."""
        if isinstance(self.data, str):
            return self.data
        if isinstance(self.data, tuple):
            texts = np.array(self.data, dtype=object).reshape([size or 0 for size in self.type.shape or ()])
            texts.flags.writeable = False
            return texts
        array = np.frombuffer(self.data, dtype=self.type.dtype).reshape([size or 0 for size in self.type.shape or ()])
        return array[()] if not self.type.shape else array


@dataclass(frozen=True)
class Struct:
    """A struct built from one expression for each element of ``type``, in order."""

    elements: tuple[Expr, ...]
    type: StructType


@dataclass(frozen=True)
class Select:
    """Element ``index`` of a struct, or of a federated struct (the placement is kept)."""

    source: Expr
    index: int
    type: Type


@dataclass(frozen=True)
class Lambda:
    """A function; ``parameter`` is None for a function without a parameter."""

    parameter: str | None
    body: Expr
    type: FunctionType


@dataclass(frozen=True)
class Block:
    """``locals`` bound in order, then ``result``."""

    locals: tuple[tuple[str, Expr], ...]
    result: Expr
    type: Type


@dataclass(frozen=True)
class Call:
    """A function applied to its argument (None for a function without a parameter)."""

    function: Expr
    argument: Expr | None
    type: Type
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Local:
    """A local computation: ``impl`` is what `fedmpi.local` made of the user's function; nothing here looks into it."""

    impl: Any
    type: FunctionType


@dataclass(frozen=True)
class Apply:
    """An operator of the table applied to expressions; ``type`` is what its typing rule returned."""

    op: str
    args: tuple[Expr, ...]
    type: Type
    where: str = field(default="", compare=False)


Expr = Ref | Literal | Struct | Select | Lambda | Block | Call | Local | Apply
Env = Mapping[str, Any]


@dataclass(frozen=True)
class Closure:
    """A function value: a `Lambda` and the values of the names around it."""

    function: Lambda
    env: Env


class Semantics(Protocol):
    """What an evaluator has to say; `evaluate` does the rest.  Values are whatever it returns."""

    def literal(self, expr: Literal) -> Any:
        """Return the value of a constant."""

    def struct(self, expr: Struct, parts: list[Any]) -> Any:
        """Return a struct of values."""

    def select(self, expr: Select, source: Any) -> Any:
        """Return an element of a struct value."""

    def local(self, expr: Local) -> Any:
        """Return a function value for a local computation."""

    def call(self, function: Any, argument: Any, expr: Call) -> Any:
        """Apply a function value that is no `Closure`."""

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        """Apply an operator to values (functions arrive as `Closure` or as what `kernel` returned)."""


def evaluate(expr: Expr, env: Env, semantics: Semantics) -> Any:
    """Evaluate ``expr`` where ``env`` gives the values of its free names.

    One walk serves the reference evaluator (values are data), the planner (values are nodes of a plan) and the code
    generator (values are text): they differ in ``semantics`` alone.
    """
    match expr:
        case Ref(name):
            return env[name]
        case Literal():
            return semantics.literal(expr)
        case Struct(elements):
            return semantics.struct(expr, [evaluate(e, env, semantics) for e in elements])
        case Select(source):
            return semantics.select(expr, evaluate(source, env, semantics))
        case Lambda():
            return Closure(expr, env)
        case Block(locals_, result):
            scope: ChainMap[str, Any] = ChainMap({}, env)  # type: ignore[arg-type]  # what is around is only looked up
            for name, bound in locals_:
                scope[name] = evaluate(bound, scope, semantics)
            return evaluate(result, scope, semantics)
        case Call(function, argument):
            value = None if argument is None else evaluate(argument, env, semantics)
            called = evaluate(function, env, semantics)
            if isinstance(called, Closure):
                return call_closure(called, value, semantics)
            return semantics.call(called, value, expr)
        case Local():
            return semantics.local(expr)
        case Apply(_, args):
            return semantics.apply(expr, [evaluate(a, env, semantics) for a in args])


def call_closure(closure: Closure, argument: Any, semantics: Semantics) -> Any:
    """Apply a closure to a value."""
    name = closure.function.parameter
    env = closure.env if name is None else ChainMap({name: argument}, closure.env)  # type: ignore[arg-type]
    return evaluate(closure.function.body, env, semantics)


def free(expr: Expr) -> Iterator[Ref | Select]:
    """Yield what an expression uses from outside of itself: free names, with the selections from them."""
    return _free(expr, Counter())


def _free(expr: Expr, bound: Counter[str]) -> Iterator[Ref | Select]:
    """Yield free names; ``bound`` counts those that are bound here, and is left as it was."""
    match expr:
        case Ref(name):
            if not bound.get(name):
                yield expr
        case Select(source):
            root = origin(source)
            if not isinstance(root, Ref):
                yield from _free(root, bound)
            elif not bound.get(root.name):
                yield expr
        case Lambda(parameter, body):
            bound[parameter or ""] += 1
            yield from _free(body, bound)
            bound[parameter or ""] -= 1
        case Block(locals_, result):
            for name, local in locals_:
                yield from _free(local, bound)
                bound[name] += 1
            yield from _free(result, bound)
            bound.subtract(name for name, _ in locals_)
        case _:  # nothing is bound
            for part in parts_of(expr):
                yield from _free(part, bound)


def origin(expr: Expr) -> Expr:
    """Return what an expression selects from, at last; the expression itself if it selects nothing."""
    while isinstance(expr, Select):
        expr = expr.source
    return expr


def root_of(use: Expr) -> Ref:
    """Return the name that a free use (see `free`) begins with."""
    root = origin(use)
    assert isinstance(root, Ref)
    return root


def path_of(use: Expr) -> tuple[int, ...]:
    """Return the indices that a free use (see `free`) selects, one after the other, from its name."""
    return (*path_of(use.source), use.index) if isinstance(use, Select) else ()


def parts_of(expr: Expr) -> tuple[Expr, ...]:
    """Return the expressions that one is made of, in the order in which they are written."""
    match expr:
        case Select(source):
            return (source,)
        case Struct(elements) | Apply(_, elements):
            return elements
        case Lambda(_, body):
            return (body,)
        case Block(locals_, result):
            return (*(bound for _, bound in locals_), result)
        case Call(function, argument):
            return (function,) if argument is None else (function, argument)
    return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """Yield an expression and all its parts, each before its own."""
    yield expr
    for part in parts_of(expr):
        yield from walk(part)


def show(expr: Expr) -> str:
    """Return the expression as a text: ``(foo_arg -> federated_mean(foo_arg))``."""
    match expr:
        case Ref(name):
            return name
        case Literal():
            return repr(expr.value.item() if isinstance(expr.value, np.generic) else expr.value)
        case Struct(elements, type_):
            parts = zip(type_.items(), map(show, elements), strict=True)
            return f"<{','.join(text if key is None else f'{key}={text}' for (key, _), text in parts)}>"
        case Select(source, index):
            struct = source.type.member if isinstance(source.type, FederatedType) else source.type
            key = struct.items()[index][0] if isinstance(struct, StructType) else None
            return f"{show(source)}[{index}]" if key is None else f"{show(source)}.{key}"
        case Lambda(parameter, body):
            return f"({parameter or ''} -> {show(body)})"
        case Block(locals_, result):
            return f"(let {','.join(f'{name}={show(local)}' for name, local in locals_)} in {show(result)})"
        case Call(function, argument):
            return f"{show(function)}({'' if argument is None else show(argument)})"
        case Local(impl):
            return str(getattr(impl, "name", "kernel"))
        case Apply(op, (arg,)):
            return f"{op}({show(arg)})"
        case Apply(op, args):
            return f"{op}(<{','.join(map(show, args))}>)"
