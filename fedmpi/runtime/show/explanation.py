"""`explain`: a computation as a readable tree with types, followed by its communication plan."""

from __future__ import annotations

import functools
import inspect
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import (
    Apply,
    Block,
    Call,
    Expr,
    Lambda,
    Literal,
    Local,
    Ref,
    Select,
    Struct,
    free,
    root_of,
    show,
    walk,
)
from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    Type,
)
from fedmpi.local.computations.bodies import LocalBody, NumbaBody, PythonBody
from fedmpi.runtime.mpi.stdout import fitting
from fedmpi.runtime.show.code_text import texts, unplanned
from fedmpi.runtime.show.plan_text import planned, shown_computation, steps

# Characters of a type in the tree and in the lines above it, and of a constant.
TYPE_WIDTH, HEAD_WIDTH, CONSTANT_WIDTH = 60, 100, 40
# A value that is used once stands where it is used, below so many others at most; then it has a name.
DEEPEST = 30


@dataclass(frozen=True, repr=False)
class Explanation:
    """What `fm.explain` found out; printed, it is ``text`` in characters that stdout has."""

    computation: Computation
    text: str

    def __str__(self) -> str:
        return fitting(self.text)

    __repr__ = __str__


def explain(
    computation: Computation, *, full: bool = False, clients: int | None = None, code: bool = False
) -> Explanation:
    """Return the program of a computation as a tree, one node a line, and its communication plan; print it to read it.

    A node says which operator or local computation it is, the type of what it gives, and where in the user's program
    it was written; a value that is used several times has a name, ``%1``.  Long types are shortened (``<…>`` stands for
    a struct) unless ``full``.  ``clients`` is that of `fm.plan`.  With ``code`` it shows the Python text that Numba
    compiles, for columns whose arrays are as the type says.  Raises `TypeError` for what is no computation with a type.
    """
    shown = shown_computation("explain", computation, clients)
    printer = _Printer(full)
    lines = [*printer.head(shown), "program", *printer.program(shown.expression), "plan", *_plan(shown, clients)]
    if code:
        lines += ["code", *texts(shown, clients)]
    return Explanation(shown, "\n".join(lines))


def _plan(computation: Computation, clients: int | None) -> list[str]:
    if reason := unplanned(computation):
        return [f"  {reason}"]
    try:
        return [f"  {step}" for step in steps(planned("explain", computation, clients))]
    except (TypeError, ValueError) as error:  # it can be used in other programs, but not be called
        return [f"  none: {str(error).splitlines()[0]}"]


@dataclass
class _Node:
    """One line of the tree, and those below it."""

    text: str
    below: list[_Node] = field(default_factory=list)

    def lines(self, first: str, rest: str) -> Iterator[str]:
        yield first + self.text
        for node in self.below:
            last = node is self.below[-1]
            yield from node.lines(rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


# What a name in the program stands for: the text that is shown, or an expression to show in its place and its names.
_Names = Mapping[str, "str | tuple[Expr, Any]"]


class _Printer:
    """Turns expressions into nodes; types are shortened unless ``full``."""

    def __init__(self, full: bool) -> None:
        self.full = full
        self.named = 0

    # --- texts ---

    def head(self, computation: Computation) -> Iterator[str]:
        yield computation.name + (f", at {computation.where}" if computation.where else "")
        parameter, result = computation.type_signature.parameter, computation.type_signature.result
        expression = computation.expression
        name = expression.parameter if isinstance(expression, Lambda) else "argument"
        match parameter:
            case None:
                pass
            case StructType() if len(parameter):
                yield f"  takes {name} of"
                for index, (key, part) in enumerate(parameter.items()):
                    yield f"    {key if key is not None else f'[{index}]'} : {self.type(part, HEAD_WIDTH)}"
            case _:
                yield f"  takes {name} : {self.type(parameter, HEAD_WIDTH)}"
        yield f"  gives {self.type(result, HEAD_WIDTH)}"

    def program(self, expr: Expr) -> Iterator[str]:
        nodes = self.body(expr.body, {}) if isinstance(expr, Lambda) else [self.node(expr, {})]
        for node in nodes:
            yield from node.lines("  ", "  ")

    def type(self, type_: Type, width: int = TYPE_WIDTH) -> str:
        if self.full or len(str(type_)) <= width:
            return str(type_)
        # A struct shows its first elements at least, what holds one says that it does.
        least = 1 if isinstance(type_, StructType) else 0
        texts = [str(_elided(type_, depth)) for depth in range(8, least - 1, -1)]
        return next((text for text in texts if len(text) <= width), f"{texts[-1][: width - 1]}…")

    def line(self, label: str, what: str, type_: Type, where: str = "") -> str:
        """Return the text of a node: what it is to the node above, what it is, its type and its place."""
        return f"{label}{what} : {self.type(type_)}" + (f"   {where}" if where else "")

    def leaf(self, expr: Expr, names: _Names) -> str | None:
        """Return the text of what needs no line of its own: a name, a part of what has a name, a constant."""
        match expr:
            case Ref(name):
                known = names.get(name, name)
                return known if isinstance(known, str) else self.leaf(*known)
            case Select(source):
                text = self.leaf(source, names)
                return None if text is None else text + _part(expr)
            case Literal():
                text = " ".join(show(expr).split())
                return text if len(text) <= CONSTANT_WIDTH else text[: CONSTANT_WIDTH - 1] + "…"
            case Local(impl):
                return str(impl.name)
        return None

    # --- nodes ---

    def body(self, expr: Expr, names: _Names) -> list[_Node]:
        """Return the nodes of a function's body: values that are used several times, then the result."""
        if not isinstance(expr, Block):
            return [self.node(expr, names)]
        scope: ChainMap[str, Any] = ChainMap({}, names)  # type: ignore[arg-type]  # what is around is only looked up
        nodes = []
        inlined = _inlined(expr)
        for name, bound in expr.locals:
            if name in inlined or self.leaf(bound, scope) is not None:
                scope[name] = (bound, scope)
                continue
            self.named += 1
            nodes.append(self.node(bound, scope, f"%{self.named} = "))
            scope[name] = f"%{self.named}"
        return [*nodes, self.node(expr.result, scope, "result = " if nodes else "")]

    def node(self, expr: Expr, names: _Names, label: str = "") -> _Node:
        """Return the node of an expression."""
        if isinstance(expr, Ref) and isinstance(known := names.get(expr.name), tuple):
            return self.node(*known, label)
        match expr:
            case Apply(op, (Struct(elements, struct),), type_):
                return self.applied(label, op, _keys(struct), elements, names, type_, expr.where)
            case Apply(op, args, type_):
                return self.applied(label, op, _argument_names(op, len(args)), args, names, type_, expr.where)
            case Call(function, argument, type_):
                keys, args = _arguments(function.type, argument)
                called = self.leaf(function, names)
                if called is not None:
                    return self.applied(label, called, keys, args, names, type_, expr.where)
                node = self.applied(label, "call", keys, args, names, type_, expr.where, inline=False)
                return _Node(node.text, [self.node(function, names, "function = "), *node.below])
            case Struct(elements, type_):
                return self.applied(label, "struct", _keys(type_), elements, names, type_, inline=False)
            case Lambda(parameter, body, type_):
                # Its parameter hides what the same name stands for around it.
                inside = names if parameter is None else ChainMap({parameter: parameter}, names)  # type: ignore[arg-type]
                what = f"function of {parameter}" if parameter is not None else "function"
                return _Node(self.line(label, what, type_), self.body(body, inside))
            case Local(impl, type_):
                return _Node(self.line(label, f"{impl.name}, {_kind(impl)}", type_, impl.where))
            case Block():
                below = self.body(expr, names)
                return (
                    _Node(label + below[0].text, below[0].below)
                    if len(below) == 1
                    else _Node(self.line(label, "let", expr.type), below)
                )
            case Select(source, _, type_) if self.leaf(expr, names) is None:
                return _Node(self.line(label, f"part {_part(expr)}", type_), [self.node(source, names)])
        return _Node(self.line(label, self.leaf(expr, names) or "", expr.type))

    def applied(
        self, label: str, what: str, keys: Sequence[str], args: Sequence[Expr], names: _Names, type_: Type,
        where: str = "", *, inline: bool = True,
    ) -> _Node:  # fmt: skip
        """Return the node of something applied to arguments: in brackets where they are short, else below it."""
        leaves = [self.leaf(arg, names) for arg in args]
        if inline and None not in leaves:
            return _Node(self.line(label, f"{what}({', '.join(map(str, leaves))})", type_, where))
        below = [self.node(arg, names, f"{key} = " if key else "") for key, arg in zip(keys, args, strict=True)]
        return _Node(self.line(label, what, type_, where), below)


def _part(expr: Select) -> str:
    """Return how a part of a struct is written."""
    struct = expr.source.type.member if isinstance(expr.source.type, FederatedType) else expr.source.type
    name = struct.items()[expr.index][0] if isinstance(struct, StructType) else None
    return f"[{expr.index}]" if name is None else f".{name}"


def _kind(body: LocalBody) -> str:
    match body:
        case NumbaBody():
            return "numba_computation"
        case PythonBody():
            return "python_computation"
    return "a value of the program"


@functools.cache
def _argument_names(op: str, count: int) -> list[str]:
    """Return what an operator calls its arguments, so many of them."""
    names = list(inspect.signature(OPERATORS[op].rule).parameters) if op in OPERATORS else []
    return [names[i] if count > 1 and i < len(names) else "" for i in range(count)]


def _arguments(function: Type, argument: Expr | None) -> tuple[list[str], tuple[Expr, ...]]:
    """Return the arguments of a call with their names: those of the parameter's elements for a struct."""
    if argument is None:
        return [], ()
    parameter = function.parameter if isinstance(function, FunctionType) else None
    if isinstance(argument, Struct) and isinstance(parameter, StructType):
        return _keys(parameter), argument.elements
    return [""], (argument,)


def _keys(type_: StructType) -> list[str]:
    return [key or "" for key, _ in type_.items()]


def _inlined(block: Block) -> set[str]:
    """Return the locals that are used in one place, not inside a function, where they would look as if computed there.

    Of a chain of them not all, or the tree would be as deep as the chain is long.
    """
    parts = [*(bound for _, bound in block.locals), block.result]
    used = [[root_of(use).name for use in free(part)] for part in parts]
    times = Counter(name for names in used for name in names)
    functions = (each for part in parts for each in walk(part) if isinstance(each, Lambda))
    inside = {root_of(use).name for function in functions for use in free(function)}
    depths: dict[str, int] = {}  # of what is inlined: how many others stand below it
    for (name, _), names in zip(block.locals, used, strict=False):
        depth = 1 + max((depths[each] for each in names if each in depths), default=0)
        if times[name] == 1 and name not in inside and depth < DEEPEST:
            depths[name] = depth
    return set(depths)


def _elided(type_: Type, depth: int) -> Type:
    """Return a type whose text is shorter: ``<…>`` for structs inside of ``depth`` others."""
    match type_:
        case StructType() if len(type_):
            if depth == 0:
                return AbstractType("<…>")
            return StructType([(name, _elided(part, depth - 1)) for name, part in type_.items()])
        case SequenceType(element):
            return SequenceType(_elided(element, depth))
        case FederatedType(member, placement, all_equal):
            return FederatedType(_elided(member, depth), placement, all_equal)
        case FunctionType(parameter, result):
            return FunctionType(None if parameter is None else _elided(parameter, depth), _elided(result, depth))
    return type_
