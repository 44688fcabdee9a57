"""What is done with a model as a whole, as text: one loop over each vector, however many leaves there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fedmpi.language.operators.arithmetic import one_dtype
from fedmpi.language.tree.expressions import Apply
from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.computations.bodies import NotCompilable
from fedmpi.local.integers.raising import SYMBOLS
from fedmpi.local.loops.writer import Parts, Var, Writer, check_compilable, part_of


def check_compiled(op: str, tensor: TensorType) -> None:
    """Refuse what compiled code would not do as NumPy does."""
    if op in ("multiply", "divide") and tensor.dtype.kind == "c":
        raise NotCompilable("NumPy and Numba round products and quotients of complex numbers differently")


def pieces(g: Writer, value: Any, type_: Type) -> Iterator[tuple[str, TensorType]]:
    """Yield the texts of a model's numbers: vectors, and scalars outside of flat structs."""
    check_compilable(type_)
    layout = flat_layout(type_)
    if layout is not None:
        for text, format_ in zip(g.vectors(value), layout.formats, strict=True):
            yield text, TensorType(*format_)
    elif isinstance(type_, StructType):
        for i, part in enumerate(type_):
            yield from pieces(g, part_of(g, value, i, part), part)
    else:
        assert isinstance(type_, TensorType)
        if type_.shape == ():
            yield g.text(value), type_
        else:
            size = math.prod(d or 0 for d in type_.shape or ())
            yield f"{g.helper('shared')}({g.text(value)}).reshape(-1)", TensorType(type_.dtype, [size])


def of_pieces(g: Writer, type_: Type, texts: Iterator[str]) -> Any:
    """Return the model whose numbers come next, as `pieces` yields them."""
    layout = flat_layout(type_)
    if layout is not None:
        return g.flat(type_, [next(texts) for _ in layout.formats])
    if isinstance(type_, StructType):
        return Parts(tuple(of_pieces(g, part, texts) for part in type_), type_)
    assert isinstance(type_, TensorType)
    text = next(texts)
    return Var(text if type_.shape == () else g.bind(f"{text}.reshape({type_.shape})", type_).text, type_)


def vector(g: Writer, value: Any, type_: Type) -> str:
    """Return the text of all numbers of a model, whose leaves have one dtype, as one vector."""
    found = list(pieces(g, value, type_))
    if len(found) == 1 and found[0][1].shape != ():
        return found[0][0]
    g.scope["empty"] = np.empty
    name = g.name("v")
    g.line(f"{name} = empty({len(found)}, {g.constant('D', found[0][1].dtype.type)})")
    for i, (text, _) in enumerate(found):  # scalars: else it would be flat
        g.line(f"{name}[{i}] = {text}")
    return name


def arithmetic(g: Writer, op: str, left: Any, right: Any, type_: Type, where: str) -> Any:
    """Write arithmetic of flat structs of one type, or of one and a scalar."""
    layout = flat_layout(type_)
    assert layout is not None
    check_compilable(type_)
    sides = [g.vectors(side) if isinstance(side.type, StructType) else [g.text(side)] * len(layout.formats)
             for side in (left, right)]  # fmt: skip
    made = []
    for one, other, (dtype, size) in zip(*sides, layout.formats, strict=True):
        tensor = TensorType(dtype, size)
        check_compiled(op, tensor)
        if op in SYMBOLS and dtype.kind in "iu":
            made.append(g.bind(f"{g.helper(f'integers_{op}')}({one}, {other}, {g.token(tensor, where)})", tensor).text)
        else:
            made.append(g.bind(f"{g.helper(f'numbers_{op}')}({one}, {other})", tensor).text)
    return g.flat(type_, made)


def _negative(g: Writer, expr: Apply, args: list[Any]) -> Any:
    type_ = expr.type
    if isinstance(type_, StructType) and flat_layout(type_) is None:
        parts = (
            _negative(g, Apply(expr.op, (), t, expr.where), [part_of(g, args[0], i, t)]) for i, t in enumerate(type_)
        )
        return Parts(tuple(parts), type_)
    made = []
    for text, tensor in [(g.text(args[0]), type_)] if isinstance(type_, TensorType) else pieces(g, args[0], type_):
        assert isinstance(tensor, TensorType)
        if tensor.dtype.kind in "iu":
            zero = g.constant("L", tensor.dtype.type(0))
            negated = f"{g.helper('integers_subtract')}({zero}, {text}, {g.token(tensor, expr.where)})"
        else:
            negated = f"{g.helper('negated')}({text})"
        made.append(g.bind(negated, tensor).text)
    return Var(made[0], type_) if isinstance(type_, TensorType) else of_pieces(g, type_, iter(made))


def _dot(g: Writer, expr: Apply, args: list[Any]) -> Any:
    one, other = (vector(g, value, arg.type) for value, arg in zip(args, expr.args, strict=True))
    return g.whole(Var(f"{g.helper('vector_dot')}({one}, {other})", expr.type), expr.type)


def _norm(g: Writer, expr: Apply, args: list[Any]) -> Any:
    return g.whole(Var(f"{g.helper('vector_norm')}({vector(g, args[0], expr.args[0].type)})", expr.type), expr.type)


def _zeros_like(g: Writer, expr: Apply, _: list[Any]) -> Any:
    check_compilable(expr.type)
    return g.bind(f"{g.helper('zeros')}({g.token(expr.type)})", expr.type)


def _flatten(g: Writer, expr: Apply, args: list[Any]) -> Any:
    return g.bind(vector(g, args[0], expr.args[0].type), expr.type)


def _unflatten(g: Writer, expr: Apply, args: list[Any]) -> Any:
    text, type_ = g.text(args[0]), expr.type
    if flat_layout(type_) is not None or (isinstance(type_, TensorType) and type_.shape != ()):
        return of_pieces(g, type_, iter([text]))
    count = 1 if isinstance(type_, TensorType) else len(list(pieces(g, args[1], type_)))
    return of_pieces(g, type_, iter([f"{text}[{i}]" for i in range(count)]))


def _cast(g: Writer, expr: Apply, args: list[Any]) -> Any:
    return _cast_part(g, args[0], expr.args[0].type, expr.type)


def _cast_part(g: Writer, value: Any, found: Type, wanted: Type) -> Any:
    check_compilable(found)
    check_compilable(wanted)
    layout, target = flat_layout(found), flat_layout(wanted)
    if layout is not None and target is not None and len(layout.formats) == 1:
        ((dtype, size),) = target.formats
        token = g.token(TensorType(dtype, size), "fm.model.cast")
        return g.flat(wanted, [g.bind(f"{g.helper('cast_tensor')}({g.vectors(value)[0]}, {token})", wanted).text])
    if isinstance(wanted, StructType):
        assert isinstance(found, StructType)
        parts = (_cast_part(g, part_of(g, value, i, t), t, wanted[i]) for i, t in enumerate(found))
        return Parts(tuple(parts), wanted)
    return g.bind(f"{g.helper('cast_tensor')}({g.text(value)}, {g.token(wanted, 'fm.model.cast')})", wanted)


def _map(g: Writer, expr: Apply, args: list[Any]) -> Any:
    function, models = args
    types = expr.args[1].type
    assert isinstance(types, StructType)
    g.has_loop = True
    g.scope["empty"] = np.empty
    given = [list(pieces(g, part_of(g, models, i, t), t)) for i, t in enumerate(types)]
    result = TensorType(one_dtype(expr.type, "the result"))
    made = []
    for texts in zip(*given, strict=True):
        numbers = [Var(text, TensorType(tensor.dtype)) for text, tensor in texts]
        if texts[0][1].shape == ():
            made.append(g.bind(g.text(_applied(g, function, numbers, result)), result).text)
            continue
        out, i = g.name("v"), g.name("i")
        names = [g.bind(number.text, number.type).text for number in numbers]
        g.line(f"{out} = empty({names[0]}.size, {g.constant('D', result.dtype.type)})")
        g.line(f"for {i} in range({names[0]}.size):")
        g.indent += 1
        numbers = [Var(f"{name}[{i}]", number.type) for name, number in zip(names, numbers, strict=True)]
        g.line(f"{out}[{i}] = {g.text(_applied(g, function, numbers, result))}")
        g.indent -= 1
        made.append(out)
    return of_pieces(g, expr.type, iter(made))


def _applied(g: Writer, function: Any, numbers: list[Var], result: Type) -> Any:
    if len(numbers) == 1:
        return g.invoke(function, numbers[0], result)
    return g.invoke(function, Parts(tuple(numbers), StructType([number.type for number in numbers])), result)


WRITERS: dict[str, Callable[[Writer, Apply, list[Any]], Any]] = {
    "negative": _negative,
    "model_dot": _dot,
    "model_norm": _norm,
    "model_zeros_like": _zeros_like,
    "model_map": _map,
    "model_flatten": _flatten,
    "model_unflatten": _unflatten,
    "model_cast": _cast,
}
