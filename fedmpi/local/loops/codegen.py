"""Code generation: an unplaced function of the language becomes the text of one Python function for Numba.

The function takes the leaves of its argument (arrays and scalars) and returns the leaves of its result; local
computations are called, functions of the language are written out in place, and `sequence_reduce` and `sequence_sum`
(over any chain of `sequence_map`) become loops.  What has no compiled form raises `NotCompilable`; the interpreter then
takes the whole function.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedmpi.language.tree.expressions import Apply, Call, Closure, Literal, Local, Select, Struct, call_closure
from fedmpi.language.types import SequenceType, StructType, TensorType, Type, contains
from fedmpi.language.types.walking import preorder_types
from fedmpi.local.columns.column import is_text, laid_out_alike, leaf_formats
from fedmpi.local.columns.sparse import Csr
from fedmpi.local.computations.bodies import BODY, LocalBody, NotCompilable, NumbaBody
from fedmpi.local.integers.raising import SYMBOLS
from fedmpi.local.records import record_of
from fedmpi.local.typed.tokens import token_of


@dataclass(frozen=True)
class Var:
    """A value in the generated text."""

    text: str
    type: Type


class Given(Var):
    """The state of a loop as its body gets it; ``consuming`` is a call that could write into it: its line and text."""

    consuming: tuple[int, str] | None = None


@dataclass(frozen=True)
class Parts:
    """A struct known element by element."""

    parts: Sequence[Any]
    type: StructType


@dataclass(frozen=True)
class Mapped:
    """A sequence that is mapped where it is consumed."""

    function: Any
    sequence: Any
    type: SequenceType


_BINARY = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip


_HELPER = object()  # stands for a compiled function of this package until the text is compiled
_DENSE: Iterator[str] = iter(())  # no forms: every array is stored as its type says


@dataclass
class Generator:
    """Writes the text; as the semantics of `evaluate` its values are `Var`, `Parts`, `Mapped`, functions."""

    head: list[str] = field(default_factory=list)  # before everything else: what parameters are made of
    lines: list[str] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    signature: list[tuple[Any, int, bool]] = field(default_factory=list)  # dtype, rank of each parameter, if written to
    dense: bool = False  # stored rows become arrays before user code sees them
    in_place: bool = False  # kernels may write into a state that the text owns
    bodies: list[LocalBody] = field(default_factory=list)  # the local computations that the text calls
    has_loop: bool = False  # over a sequence, in the text or in a local computation that it calls
    remarks: dict[int, str] = field(default_factory=dict)  # on lines, for readers alone
    meanings: dict[str, str] = field(default_factory=dict)  # of names, for readers alone
    indent: int = 1
    count: int = 0

    # --- names and lines ---

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def name(self, prefix: str = "t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def constant(self, prefix: str, value: Any) -> str:
        """Return a name of the scope for an object; the same object keeps its name."""
        for name, known in self.scope.items():
            if known is value:
                return name
        name = self.name(prefix)
        self.scope[name] = value
        return name

    def bind(self, text: str, type_: Type) -> Var:
        name = self.name()
        self.line(f"{name} = {text}")
        return Var(name, type_)

    # --- parameters ---

    def parameter(self, type_: Type, forms: Iterator[str] = _DENSE) -> Var | Parts:
        """Add the leaves of a type to the parameters and return the value they form.

        ``forms`` says how the arrays of its sequences are stored (see `storage.form`); nothing means dense.
        """
        match type_:
            case TensorType(dtype, shape):
                check_compilable(type_)
                return Var(self.leaf(dtype, len(shape or ())), type_)
            case StructType():
                return Parts(tuple(self.parameter(t, forms) for t in type_), type_)
            case SequenceType(element):
                arrays = self.arrays(element, forms)
                bounds = self.leaf(None, 0), self.leaf(None, 0)
                return Var(self.sequence(element, arrays, *bounds), type_)
        raise NotCompilable(f"a value of type {type_}")

    def arrays(self, type_: Type, forms: Iterator[str]) -> str:
        """Add the arrays of a column of this type to the parameters and return them as a tuple."""
        check_compilable(type_)
        texts = []
        for dtype, inner in leaf_formats(type_):
            form = next(forms, "")
            if form == "sparse":
                self.scope["Csr"] = Csr
                parts = [self.leaf(dtype, 1), self.leaf(np.int32, 1), self.leaf(np.int64, 1), self.leaf(None, 0)]
                texts.append(f"Csr({', '.join(parts)})")
            else:
                texts.append(self.leaf(np.uint8 if form == "bytes" else dtype, 1 + len(inner)))
        return f"({''.join(text + ', ' for text in texts)})"

    def sequence(self, element: Type, arrays: str, start: str, stop: str) -> str:
        """Write before everything else the sequence ``start`` to ``stop`` of a column; return its name."""
        made, token, name = (
            self.helper("make_sequence"),
            self.token(element, "dense" if self.dense else ""),
            self.name(),
        )
        self.head.append(f"    {name} = {made}({token}, {arrays}, progress, {start}, {stop})")
        return name

    def leaf(self, dtype: Any, rank: int, *, written: bool = False) -> str:
        """Add an array or (rank 0) a scalar to the parameters; dtype None is an int64 that indexes."""
        name = f"a{len(self.parameters)}"
        self.parameters.append(name)
        self.signature.append((dtype, rank, written))
        return name

    def token(self, type_: Type, label: str = "") -> str:
        return self.constant("T", token_of(type_, label))

    def helper(self, name: str) -> str:
        """Return the name of a compiled function of this package, which `linked` finds."""
        self.scope[name] = _HELPER
        return name

    # --- values as text ---

    def text(self, value: Any) -> str:
        match value:
            case Var(text):
                return text
            case Parts(parts, type_):
                record = self.constant("R", record_of(type_))
                return f"{record}({', '.join(map(self.text, parts))})"
            case Mapped():
                raise NotCompilable("a mapped sequence used as a whole")
        raise NotCompilable("a function used as a value")

    def owned(self, value: Any, type_: Type) -> Var:
        """Bind the value in its declared type, in arrays of its own."""
        return self.bind(f"{self.helper('coerce')}({self.text(value)}, {self.token(type_)})", type_)

    def leaves(self, text: str, type_: Type) -> list[str]:
        match type_:
            case StructType():
                return [leaf for i, t in enumerate(type_) for leaf in self.leaves(f"{text}[{i}]", t)]
            case TensorType():
                check_compilable(type_)
                return [text]
        raise NotCompilable(f"a result of type {type_}")

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
            return self.noted(function, f"{name}({self.text(argument)})", expr.type)
        if isinstance(argument, Parts):
            parts = [self.text(argument.parts[i]) for i in function.fields]
        else:
            text = self.text(argument)
            parts = [f"{text}[{i}]" for i in function.fields]
        made = self.noted(function, f"{name}({', '.join(parts)})", expr.type)
        for position, i in enumerate(function.fields if self.in_place else ()):
            given = argument.parts[i] if isinstance(argument, Parts) else None
            if isinstance(given, Given) and isinstance(function, NumbaBody):
                form = function.consuming(position)
                if form is not None:
                    consuming = self.constant("C", form)
                    self.meanings[consuming] = f"{function.name}, which writes into its {function.parameters[position]}"
                    line = self.lines[-2].replace(f"{name}(", f"{consuming}(", 1)
                    given.consuming = len(self.lines) - 2, line
        return made

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
                return self.reduce(sequence, self.owned(zero, expr.type), function, expr.type)
            case "sequence_sum":
                zero = self.bind(f"{self.helper('zeros')}({self.token(expr.type)})", expr.type)
                return self.reduce(args[0], zero, self._plus(expr.type), expr.type)
            case op if op in _BINARY:
                return self.elementwise(op, args[0], args[1], expr.type, expr.where)
        raise NotCompilable(f"{expr.op} inside a local function")

    def elementwise(self, op: str, left: Any, right: Any, type_: Type, where: str) -> Any:
        """Write arithmetic or a comparison of two tensors, or the sum of two structs, that is at ``where``."""
        if isinstance(type_, StructType):
            sides = [(part_of(self, left, i, t), part_of(self, right, i, t), t) for i, t in enumerate(type_)]
            return Parts(tuple(self.elementwise(op, *side, where) for side in sides), type_)
        assert isinstance(type_, TensorType)
        if op in ("multiply", "divide") and type_.dtype.kind == "c":
            raise NotCompilable("NumPy and Numba round products and quotients of complex numbers differently")
        texts = self.text(left), self.text(right)
        if type_.shape != ():
            self.line(f"{self.helper('expect_one_shape')}({', '.join(texts)}, {op!r})")
        if op in SYMBOLS and type_.dtype.kind in "iu":
            computed = self.helper(f"integers_{op}")
            return self.bind(f"{computed}({', '.join(texts)}, {self.token(type_, where)})", type_)
        return self.owned(Var(f"({texts[0]} {_BINARY[op]} {texts[1]})", type_), type_)

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
            if self.in_place and given.consuming is not None:
                self.consume(before, state, given, result)
            self.line(f"{state.text} = {self.helper('coerce')}({self.text(result)}, {self.token(type_)})")
        return state

    def consume(self, before: int, state: Var, given: Given, result: Var) -> None:
        """Let a call write into the state where nothing else reads it and its result is the next state.

        The state begins as a copy then: what it is made of may be somebody else's.
        """
        at, call = given.consuming or (0, "")
        uses = [line for line in self.lines[before:] if given.text in line]
        if len(uses) != 1 or not self.lines[at].strip().startswith(f"{result.text} = "):
            return
        self.lines[at] = call.replace(given.text, state.text)
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
    from fedmpi.local.loops import met_keys
    from fedmpi.local.sums import bins, extremes, masks
    from fedmpi.local.typed import coerce, numba_types

    modules = (coerce, numba_types, bins, extremes, masks, met_keys)

    def compiled(name: str, value: Any) -> Any:
        if value is _HELPER:
            return next(getattr(m, name) for m in modules if hasattr(m, name))
        return value.dispatcher if isinstance(value, LocalBody) else value

    return {name: compiled(name, value) for name, value in scope.items()}


def part_of(generator: Generator, struct: Any, index: int, type_: Type) -> Any:
    """Return element ``index``, of ``type_``, of a struct value."""
    return struct.parts[index] if isinstance(struct, Parts) else Var(f"{generator.text(struct)}[{index}]", type_)


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


def check_compilable(type_: Type) -> None:
    """Raise `NotCompilable` for a type that Numba has no form for."""
    for part in preorder_types(type_):
        match part:
            case TensorType(dtype, shape):
                if shape is None:
                    raise NotCompilable(f"a {dtype.name} tensor of unknown rank has no compiled form, declare its rank")
                if is_text(part) or dtype.kind == "V" or dtype.name == "float16":
                    raise NotCompilable(f"{part} has no compiled form")
            case StructType() | SequenceType():
                pass
            case _:
                raise NotCompilable(f"{part} has no compiled form")
