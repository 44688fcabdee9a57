"""Who may write to a value in compiled code: what is shared, what is lent, what is a copy of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numba import types
from numba.extending import overload

from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.jit.array_kinds import as_lent, reach, read_only
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.records import record_of
from fedmpi.local.typed.coerce import accept, coerce, elements_in, named_in
from fedmpi.local.typed.flat_structs import FlatStruct, flat_struct, layout_of, vectors_of
from fedmpi.local.typed.tokens import TypeToken, token_of


def _interpreted(*_: Any) -> Any:
    raise NotImplementedError("for compiled code")


def fresh(value: Any, token: TypeToken) -> Any:
    """Return a value as the declared type, in arrays that nobody else has."""
    return _interpreted(value, token)


def lent(value: Any, token: TypeToken, others: tuple[Any, ...]) -> Any:
    """Return an argument as the declared type, in arrays that whoever gets it may write into.

    What can be written to is given away as it is; what is read-only is somebody else's, and is copied, and so is what
    shares memory with ``others``, the arguments beside it.
    """
    return _interpreted(value, token, others)


def shared(value: Any) -> Any:
    """Return a value with its arrays read-only, as arguments are: one compiled form of what is called serves both."""
    return _interpreted(value)


@overload(fresh, strict=False, jit_options=OPTIONS)
def _fresh(value: Any, token: Any) -> Any:
    match token.type:
        case StructType() if (layout := flat_layout(token.type)) is not None:
            scope: dict[str, Any] = {"coerce": coerce, "flat": flat_struct, "vectors_of": vectors_of}
            copies = ", ".join(f"vectors[{k}].copy()" for k in range(len(layout.formats)))
            if isinstance(value, FlatStruct) and not any(vector.mutable for vector in value.vectors):
                return generated_function("own", "value, token", "    return coerce(value, token)\n", scope)
            body = f"    vectors = vectors_of(coerce(value, token))\n    return flat(token, ({copies},))\n"
            return generated_function("own", "value, token", body, scope)
        case StructType():
            order = elements_in(value, token.type, token.label)
            scope = {"Record": record_of(token.type), "fresh": fresh}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"fresh(value[{k}], T{i})" for i, k in enumerate(order))
            return generated_function("own", "value, token", f"    return Record({parts})\n", scope)
        case TensorType(_, shape) if shape != () and getattr(value, "mutable", False):
            return generated_function(
                "own", "value, token", "    return coerce(value, token).copy()\n", {"coerce": coerce}
            )
    return generated_function("own", "value, token", "    return coerce(value, token)\n", {"coerce": coerce})


@overload(lent, strict=False, jit_options=OPTIONS)
def _lent(value: Any, token: Any, others: Any) -> Any:
    scope: dict[str, Any] = {"accept": accept, "reach": reach}
    lines = ["given = accept(value, token)"]
    own = list(_arrays("value", value, scope))
    every = [*own, *_arrays("others", others, scope)]
    lines += [f"start{i}, end{i} = reach({text})" for i, text in enumerate(every)]
    pairs = [(i, k) for i in range(len(own)) for k in range(i + 1, len(every))]
    lines.append(f"alone = {' and '.join(f'(end{i} <= start{k} or end{k} <= start{i})' for i, k in pairs) or True}")
    accepted = "".join(f"    {line}\n" for line in lines)
    accepted += f"    return {_lent_text('given', value, token.type, scope)}\n"
    return generated_function("lend", "value, token, others", accepted, scope)


def _arrays(text: str, value: Any, scope: dict[str, Any]) -> Iterator[str]:
    """Yield the texts of the arrays of a value that can be written to."""
    if isinstance(value, FlatStruct):
        take = named_in(scope, "vectors", vectors_of)
        for k, vector in enumerate(value.vectors):
            yield from _arrays(f"{take}({text})[{k}]", vector, scope)
    elif isinstance(value, types.BaseTuple):
        for i, part in enumerate(value):
            yield from _arrays(f"{text}[{i}]", part, scope)
    elif isinstance(value, types.Array) and value.mutable:
        yield text


def _lent_text(text: str, value: Any, type_: Type, scope: dict[str, Any]) -> str:
    """Return the expression for an accepted value with its arrays lent, as they are where they are ``alone``."""
    match type_:
        case StructType() if flat_layout(type_) is not None:
            mutable = [True] * len(layout_of(type_).formats)  # a new one is made of what is not flat yet
            if isinstance(value, FlatStruct):
                mutable = [vector.mutable for vector in value.vectors]
            take, token = named_in(scope, "vectors", vectors_of), named_in(scope, "T", token_of(type_))
            vectors = "".join(f"{_array(f'{take}({text})[{k}]', scope, copy=not m)}, " for k, m in enumerate(mutable))
            return f"{named_in(scope, 'flat', flat_struct)}({token}, ({vectors}))"
        case StructType():
            order = elements_in(value, type_, "")
            parts = [
                _lent_text(f"{text}[{i}]", list(value)[k], part, scope)
                for i, (k, part) in enumerate(zip(order, type_, strict=True))
            ]
            return f"{named_in(scope, 'Record', record_of(type_))}({''.join(part + ', ' for part in parts)})"
        case TensorType(_, shape) if shape != () and isinstance(value, types.Array):
            return _array(text, scope, copy=not value.mutable and value.layout == "C")
    return text


def _array(text: str, scope: dict[str, Any], *, copy: bool) -> str:
    lend = named_in(scope, "lent", as_lent)
    return f"{lend}({text}.copy())" if copy else f"({lend}({text}) if alone else {lend}({text}.copy()))"


@overload(shared, strict=False, jit_options=OPTIONS)
def _shared(value: Any) -> Any:
    scope: dict[str, Any] = {"read_only": read_only}
    return generated_function("share", "value", f"    return {_shared_text('value', value, scope)}\n", scope)


def _shared_text(text: str, value: Any, scope: dict[str, Any]) -> str:
    if isinstance(value, FlatStruct):
        vectors, token = named_in(scope, "vectors", vectors_of), named_in(scope, "T", token_of(value.struct))
        shown = "".join(f"read_only({vectors}({text})[{k}]), " for k in range(len(value.vectors)))
        return f"{named_in(scope, 'flat', flat_struct)}({token}, ({shown}))"
    if isinstance(value, types.Array) and value.mutable:
        return f"read_only({text})"
    if isinstance(value, types.BaseNamedTuple):
        parts = ", ".join(_shared_text(f"{text}[{i}]", part, scope) for i, part in enumerate(value))
        return f"{named_in(scope, 'Record', value.instance_class)}({parts})"
    return text
