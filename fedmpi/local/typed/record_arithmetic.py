"""Arithmetic of records in bodies, as Numba compiles it.

Of a flat struct it is one loop over a vector.  Of another record, such as one that the body has just made of arrays, it
goes leaf by leaf.  `local.whole` has the same in NumPy, which bodies that run as Python call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.language.types import StructType, TensorType
from fedmpi.local.integers.raising import SYMBOLS
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.numba_parts.intermediate import errors
from fedmpi.local.records import element_names, record_class
from fedmpi.local.typed import elementwise, model_forms
from fedmpi.local.typed.coerce import MARK, cast_to, kind_of
from fedmpi.local.typed.flat_structs import FlatStruct, flat_struct, same_places, vectors_of
from fedmpi.local.typed.tokens import token_of
from fedmpi.local.value_errors import UnequalShapesError

KINDS = "bifc"


class Implementation:
    """The text of one implementation, for arguments of some Numba types."""

    def __init__(self, parameters: str) -> None:
        self.parameters = parameters
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {}
        self.count = 0

    def named(self, prefix: str, value: Any) -> str:
        for name, known in self.scope.items():
            if known is value:
                return name
        name = f"{prefix}{len(self.scope)}_"
        self.scope[name] = value
        return name

    def bind(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"v{self.count} = {text}")
        return f"v{self.count}"

    def made(self, result: str) -> Callable[..., Any]:
        body = "".join(f"    {line}\n" for line in [*self.lines, f"return {result}"])
        return generated_function("implementation", self.parameters, body, self.scope)

    def vectors(self, text: str, value: FlatStruct) -> list[str]:
        """Return the texts of a flat struct's vectors."""
        name = self.bind(f"{self.named('vectors', vectors_of)}({text})")
        return [f"{name}[{k}]" for k in range(len(value.vectors))]

    def flat(self, struct: StructType, vectors: list[str]) -> str:
        token = self.named("T", token_of(struct))
        return f"{self.named('flat', flat_struct)}({token}, ({''.join(v + ', ' for v in vectors)}))"

    def record(self, value: Any, parts: list[str]) -> str:
        """Return a record with a struct's names and other elements."""
        names = element_names(getattr(value, "instance_class", ())) or (None,) * len(parts)
        return f"{self.named('Record', record_class(tuple(names)))}({''.join(p + ', ' for p in parts)})"


def fail(text: str) -> Any:
    """Refuse a body in words."""
    raise errors.NumbaTypeError(f"{MARK}{text}")


def is_struct(value: Any) -> bool:
    """Tell whether a Numba type is a record or another tuple."""
    return isinstance(value, types.BaseTuple)


def _is_ours(value: Any) -> bool:
    return isinstance(value, types.BaseNamedTuple) and hasattr(value.instance_class, "fedmpi_names")


def dtype_of(leaf: Any) -> np.dtype[Any]:
    """Return the dtype of a leaf, an array or a scalar."""
    number = leaf.dtype if isinstance(leaf, types.Array) else types.unliteral(leaf)
    if kind_of(number) is None:
        fail(f"a model is made of arrays of numbers, found {leaf}")
    return np.dtype("bool" if isinstance(number, types.Boolean) else str(number))


def leaves_of_model(text: str, value: Any) -> list[tuple[str, Any]]:
    """Return texts and Numba types of the leaves of a model."""
    if is_struct(value):
        return [leaf for i, part in enumerate(value) for leaf in leaves_of_model(f"{text}[{i}]", part)]
    dtype_of(value)
    return [(text, value)]


def dtype_of_all(name: str, value: Any) -> np.dtype[Any]:
    """Return the dtype that all leaves of a model have; refuse a model where they differ."""
    found = dict.fromkeys(dtype_of(leaf) for _, leaf in leaves_of_model("", value))
    if len(found) != 1:
        names = ", ".join(dtype.name for dtype in found) or "no array"
        fail(f"fm.model.{name}: the leaves must have one dtype, found {names}")
    return next(iter(found))


def order_of(op: str, left: Any, right: Any) -> list[int]:
    """Return which element of the right struct goes with each of the left."""
    own, other = (element_names(getattr(side, "instance_class", ())) for side in (left, right))
    if len(left) != len(right) or (own and other and None not in (*own, *other) and set(own) != set(other)):
        fail(f"{op}: both sides must have the same elements, found {own or len(left)} and {other or len(right)}")
    if not own or not other or None in (*own, *other):
        return list(range(len(left)))
    return [other.index(name) for name in own]


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _arithmetic(text: Implementation, op: str, left: tuple[str, Any], right: tuple[str, Any], leads: int) -> str:
    """Write arithmetic of two models, or of one and a scalar; return the text of its result.

    ``leads`` is the side, 0 or 1, in whose dtypes it is.
    """
    one, other = left[1], right[1]
    flats = [side for side in (one, other) if isinstance(side, FlatStruct)]
    if len(flats) == 2 and same_places(one, other) and one.layout.formats == other.layout.formats:
        pairs = zip(text.vectors(*left), text.vectors(*right), one.vectors, other.vectors, strict=True)
        vectors = [text.bind(_leaf(text, op, (a, x), (b, y), x.dtype)) for a, b, x, y in pairs]
        return text.bind(text.flat(one.struct, vectors))
    if len(flats) == 1 and not (is_struct(one) and is_struct(other)):
        (flat,) = flats
        vectors = []
        for vector, type_ in zip(text.vectors(*(left if flat is one else right)), flat.vectors, strict=True):
            a, b = ((vector, type_) if side[1] is flat else side for side in (left, right))
            vectors.append(text.bind(_leaf(text, op, a, b, type_.dtype)))
        return text.bind(text.flat(flat.struct, vectors))
    if not is_struct(one) and not is_struct(other):
        arrays = [side for side in (one, other) if isinstance(side, types.Array)] or [(one, other)[leads]]
        # Numba computes integers wider than they are declared.
        number = min((getattr(side, "dtype", side) for side in arrays), key=lambda n: dtype_of(n).itemsize)
        return text.bind(_leaf(text, op, left, right, number))
    struct = one if is_struct(one) else other
    order = order_of(op, one, other) if is_struct(one) and is_struct(other) else list(range(len(struct)))
    parts = []
    for i, k in enumerate(order):
        a = (f"{left[0]}[{i}]", list(one)[i]) if is_struct(one) else left
        b = (f"{right[0]}[{k}]", list(other)[k]) if is_struct(other) else right
        parts.append(_arithmetic(text, op, a, b, leads))
    return text.bind(text.record(struct, parts))


def _leaf(text: Implementation, op: str, left: tuple[str, Any], right: tuple[str, Any], number: Any) -> str:
    """Return arithmetic of two leaves in the dtype of the model's, which a scalar beside it takes."""
    dtype = dtype_of(number)
    sides = []
    for side, value in (left, right):
        found = dtype_of(value)
        if isinstance(value, types.Array) and found != dtype and not {found.kind, dtype.kind} <= {"i", "u"}:
            fail(f"{op}: both sides must have one dtype, found {dtype.name} and {found.name}")
        if KINDS.find(found.kind.replace("u", "i")) > KINDS.find(dtype.kind.replace("u", "i")):
            fail(f"{op}: a {found.name} beside a model of {dtype.name} would change its kind")
        token = text.named("T", token_of(TensorType(dtype), op))
        sides.append(side if found == dtype else f"{text.named('cast', model_forms.cast_tensor)}({side}, {token})")
    arrays = [isinstance(value, types.Array) and value.ndim > 0 for _, value in (left, right)]
    if dtype.kind == "b" or (op == "divide" and dtype.kind in "iu"):
        fail(f"{op}: a model of {dtype.name} has no such arithmetic")
    shape = ""
    for i, is_array in enumerate(arrays):
        if is_array:
            sides[i] = text.bind(sides[i])
            shape = shape or f"{sides[i]}.shape"
            if (left, right)[i][1].ndim != 1:
                sides[i] = text.bind(f"{sides[i]}.ravel()")
    if all(arrays):
        unequal = text.named("Unequal", UnequalShapesError)
        text.lines += [f"if {left[0]}.shape != {right[0]}.shape:"]
        text.lines += [f"    raise {unequal}({op!r}, {left[0]}.shape, {right[0]}.shape)"]
    if op in SYMBOLS and dtype.kind in "iu":
        token = text.named("T", token_of(TensorType(dtype), ""))
        made = f"{text.named('computed', getattr(elementwise, f'integers_{op}'))}({', '.join(sides)}, {token})"
    elif any(arrays):
        made = f"{text.named('computed', getattr(model_forms, f'numbers_{op}'))}({', '.join(sides)})"
    else:
        made = f"{text.named('as', cast_to(dtype))}({sides[0]} {model_forms.ARITHMETIC[op]} {sides[1]})"
    return f"{made}.reshape({shape})" if any(arrays) else made


def _binary(name: str, symbol: Any) -> None:
    @overload(symbol, strict=False, jit_options=OPTIONS)
    def _of(left: Any, right: Any) -> Any:
        if not _is_ours(left) and not _is_ours(right):
            return None
        if not all(is_struct(side) or kind_of(side) is not None for side in (left, right)):
            return None
        text = Implementation("left, right")
        return text.made(_arithmetic(text, name, ("left", left), ("right", right), int(not is_struct(left))))


for _name, *_symbols in (
    ("add", operator.add, operator.iadd), ("subtract", operator.sub, operator.isub),
    ("multiply", operator.mul, operator.imul), ("divide", operator.truediv, operator.itruediv),
):  # fmt: skip
    for _symbol in _symbols:  # a struct is a value: += binds the name to a new one, as in Python
        _binary(_name, _symbol)


@overload(operator.neg, strict=False, jit_options=OPTIONS)
def _neg(model: Any) -> Any:
    if not _is_ours(model):
        return None
    text = Implementation("model")
    return text.made(each_piece(text, "model", model, _negated))


def _negated(text: Implementation, leaf: str, value: Any) -> str:
    dtype = dtype_of(value)
    if dtype.kind == "b":
        fail("negative: a model of bool has none")
    if dtype.kind in "iu":
        token, zero = text.named("T", token_of(TensorType(dtype), "")), text.named("zero", dtype.type(0))
        return f"{text.named('computed', elementwise.integers_subtract)}({zero}, {leaf}, {token})"
    return f"{text.named('negated', model_forms.negated)}({leaf})"


def each_piece(text: Implementation, model: str, value: Any, leaf: Callable[[Implementation, str, Any], str]) -> str:
    """Write what is done with each vector or leaf of a model; return the text of the model of the results."""
    if isinstance(value, FlatStruct):
        vectors = zip(text.vectors(model, value), value.vectors, strict=True)
        return text.bind(text.flat(value.struct, [text.bind(leaf(text, vector, type_)) for vector, type_ in vectors]))
    if is_struct(value):
        parts = [each_piece(text, f"{model}[{i}]", part, leaf) for i, part in enumerate(value)]
        return text.bind(text.record(value, parts))
    return text.bind(leaf(text, model, value))
