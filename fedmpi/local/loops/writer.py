"""What a generated text is made of: names and lines, parameters, and values as text.

A value is a `Var`, a variable; or `Parts`, a struct whose elements are known one by one; or a `Mapped` sequence.  A
flat struct is a variable that holds its vectors (see `fedmpi.local.columns.flat`), so that the text is as long for five
hundred leaves as for two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.language.types.walking import preorder_types
from fedmpi.local.columns.column import is_text, slot_formats
from fedmpi.local.columns.flat import Place, flat_layout, layout_within
from fedmpi.local.columns.sparse import Csr
from fedmpi.local.computations.bodies import NotCompilable
from fedmpi.local.records import record_of
from fedmpi.local.typed.tokens import token_of


@dataclass(frozen=True)
class Var:
    """A value in the generated text."""

    text: str
    type: Type


class Given(Var):
    """The state of a loop as its body gets it; ``consumers`` are the lines of calls that could write into it."""

    def __init__(self, text: str, type_: Type) -> None:
        super().__init__(text, type_)
        object.__setattr__(self, "consumers", [])

    consumers: list[int]


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


# A line that makes new memory: what a local computation returns, arithmetic, or a struct of such vectors.
_MADE = re.compile(
    r"\w+ = (?:(?:K\d+|numbers_\w+|integers_\w+|negated|zeros|fresh)\(.*"
    r"|flat_struct\(\w+, \((?P<parts>[\w, ]*?),? ?\)\))$"
)
HELPER = object()  # stands for a compiled function of this package until the text is compiled
_DENSE: Iterator[str] = iter(())  # no forms: every array is stored as its type says


@dataclass
class Writer:
    """The text of one function that is being written: its parameters, its lines, the names that it uses."""

    head: list[str] = field(default_factory=list)  # before everything else: what parameters are made of
    lines: list[str] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    signature: list[tuple[Any, int, bool]] = field(default_factory=list)  # dtype, rank of each parameter, if written to
    dense: bool = False  # stored rows become arrays before user code sees them
    donations: list[tuple[int, str]] = field(default_factory=list)  # lines of calls, variables they could write into
    has_loop: bool = False  # over a sequence or a model's numbers, in the text or in a local computation that it calls
    remarks: dict[int, str] = field(default_factory=dict)  # on lines, for readers alone
    meanings: dict[str, str] = field(default_factory=dict)  # of names, for readers alone
    inner: list[str] = field(default_factory=list)  # the lines of a function that the text calls, see `set_apart`
    indent: int = 1
    count: int = 0

    # --- names and lines ---

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def indentation(self, number: int) -> int:
        """Return how deep a line stands."""
        line = self.lines[number]
        return (len(line) - len(line.lstrip(" "))) // 4

    def give_temporaries(self) -> None:
        """Let calls write into what was computed for them alone."""
        for call, name in self.donations:
            if self._is_for(name, call, self.indentation(call)):
                self.lines[call] = self.lines[call].replace(f"shared({name})", name)
        self.donations.clear()

    def _is_for(self, name: str, use: int, indent: int) -> bool:
        """Tell whether a variable is new memory that one line alone reads once, and as often as it is written."""
        uses = [i for i, line in enumerate(self.lines) if re.search(rf"\b{name}\b", line)]
        found = sum(len(re.findall(rf"\b{name}\b", self.lines[i])) for i in uses)
        if (
            len(uses) != 2
            or found != 2
            or uses[1] != use
            or any(self.indentation(i) < indent for i in range(uses[0], use))
        ):
            return False
        made = _MADE.match(self.lines[uses[0]].strip())
        if made is None or self.indentation(uses[0]) != indent:
            return False
        parts = made["parts"]
        return parts is None or all(self._is_for(part, uses[0], indent) for part in parts.split(", ") if part)

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

    def set_apart(self, since: int, name: str, more: Sequence[str], results: Sequence[str]) -> str:
        """Make a function of the lines that were written last, and return its call, which gives ``results``.

        It gets all parameters and variables ``more``.  Numba takes a ``try`` around a call alone in its stride.
        """
        self.give_temporaries()
        parameters = ", ".join(["progress", *self.parameters, *more])
        depth = "    " * (self.indent - 1)
        lines = [
            line.removeprefix(depth) + (f"  # {self.remarks[i]}" if i in self.remarks else "")
            for i, line in enumerate(self.lines[since:], since)
        ]
        self.remarks = {i: text for i, text in self.remarks.items() if i < since}
        del self.lines[since:]
        head = [f"@{self.helper('callee')}", f"def {name}({parameters}):"]
        self.inner = [*head, *self.head, *lines, f"    return {', '.join(results)}", ""]
        return f"{name}({parameters})"

    # --- parameters ---

    def parameter(self, type_: Type, forms: Iterator[str] = _DENSE) -> Var | Parts:
        """Add the leaves of a type to the parameters and return the value they form.

        ``forms`` says how the arrays of its sequences are stored (see `storage.form`); nothing means dense.
        """
        match type_:
            case TensorType(dtype, shape):
                check_compilable(type_)
                return Var(self.leaf(dtype, len(shape or ())), type_)
            case StructType() if (layout := flat_layout(type_)) is not None:
                check_compilable(type_)
                return self.flat(type_, [self.leaf(dtype, 1) for dtype, _ in layout.formats], self.head)
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
        for dtype, inner in slot_formats(type_):
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

    def flat(self, type_: Type, vectors: list[str], lines: list[str] | None = None) -> Var:
        """Bind the flat struct in these vectors, maybe before everything else."""
        text = f"{self.helper('flat_struct')}({self.token(type_)}, ({''.join(v + ', ' for v in vectors)}))"
        if lines is None:
            return self.bind(text, type_)
        name = self.name()
        lines.append(f"    {name} = {text}")
        return Var(name, type_)

    def token(self, type_: Type, label: str = "") -> str:
        return self.constant("T", token_of(type_, label))

    def helper(self, name: str) -> str:
        """Return the name of a compiled function of this package, which `linked` finds."""
        self.scope[name] = HELPER
        return name

    def invoke(self, function: Any, argument: Any, type_: Type) -> Any:
        """Apply a function value of any kind."""
        raise NotImplementedError

    # --- values as text ---

    def text(self, value: Any) -> str:
        match value:
            case Var(text):
                return text
            case Parts(_, type_) if flat_layout(type_) is not None:
                return self.packed(value).text
            case Parts(parts, type_):
                record = self.constant("R", record_of(type_))
                return f"{record}({', '.join(map(self.text, parts))})"
            case Mapped():
                raise NotCompilable("a mapped sequence used as a whole")
        raise NotCompilable("a function used as a value")

    def packed(self, struct: Parts) -> Var:
        """Write the elements of a flat struct into vectors."""
        layout = flat_layout(struct.type)
        assert layout is not None
        self.scope["empty"] = np.empty
        vectors = []
        for dtype, (size,) in layout.formats:
            vectors.append(self.name("v"))
            self.line(f"{vectors[-1]} = empty({size}, {self.constant('D', dtype.type)})")
        for text, group, start, count in self.pieces(struct, struct.type):
            if count is None:
                self.line(f"{vectors[group]}[{start}] = {text}")
            else:
                self.line(f"{self.helper('put_at')}({vectors[group]}, {self.number(start)}, {text})")
        return self.flat(struct.type, vectors)

    def pieces(self, value: Any, type_: StructType) -> Iterator[tuple[str, int, int, int | None]]:
        """Yield what a flat struct is made of: the text of numbers, their vector, place and number (None: a scalar).

        Of a struct whose elements are known it is those, of another the vectors as they are.
        """
        layout = flat_layout(type_) or layout_within(type_)
        if isinstance(value, Parts):
            for part, part_type, element in zip(layout.parts, type_, value.parts, strict=True):
                if isinstance(part, Place):
                    size = part.stop - part.start if part.shape else None
                    yield self.text(element), part.group, part.start, size
                    continue
                assert isinstance(part_type, StructType)
                for text, group, start, size in self.pieces(element, part_type):
                    outer, first, _ = part.ranges[group]
                    yield text, outer, first + start, size
        elif layout.flat:
            for k, (text, (_, (size,))) in enumerate(zip(self.vectors(value), layout.formats, strict=True)):
                yield text, k, 0, size
        else:  # a few scalars
            for text, place in zip(self.leaves(self.text(value), type_), layout.leaves, strict=True):
                yield text, place.group, place.start, None

    def vectors(self, value: Any) -> list[str]:
        """Return the texts of the vectors of a flat struct."""
        layout = flat_layout(value.type)
        assert layout is not None
        name = self.bind(f"{self.helper('vectors_of')}({self.text(value)})", value.type).text
        return [f"{name}[{k}]" for k in range(len(layout.formats))]

    def number(self, value: int) -> str:
        """Return the name of a whole number: of each literal Numba would compile a form of its own."""
        return self.constant("A", np.int64(value))

    def owned(self, value: Any, type_: Type) -> Any:
        """Bind the value in its declared type, in arrays of its own; of a struct whose elements are known each."""
        if isinstance(value, Parts) and isinstance(type_, StructType):
            parts = [self.owned(value.parts[i], part) for i, part in enumerate(type_)]
            return Parts(tuple(parts), type_)
        return self.whole(value, type_)

    def whole(self, value: Any, type_: Type) -> Var:
        """Bind the value in its declared type, in arrays of its own, as one variable."""
        return self.bind(f"{self.helper('coerce')}({self.text(value)}, {self.token(type_)})", type_)

    def leaves(self, text: str, type_: Type) -> list[str]:
        """Return the texts of a value's tensors."""
        match type_:
            case StructType():
                return [leaf for i, t in enumerate(type_) for leaf in self.leaves(f"{text}[{i}]", t)]
            case TensorType():
                check_compilable(type_)
                return [text]
        raise NotCompilable(f"a result of type {type_}")

    def slots(self, value: Any, type_: Type) -> list[str]:
        """Return the texts of what a row of a column holds for a value (see `columns.flat.slots_of`)."""
        match type_:
            case StructType() if flat_layout(type_) is not None:
                check_compilable(type_)
                return self.vectors(self.packed(value) if isinstance(value, Parts) else Var(self.text(value), type_))
            case StructType():
                return [slot for i, t in enumerate(type_) for slot in self.slots(part_of(self, value, i, t), t)]
            case TensorType():
                check_compilable(type_)
                return [self.text(value)]
        raise NotCompilable(f"a result of type {type_}")


def part_of(generator: Writer, struct: Any, index: int, type_: Type) -> Any:
    """Return element ``index``, of ``type_``, of a struct value."""
    return struct.parts[index] if isinstance(struct, Parts) else Var(f"{generator.text(struct)}[{index}]", type_)


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
