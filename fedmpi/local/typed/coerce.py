"""Typed edges of compiled code: what goes into a local computation and comes out of it has the declared type.

`accept` lets an argument in, `coerce` lets a result out (cast to the declared dtype of the same kind, never an alias of
a read-only argument).  Each is resolved while compiling from the type that a `TypeToken` carries; what does not fit is
an error of compilation, shapes are compared at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import models, overload, register_model, typeof_impl

from fedmpi.language.tracing.computation import Computation, PolymorphicComputation
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.language.types.walking import leaves_of
from fedmpi.local.columns.column import laid_out_alike
from fedmpi.local.columns.flat import Place, flat_layout
from fedmpi.local.jit.array_kinds import LentArray, as_owned
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.compile_errors import not_compiled
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.jit.kernel import jit
from fedmpi.local.numba_parts.intermediate import errors
from fedmpi.local.numba_parts.lowering import from_dtype, lower_constant
from fedmpi.local.records import element_names, record_of
from fedmpi.local.typed.flat_structs import (
    FlatStruct,
    flat_struct,
    follows_at,
    layout_of,
    names_within,
    vectors_of,
    whole_of,
)
from fedmpi.local.typed.numba_types import SequenceValue, retyped
from fedmpi.local.typed.stored_rows import StoredRows
from fedmpi.local.typed.tokens import TypeToken, token_of
from fedmpi.local.value_errors import IntegerDoesNotFit, ShapeError

MARK = "fedmpi: "  # begins the text of an error of ours inside Numba's


class _TokenType(types.Dummy):
    def __init__(self, token: TypeToken) -> None:
        self.type, self.label = token.type, token.label
        super().__init__(name=f"token({token.type}, {token.label})")


register_model(_TokenType)(models.OpaqueModel)


@typeof_impl.register(TypeToken)
def _typeof_token(value: TypeToken, context: Any) -> _TokenType:
    return _TokenType(value)


@lower_constant(_TokenType)
def _lower_token(context: Any, builder: Any, type_: Any, value: Any) -> Any:
    return context.get_dummy_value()


@typeof_impl.register(Computation)
@typeof_impl.register(PolymorphicComputation)
def _typeof_computation(value: Any, context: Any) -> Any:
    """A local computation called in the body of another is the call of its dispatcher."""
    body = getattr(getattr(value, "expression", None), "impl", None)
    if body is None or not body.compilable:
        raise errors.NumbaTypeError(f"{MARK}{not_compiled(value)}")
    return types.Dispatcher(body.dispatcher)


def _interpreted(*_: Any) -> Any:
    raise NotImplementedError("for compiled code")


def accept(value: Any, token: TypeToken) -> Any:
    """Return an argument as the declared type; arrays are passed on as they are."""
    return _interpreted(value, token)


def coerce(value: Any, token: TypeToken) -> Any:
    """Return a result as the declared type, in arrays of its own."""
    return _interpreted(value, token)


def kind_of(value: Any) -> str | None:
    """Return the kind of number that a Numba type is, "b", "i", "f" or "c"; None for everything else."""
    if isinstance(value, types.Boolean):
        return "b"
    for class_, kind in ((types.Integer, "i"), (types.Float, "f"), (types.Complex, "c")):
        if isinstance(value, class_):
            return kind
    return None


def _expect(condition: bool, type_: Type, found: Any, label: str) -> None:
    if not condition:
        raise errors.NumbaTypeError(f"{MARK}{label}: expected {type_}, found {_readable(found)}")


def _readable(value: Any) -> str:
    if isinstance(value, types.Array):
        return f"{value.dtype}[{','.join('?' * value.ndim)}]"
    if isinstance(value, types.Optional):
        return f"{_readable(value.type)} or None"
    if isinstance(value, types.NoneType):
        return "None"
    if isinstance(value, types.List | types.ListType):
        return "a list: write a tuple, or np.array([…])"
    if isinstance(value, types.DictType):
        return "a dictionary that is filled item by item: write all of it as one {…}"
    if isinstance(value, types.BaseTuple):
        names = element_names(getattr(value, "instance_class", ())) or [None] * len(value)
        parts = [f"{n}={_readable(v)}" if n else _readable(v) for n, v in zip(names, value, strict=True)]
        return f"<{','.join(parts)}>"
    return str(types.unliteral(value))


def _same_kind(dtype: np.dtype[Any], value: Any) -> bool:
    return kind_of(value) == ("i" if dtype.kind in "iu" else dtype.kind)


def limits_of(found: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest integer of a dtype, each None where no integer of a Numba type exceeds it.

    They are of the Numba type: it would compare uint64 and int64 as floats.
    """
    if dtype.kind not in "iu":
        return None, None
    own, limits = np.dtype(str(types.unliteral(found))).type, np.iinfo(dtype)
    low = own(limits.min) if limits.min > np.iinfo(own).min else None
    return low, own(limits.max) if limits.max < np.iinfo(own).max else None


@jit
def outside_of(array: Any, low: Any, high: Any) -> Any:
    """Return where an array has its first integer below ``low`` or above ``high``, each None for no limit; else -1."""
    flat = array.ravel()
    for i in range(flat.size):
        if low is not None and flat[i] < low:
            return i
        if high is not None and flat[i] > high:
            return i
    return -1


def cast_to(dtype: np.dtype[Any]) -> Any:
    """Return what makes a scalar one of a dtype."""
    return bool if dtype.kind == "b" else dtype.type


def _edge(value: Any, token: Any, own: bool) -> Callable[..., Any]:
    """Return the implementation of `coerce` (own) or `accept` for a value of a Numba type, in one function."""
    lines: list[str] = []
    scope: dict[str, Any] = {}
    text = _edge_text("value", value, token.type, token.label, own, lines, scope)
    return generated_function(
        "edge", "value, token", "".join(f"    {line}\n" for line in [*lines, f"return {text}"]), scope
    )


def _edge_text(
    text: str, value: Any, type_: Type, label: str, own: bool, lines: list[str], scope: dict[str, Any]
) -> str:
    """Return the expression for ``text``, of a Numba type, as ``type_``; ``lines`` come before, ``scope`` has names."""
    match type_:
        case TensorType(dtype, shape) if shape == ():
            scalar = value.dtype if isinstance(value, types.Array) and value.ndim == 0 else value
            _expect(_same_kind(dtype, scalar), type_, value, label)
            text += "[()]" * isinstance(value, types.Array)
            low, high = (named_in(scope, "limit", limit) for limit in limits_of(scalar, dtype))
            outside = [f"{text} < {n}" for n in (low,) if scope[n] is not None]
            outside += [f"{text} > {n}" for n in (high,) if scope[n] is not None]
            if outside:
                lines.append(f"if {' or '.join(outside)}:")
                lines.append(
                    f"    raise {named_in(scope, 'DoesNotFit', IntegerDoesNotFit)}({label!r}, '{type_}', {text})"
                )
            return f"{named_in(scope, 'cast', cast_to(dtype))}({text})"
        case TensorType():
            return _array_text(text, value, type_, label, own, lines, scope)
        case StructType():
            _expect(isinstance(value, types.BaseTuple) and len(value) == len(type_), type_, value, label)
            if flat_layout(type_) is not None:
                return _flat_text(text, value, type_, label, own, lines, scope)
            parts = []
            for i, (k, (name, part)) in enumerate(zip(elements_in(value, type_, label), type_.items(), strict=True)):
                own_label = f"{label}, {name or i}"
                parts.append(_edge_text(f"{text}[{k}]", list(value)[k], part, own_label, own, lines, scope))
            return f"{named_in(scope, 'Record', record_of(type_))}({', '.join(parts)})"
        case SequenceType(element):
            alike = isinstance(value, SequenceValue) and laid_out_alike(value.element, element)
            _expect(not own and alike, type_, value, label)
            return f"{named_in(scope, 'retyped', retyped)}({text}, {named_in(scope, 'T', token_of(element))})"
    raise errors.NumbaTypeError(f"{MARK}{type_} has no form in compiled code")


def _flat_text(
    text: str, value: Any, type_: StructType, label: str, own: bool, lines: list[str], scope: dict[str, Any]
) -> str:
    """Return the expression for ``text``, of a Numba type, as a flat struct of ``type_``."""
    layout, made, token = layout_of(type_), named_in(scope, "flat", flat_struct), named_in(scope, "T", token_of(type_))
    if isinstance(value, FlatStruct) and _is_laid_out(value, type_, label):
        take = named_in(scope, "vectors", vectors_of)
        texts = [_owned_text(f"{take}({text})[{k}]", v, own, scope) for k, v in enumerate(value.vectors)]
        return f"{made}({token}, ({', '.join(texts)},))"
    leaves: list[tuple[str, Any, str]] = []  # the expression, the Numba type and the label of each leaf
    _find_leaves(text, value, type_, label, leaves)
    names: list[str] = []
    for (leaf, leaf_value, leaf_label), tensor in zip(leaves, leaves_of(type_), strict=True):
        names.append(f"part{len(scope)}_{len(names)}")
        lines.append(f"{names[-1]} = {_edge_text(leaf, leaf_value, tensor, leaf_label, False, lines, scope)}")
    vectors: list[str] = []
    for group, (dtype, (size,)) in enumerate(layout.formats):
        members = [
            (name, place, leaf_value)
            for name, place, (_, leaf_value, _) in zip(names, layout.leaves, leaves, strict=True)
            if place.group == group
        ]
        vectors.append(f"vector{len(scope)}_{group}")
        lines += _vector_lines(vectors[-1], members, dtype, size, scope)
    return f"{made}({token}, ({', '.join(vectors)},))"


def _is_laid_out(value: FlatStruct, type_: StructType, label: str) -> bool:
    """Tell whether a flat struct has the numbers of a type, of its dtypes, in its order."""
    if value.struct is type_:
        return True
    wanted = layout_of(type_)
    if value.layout.formats != wanted.formats or value.layout.leaves != wanted.leaves:
        return False
    if elements_in(value, type_, label) != list(range(len(type_))):
        return False
    return all(names_within(own) == names_within(part) for own, part in zip(value.struct, type_, strict=True))


def _find_leaves(text: str, value: Any, type_: Type, label: str, found: list[tuple[str, Any, str]]) -> None:
    if not isinstance(type_, StructType):
        found.append((text, value, label))
        return
    _expect(isinstance(value, types.BaseTuple) and len(value) == len(type_), type_, value, label)
    values = list(value)
    for i, (k, (name, part)) in enumerate(zip(elements_in(value, type_, label), type_.items(), strict=True)):
        _find_leaves(f"{text}[{k}]", values[k], part, f"{label}, {name or i}", found)


def _vector_lines(
    vector: str, members: list[tuple[str, Place, Any]], dtype: np.dtype[Any], size: int, scope: dict[str, Any]
) -> list[str]:
    """Return the lines that write leaves into a vector.

    Where they stand in memory as they would there already, as those of an argument that the body has written into do,
    that memory is the vector.
    """
    put, empty = named_in(scope, "put", put_at), named_in(scope, "empty", np.empty)
    copied = [f"{vector} = {empty}({size}, {named_in(scope, 'dtype', dtype.type)})"]
    for name, place, _ in members:
        if place.shape:
            copied.append(f"{put}({vector}, {named_in(scope, 'start', np.int64(place.start))}, {name})")
        else:
            copied.append(f"{vector}[{place.start}] = {name}")
    as_they_are = all(
        place.shape and isinstance(value, types.Array) and value.mutable and value.layout == "C"
        and value.dtype == from_dtype(dtype)
        for _, place, value in members
    )  # fmt: skip
    if not as_they_are:
        return copied
    whole, follows = named_in(scope, "whole", whole_of), named_in(scope, "follows", follows_at)
    (first, _, _), *others = members
    tests = [f"{follows}({first}, {name}, {named_in(scope, 'start', np.int64(p.start))})" for name, p, _ in others]
    if not tests:
        return [f"{vector} = {first}.reshape(-1)"]
    return [
        f"if {' and '.join(tests)}:",
        f"    {vector} = {whole}({first}, {named_in(scope, 'size', np.int64(size))})",
        "else:",
        *(f"    {line}" for line in copied),
    ]


@jit
def put_at(vector: Any, start: Any, value: Any) -> None:
    """Write the numbers of an array into a vector from ``start`` on."""
    flat = value.reshape(-1)
    for i in range(flat.size):
        vector[start + i] = flat[i]


def named_in(scope: dict[str, Any], prefix: str, value: Any) -> str:
    """Return a name for a value in the scope of a function."""
    name = f"{prefix}{len(scope)}"
    scope[name] = value
    return name


def elements_in(value: Any, type_: StructType, label: str) -> list[int]:
    """Return for each element of the type its position in the value: by name where both have names."""
    wanted = [name for name, _ in type_.items()]
    found = element_names(getattr(value, "instance_class", ()))
    if found is None or None in found or None in wanted:
        return list(range(len(wanted)))
    _expect(set(found) == set(wanted), type_, value, label)
    return [list(found).index(name) for name in wanted]


def _array_text(
    text: str, value: Any, type_: TensorType, label: str, own: bool, lines: list[str], scope: dict[str, Any]
) -> str:
    shape = type_.shape
    assert shape is not None
    if isinstance(value, StoredRows):  # of the column of this type: it has its dtype and its width
        _expect(not own, type_, value, label)
        return text
    is_array = isinstance(value, types.Array) and value.ndim == len(shape)
    _expect(is_array and _same_kind(type_.dtype, value.dtype), type_, value, label)
    differs = " or ".join(f"{text}.shape[{axis}] != {size}" for axis, size in enumerate(shape) if size is not None)
    if differs:
        error = named_in(scope, "Shape", ShapeError)
        lines.append(f"if {differs}:")
        lines.append(f"    raise {error}({label!r}, '{type_}', '{type_.dtype.name}', {text}.shape)")
    if value.layout != "C":
        text = f"{named_in(scope, 'c', np.ascontiguousarray)}({text})" if value.layout == "F" else f"{text}.copy()"
    if value.dtype != from_dtype(type_.dtype):
        limits = limits_of(value.dtype, type_.dtype)
        if limits != (None, None):
            low, high = (named_in(scope, "limit", limit) for limit in limits)
            lines.append(f"found = {named_in(scope, 'outside', outside_of)}({text}, {low}, {high})")
            error = named_in(scope, "DoesNotFit", IntegerDoesNotFit)
            lines.append(f"if found >= 0:\n        raise {error}({label!r}, '{type_}', {text}.ravel()[found])")
        return f"{text}.astype({named_in(scope, 'dtype', type_.dtype.type)})"
    return _owned_text(text, value, own and value.layout == "C" and value.dtype == from_dtype(type_.dtype), scope)


def _owned_text(text: str, value: Any, own: bool, scope: dict[str, Any]) -> str:
    """Return the expression for an array as an ordinary one; with ``own`` one that nobody else has.

    Whatever is read-only may be an argument or a view of one.
    """
    if own and not value.mutable:
        return f"{text}.copy()"
    return f"{named_in(scope, 'owned', as_owned)}({text})" if isinstance(value, LentArray) else text


@overload(accept, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _accept(value: Any, token: Any) -> Any:
    return _edge(value, token, own=False)


@overload(coerce, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _coerce(value: Any, token: Any) -> Any:
    return _edge(value, token, own=True)
