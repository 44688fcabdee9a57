"""Code generation: an unplaced function of the language becomes the text of one Python function for Numba.

The function takes the leaves of its argument (arrays and scalars) and returns the leaves of its result; local
computations are called, functions of the language are written out in place, and `sequence_reduce` and `sequence_sum`
(over any chain of `sequence_map`) become loops.  What has no compiled form raises `NotCompilable`; the interpreter then
takes the whole function.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fedmpi.language.tree.expressions import Apply, Call, Closure, Literal, Local, Select, Struct, call_closure
from fedmpi.language.types import SequenceType, StructType, TensorType, Type, contains
from fedmpi.local.columns.column import laid_out_alike
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.computations.bodies import BODY, LocalBody, NotCompilable
from fedmpi.local.integers.raising import SYMBOLS
from fedmpi.local.loops import whole_models
from fedmpi.local.loops.writer import HELPER, Given, Mapped, Parts, Var, Writer, check_compilable, part_of

_BINARY = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip


@dataclass
class Generator(Writer):
    """The semantics of `evaluate` that write text; its values are `Var`, `Parts`, `Mapped`, functions."""

    bodies: list[LocalBody] = field(default_factory=list)  # the local computations that the text calls

    # --- semantics of evaluate ---

    def literal(self, expr: Literal) -> Var:
        check_compilable(expr.type)
        return Var(self.constant("L", expr.value), expr.type)

    def struct(self, expr: Struct, parts: list[Any]) -> Parts:
        return Parts(tuple(parts), expr.type)

    def select(self, expr: Select, source: Any) -> Any:
        return part_of(self, source, expr.index, expr.type)

    def local(self, expr: Local) -> LocalBody:
        body: LocalBody = expr.impl
        return compilable(body)

    def call(self, function: Any, argument: Any, expr: Call) -> Any:
        if not isinstance(function, LocalBody):
            raise NotCompilable("a function that is not known while compiling")
        if argument is not None and function.type.parameter is not None:
            _check_layouts(argument.type, function.type.parameter)
            self.has_loop |= contains(function.type.parameter, SequenceType)
        name = self.constant("K", function)
        if argument is None:
            return self.noted(function, f"{name}()", expr.type)
        if function.fields is None:
            given, texts = [argument], [self.text(argument)]
        elif isinstance(argument, Parts):
            given = [argument.parts[i] for i in function.fields]
            texts = list(map(self.text, given))
        else:
            given, text = [None] * len(function.fields), self.text(argument)
            texts = [f"{text}[{i}]" for i in function.fields]
        for position in sorted(function.donated):
            texts[position] = self.lent(given[position], texts[position])
        return self.noted(function, f"{name}({', '.join(texts)})", expr.type)

    def lent(self, given: Any, text: str) -> str:
        """Return the text of an argument of the next call, which may write into it: of what others read, a copy.

        It is noted in case that it turns out later that nobody else does.
        """
        call = len(self.lines) + 1
        match given:
            case Given(consumers=consumers):
                consumers.append(call)
                return text
            case Parts() if flat_layout(given.type) is not None:
                return text  # vectors made for this call; another record has arrays that others may read
            case Var() if text.isidentifier():
                self.donations.append((call, text))
        return f"{self.helper('shared')}({text})"

    def noted(self, function: LocalBody, text: str, type_: Type) -> Var:
        """Bind the result of a local computation between notes, for errors, of which one is running."""
        if function not in self.bodies:
            self.bodies.append(function)
        self.line(f"progress[{BODY}] = {self.bodies.index(function)}")
        made = self.bind(text, type_)
        self.line(f"progress[{BODY}] = -1")
        return made

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        match expr.op:
            case "sequence_map":
                assert isinstance(expr.type, SequenceType)
                return Mapped(args[0], args[1], expr.type)
            case "sequence_reduce":
                sequence, zero, function = args
                return self.reduce(sequence, self.whole(zero, expr.type), function, expr.type)
            case "sequence_sum":
                zero = self.bind(f"{self.helper('zeros')}({self.token(expr.type)})", expr.type)
                return self.reduce(args[0], zero, self._plus(expr.type), expr.type)
            case op if op in _BINARY:
                return self.elementwise(op, args[0], args[1], expr.type, expr.where)
            case op if op in whole_models.WRITERS:
                return whole_models.WRITERS[op](self, expr, args)
        raise NotCompilable(f"{expr.op} inside a local function")

    def elementwise(self, op: str, left: Any, right: Any, type_: Type, where: str) -> Any:
        """Write arithmetic or a comparison of two tensors, or arithmetic of models, that is at ``where``."""
        if isinstance(type_, StructType):
            if flat_layout(type_) is not None:
                return whole_models.arithmetic(self, op, left, right, type_, where)
            parts = []
            for i, part in enumerate(type_):
                a, b = (
                    part_of(self, side, i, part) if isinstance(side.type, StructType) else side
                    for side in (left, right)
                )
                parts.append(self.elementwise(op, a, b, part, where))
            return Parts(tuple(parts), type_)
        assert isinstance(type_, TensorType)
        whole_models.check_compiled(op, type_)
        texts = self.text(left), self.text(right)
        if type_.shape != ():
            self.line(f"{self.helper('expect_one_shape')}({', '.join(texts)}, {op!r})")
        if op in SYMBOLS and type_.dtype.kind in "iu":
            computed = self.helper(f"integers_{op}")
            return self.bind(f"{computed}({', '.join(texts)}, {self.token(type_, where)})", type_)
        return self.whole(Var(f"({texts[0]} {_BINARY[op]} {texts[1]})", type_), type_)

    def invoke(self, function: Any, argument: Any, type_: Type) -> Any:
        """Apply a function value of any kind."""
        if callable(function) and not isinstance(function, LocalBody):
            return function(argument)
        if isinstance(function, Closure):
            return call_closure(function, argument, self)
        return self.call(function, argument, Call(None, None, type_))  # type: ignore[arg-type]

    def _plus(self, type_: Type) -> Callable[[Parts], Var]:
        add, token = self.helper("add"), self.token(type_)
        return lambda pair: self.bind(f"{add}({', '.join(map(self.text, pair.parts))}, {token})", type_)

    def reduce(self, sequence: Any, state: Var, function: Any, type_: Type) -> Var:
        """Write the loop that folds a sequence into ``state``."""
        before = len(self.lines)
        with self.loop(sequence) as element:
            pair = StructType([type_, element.type])
            given = Given(f"{self.helper('shared')}({state.text})", type_)
            result = self.invoke(function, Parts((given, element), pair), type_)
            if given.consumers:
                self.give_away(before, state, given)
            self.line(f"{state.text} = {self.helper('coerce')}({self.text(result)}, {self.token(type_)})")
        return state

    def give_away(self, before: int, state: Var, given: Given) -> None:
        """Let a local computation write into the state where nothing else reads it, once for each element.

        The state begins as a copy then: what it is made of may be somebody else's.
        """
        (at, *more), lines = given.consumers, self.lines[before + 1 :]
        uses = [line for line in lines if given.text in line]
        if more or len(uses) != 1 or uses[0].count(given.text) != 1 or self.indentation(at) != self.indent:
            return
        self.lines[at] = self.lines[at].replace(given.text, state.text)
        begun = max(i for i in range(before) if self.lines[i].strip().startswith(f"{state.text} = "))
        self.lines[begun] = self.lines[begun].replace(" = coerce(", f" = {self.helper('fresh')}(", 1)

    @contextlib.contextmanager
    def loop(self, sequence: Any) -> Iterator[Any]:
        """Write the head of a loop over a sequence and give its element; inside, the body is written."""
        maps = []
        self.has_loop = True
        while isinstance(sequence, Mapped):
            maps.append(sequence)
            sequence = sequence.sequence
        element: Any = Var(self.name("e"), sequence.type.element)
        self.line(f"for {element.text} in {self.text(sequence)}:")
        self.indent += 1
        for mapped in reversed(maps):
            element = self.invoke(mapped.function, element, mapped.type.element)
        yield element
        self.indent -= 1


def linked(scope: dict[str, Any]) -> dict[str, Any]:
    """Return the scope of a text with compiled functions in the places of local computations and helpers."""
    from fedmpi.local.jit import callee
    from fedmpi.local.loops import met_keys
    from fedmpi.local.sums import bins, extremes, masks
    from fedmpi.local.typed import coerce, elementwise, flat_structs, model_forms, numba_types, sharing

    importlib.import_module("fedmpi.local.typed.model_overloads")  # what bodies call
    importlib.import_module("fedmpi.local.typed.random_overloads")
    modules = (
        coerce, sharing, elementwise, flat_structs, model_forms, numba_types, bins, extremes, masks, met_keys, callee,
    )  # fmt: skip

    def compiled(name: str, value: Any) -> Any:
        if value is HELPER:
            return next(getattr(m, name) for m in modules if hasattr(m, name))
        return value.dispatcher if isinstance(value, LocalBody) else value

    return {name: compiled(name, value) for name, value in scope.items()}


def _check_layouts(found: Type, wanted: Type) -> None:
    """Raise `NotCompilable` for a sequence that would have to be stored otherwise: known sizes for open ones."""
    match found, wanted:
        case StructType(), StructType():
            for part, wanted_part in zip(found, wanted, strict=True):
                _check_layouts(part, wanted_part)
        case SequenceType(element), SequenceType(wanted_element):
            if not laid_out_alike(element, wanted_element):
                raise NotCompilable(f"{found} where {wanted} is expected")


def compilable(body: LocalBody) -> LocalBody:
    """Return a local computation, or raise `NotCompilable` if it is interpreted."""
    if not body.compilable:
        raise NotCompilable(f"{body.name} is a python_computation", asked=True)
    return body
