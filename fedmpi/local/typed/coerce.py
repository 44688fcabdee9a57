"""Typed edges of compiled code: what goes into a local computation and comes out of it has the declared type.

`accept` lets an argument in, `coerce` lets a result out (cast to the declared dtype of the same kind, never an alias of
a read-only argument), `zeros` and `add` make the running sum of ``sequence_sum``.  Each is resolved while compiling
from the type that a `TypeToken` carries; what does not fit is an error of compilation, shapes are compared at run time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import models, overload, register_model, typeof_impl

from fedmpi.language.tracing.computation import Computation, PolymorphicComputation
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import laid_out_alike
from fedmpi.local.integers.operations import overflowing
from fedmpi.local.integers.raising import SYMBOLS, ResultDoesNotFit
from fedmpi.local.jit.callee import OPTIONS, callee
from fedmpi.local.jit.compile_errors import not_compiled
from fedmpi.local.jit.generated import code_of
from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.read_only import read_only
from fedmpi.local.numba_parts.intermediate import errors
from fedmpi.local.numba_parts.lowering import from_dtype, lower_constant
from fedmpi.local.records import element_names, record_of
from fedmpi.local.typed.numba_types import SequenceValue, retyped
from fedmpi.local.typed.stored_rows import StoredRows
from fedmpi.local.typed.tokens import TypeToken, token_of
from fedmpi.local.value_errors import IntegerDoesNotFit, ShapeError, UnequalShapesError

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


def fresh(value: Any, token: TypeToken) -> Any:
    """Return a value as the declared type, in arrays that nobody else has."""
    return _interpreted(value, token)


def shared(value: Any) -> Any:
    """Return a value with its arrays read-only, as arguments are: one compiled form of what is called serves both."""
    return _interpreted(value)


def zeros(token: TypeToken) -> Any:
    """Return the zero of a type of tensors with known shapes."""
    return _interpreted(token)


def add(left: Any, right: Any, token: TypeToken) -> Any:
    """Return the sum of two values in their dtype; an integer that does not fit raises `OverflowError`."""
    return _interpreted(left, right, token)


def expect_one_shape(left: Any, right: Any, op: str) -> None:
    """Raise `UnequalShapesError` unless two arrays have one shape; a scalar goes with every shape."""
    _interpreted(left, right, op)


def _function(name: str, parameters: str, body: str, scope: dict[str, Any]) -> Callable[..., Any]:
    scope["__name__"] = __name__  # Numba's cache asks for the module of every function
    exec(code_of(f"def {name}({parameters}):\n{body}", name), scope)
    made: Callable[..., Any] = scope[name]
    return made


def _kind_of(value: Any) -> str | None:
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
    return _kind_of(value) == ("i" if dtype.kind in "iu" else dtype.kind)


def _limits(found: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
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


def _cast(dtype: np.dtype[Any]) -> Any:
    return bool if dtype.kind == "b" else dtype.type


def _edge(value: Any, token: Any, own: bool) -> Callable[..., Any]:
    """Return the implementation of `coerce` (own) or `accept` for a value of a Numba type, in one function."""
    lines: list[str] = []
    scope: dict[str, Any] = {}
    text = _edge_text("value", value, token.type, token.label, own, lines, scope)
    return _function("edge", "value, token", "".join(f"    {line}\n" for line in [*lines, f"return {text}"]), scope)


def _edge_text(
    text: str, value: Any, type_: Type, label: str, own: bool, lines: list[str], scope: dict[str, Any]
) -> str:
    """Return the expression for ``text``, of a Numba type, as ``type_``; ``lines`` come before, ``scope`` has names."""
    match type_:
        case TensorType(dtype, shape) if shape == ():
            scalar = value.dtype if isinstance(value, types.Array) and value.ndim == 0 else value
            _expect(_same_kind(dtype, scalar), type_, value, label)
            text += "[()]" * isinstance(value, types.Array)
            low, high = (_named(scope, "limit", limit) for limit in _limits(scalar, dtype))
            outside = [f"{text} < {n}" for n in (low,) if scope[n] is not None]
            outside += [f"{text} > {n}" for n in (high,) if scope[n] is not None]
            if outside:
                lines.append(f"if {' or '.join(outside)}:")
                lines.append(
                    f"    raise {_named(scope, 'DoesNotFit', IntegerDoesNotFit)}({label!r}, '{type_}', {text})"
                )
            return f"{_named(scope, 'cast', _cast(dtype))}({text})"
        case TensorType():
            return _array_text(text, value, type_, label, own, lines, scope)
        case StructType():
            _expect(isinstance(value, types.BaseTuple) and len(value) == len(type_), type_, value, label)
            parts = []
            for i, (k, (name, part)) in enumerate(zip(_order(value, type_, label), type_.items(), strict=True)):
                own_label = f"{label}, {name or i}"
                parts.append(_edge_text(f"{text}[{k}]", list(value)[k], part, own_label, own, lines, scope))
            return f"{_named(scope, 'Record', record_of(type_))}({', '.join(parts)})"
        case SequenceType(element):
            alike = isinstance(value, SequenceValue) and laid_out_alike(value.element, element)
            _expect(not own and alike, type_, value, label)
            return f"{_named(scope, 'retyped', retyped)}({text}, {_named(scope, 'T', token_of(element))})"
    raise errors.NumbaTypeError(f"{MARK}{type_} has no form in compiled code")


def _named(scope: dict[str, Any], prefix: str, value: Any) -> str:
    """Return a name for a value in the scope of a function."""
    name = f"{prefix}{len(scope)}"
    scope[name] = value
    return name


def _order(value: Any, type_: StructType, label: str) -> list[int]:
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
        error = _named(scope, "Shape", ShapeError)
        lines.append(f"if {differs}:")
        lines.append(f"    raise {error}({label!r}, '{type_}', '{type_.dtype.name}', {text}.shape)")
    if value.layout != "C":
        text = f"{_named(scope, 'ordered', np.ascontiguousarray)}({text})" if value.layout == "F" else f"{text}.copy()"
    if value.dtype != from_dtype(type_.dtype):
        limits = _limits(value.dtype, type_.dtype)
        if limits != (None, None):
            low, high = (_named(scope, "limit", limit) for limit in limits)
            lines.append(f"found = {_named(scope, 'outside', outside_of)}({text}, {low}, {high})")
            error = _named(scope, "DoesNotFit", IntegerDoesNotFit)
            lines.append(f"if found >= 0:\n        raise {error}({label!r}, '{type_}', {text}.ravel()[found])")
        return f"{text}.astype({_named(scope, 'dtype', type_.dtype.type)})"
    if own and not value.mutable and value.layout == "C":
        return f"{text}.copy()"  # whatever is read-only may be an argument or a view of one
    return text


@overload(accept, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _accept(value: Any, token: Any) -> Any:
    return _edge(value, token, own=False)


@overload(coerce, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _coerce(value: Any, token: Any) -> Any:
    return _edge(value, token, own=True)


@overload(fresh, strict=False, jit_options=OPTIONS)
def _fresh(value: Any, token: Any) -> Any:
    match token.type:
        case StructType():
            order = _order(value, token.type, token.label)
            scope: dict[str, Any] = {"Record": record_of(token.type), "fresh": fresh}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"fresh(value[{k}], T{i})" for i, k in enumerate(order))
            return _function("own", "value, token", f"    return Record({parts})\n", scope)
        case TensorType(_, shape) if shape != () and getattr(value, "mutable", False):
            return _function("own", "value, token", "    return coerce(value, token).copy()\n", {"coerce": coerce})
    return _function("own", "value, token", "    return coerce(value, token)\n", {"coerce": coerce})


@overload(shared, strict=False, jit_options=OPTIONS)
def _shared(value: Any) -> Any:
    scope: dict[str, Any] = {"read_only": read_only}
    return _function("share", "value", f"    return {_shared_text('value', value, scope)}\n", scope)


def _shared_text(text: str, value: Any, scope: dict[str, Any]) -> str:
    if isinstance(value, types.Array) and value.mutable:
        return f"read_only({text})"
    if isinstance(value, types.BaseNamedTuple):
        parts = ", ".join(_shared_text(f"{text}[{i}]", part, scope) for i, part in enumerate(value))
        return f"{_named(scope, 'Record', value.instance_class)}({parts})"
    return text


@overload(expect_one_shape, strict=False, jit_options=OPTIONS)
def _expect_one_shape(left: Any, right: Any, op: Any) -> Any:
    arrays = isinstance(left, types.Array) and isinstance(right, types.Array) and left.ndim and right.ndim
    body = "    if left.shape != right.shape:\n        raise Unequal(op, left.shape, right.shape)\n"
    return _function("expect", "left, right, op", body if arrays else "    pass\n", {"Unequal": UnequalShapesError})


@overload(zeros, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _zeros(token: Any) -> Any:
    match token.type:
        case TensorType(dtype, shape):
            text = "cast(0)" if shape == () else f"empty({shape}, dtype)"
            fill = "" if shape == () else "    value[...] = 0\n"
            scope = {"cast": _cast(dtype), "empty": np.empty, "dtype": dtype.type}
            return _function("zero", "token", f"    value = {text}\n{fill}    return value\n", scope)
        case StructType():
            scope = {"Record": record_of(token.type), "zeros": zeros}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"zeros(T{i})" for i in range(len(token.type)))
            return _function("zero", "token", f"    return Record({parts})\n", scope)
    return None


@overload(add, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _add(left: Any, right: Any, token: Any) -> Any:
    match token.type:
        case TensorType(dtype, shape):
            scope: dict[str, Any] = {"cast": _cast(dtype), "empty": np.empty, "dtype": dtype.type}
            scope["plus"] = _plus(dtype)
            if shape == ():
                return _function("sum_", "left, right, token", "    return plus(left, right)\n", scope)
            body = (
                "    total = empty(left.shape, dtype)\n"
                "    out, a, b = total.ravel(), left.ravel(), right.ravel()\n"
                "    for i in range(out.size):\n        out[i] = plus(a[i], b[i])\n    return total\n"
            )
            return _function("sum_", "left, right, token", body, scope)
        case StructType():
            scope = {"Record": record_of(token.type), "add": add}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"add(left[{i}], right[{i}], T{i})" for i in range(len(token.type)))
            return _function("sum_", "left, right, token", f"    return Record({parts})\n", scope)
    return None


@functools.cache
def _plus(dtype: np.dtype[Any]) -> Any:
    """Return the compiled addition of two scalars of a dtype."""
    cast = _cast(dtype)
    if dtype.kind not in "iu":
        return callee(_function("plus", "a, b", "    return cast(a + b)\n", {"cast": cast}))
    body = (
        f"    s, wrong = both(a, b)\n    if wrong:\n        raise OverflowError('the sum does not fit {dtype.name}')\n"
    )
    return callee(_function("plus", "a, b", f"{body}    return s\n", {"both": overflowing(dtype.name, "add")}))


# --- arithmetic of traced integers: `integer_arithmetic` has the same in NumPy ----------------------------------------


def _integers(op: str, name: str) -> Any:
    def computed(left: Any, right: Any, token: TypeToken) -> Any:
        """Return the sum, difference or product of integers of the token's dtype; beyond it is an `OverflowError`."""
        return _interpreted(left, right, token)

    @overload(computed, strict=False, jit_options=OPTIONS)
    def _computed(left: Any, right: Any, token: Any) -> Any:
        dtype: np.dtype[Any] = token.type.dtype
        scope: dict[str, Any] = {"both": overflowing(dtype.name, name), "DoesNotFit": ResultDoesNotFit}
        scope |= {"empty": np.empty, "dtype": dtype.type}
        failing = f"raise DoesNotFit({op!r}, a, b, {dtype.name!r}, {token.label!r})\n"
        arrays = [isinstance(side, types.Array) and side.ndim > 0 for side in (left, right)]
        if not any(arrays):
            body = f"    a, b = left, right\n    s, wrong = both(a, b)\n    if wrong:\n        {failing}    return s\n"
            return _function("computed", "left, right, token", body, scope)
        shaped = "left" if arrays[0] else "right"
        a, b = (f"{side}{'.ravel()' * is_array}" for side, is_array in zip(("left", "right"), arrays, strict=True))
        items = ", ".join(f"{n}{'[i]' * is_array}" for n, is_array in zip(("xs", "ys"), arrays, strict=True))
        body = (
            f"    total = empty({shaped}.shape, dtype)\n    out, xs, ys = total.ravel(), {a}, {b}\n"
            f"    for i in range(out.size):\n        a, b = {items}\n        s, wrong = both(a, b)\n"
            f"        if wrong:\n            {failing}        out[i] = s\n    return total\n"
        )
        return _function("computed", "left, right, token", body, scope)

    return computed


integers_add, integers_subtract, integers_multiply = map(_integers, SYMBOLS, ("add", "sub", "mul"))
