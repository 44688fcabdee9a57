"""The texts of types: one line, one line for each element, and as Python."""

from __future__ import annotations

import functools
import textwrap

from fedmpi.language.types.classes import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    Type,
)


@functools.cache
def compact(type_: Type) -> str:
    """Return the type in the notation of the language, on one line."""
    return _text(type_, indent=False)


def formatted(type_: Type) -> str:
    """Return the type in the notation of the language, each element of a struct on its own line."""
    return _text(type_, indent=True)


def _text(type_: Type, indent: bool) -> str:
    match type_:
        case TensorType(dtype, None):
            return f"'{dtype.name}'(shape=None)"
        case TensorType(dtype, ()):
            return str(dtype.name)
        case TensorType(dtype, tuple() as shape):
            return f"{dtype.name}[{','.join('?' if size is None else str(size) for size in shape)}]"
        case StructType():
            texts = [(f"{name}=" if name is not None else "") + _text(e, indent) for name, e in type_.items()]
            if indent and texts:
                return "<\n" + textwrap.indent(",\n".join(texts), "  ") + "\n>"
            return f"<{','.join(texts)}>"
        case SequenceType(element):
            return f"{_text(element, indent)}*"
        case FunctionType(parameter, result):
            return f"({'' if parameter is None else _text(parameter, indent)} -> {_text(result, indent)})"
        case FederatedType(member, placement, all_equal):
            text = _text(member, indent)
            return f"{text}@{placement}" if all_equal else f"{{{text}}}@{placement}"
        case AbstractType(label):
            return str(label)
        case PlacementType():
            return "placement"
    raise TypeError(f"no type of the language: {type(type_).__name__}")


def constructor(type_: Type) -> str:
    """Return the Python expression that makes the type (a struct's container follows it: ``… as OrderedDict``)."""
    match type_:
        case TensorType(dtype, shape):
            name = f"np.{dtype.type.__name__}"
            return f"TensorType({name})" if shape == () else f"TensorType({name}, {shape!r})"
        case StructType():
            texts = [repr(e) if name is None else f"({name!r}, {e!r})" for name, e in type_.items()]
            container = type_.python_container
            return f"StructType([{', '.join(texts)}])" + (f" as {container.__name__}" if container is not None else "")
        case SequenceType(element):
            return f"SequenceType({element!r})"
        case FunctionType(parameter, result):
            return f"FunctionType({parameter!r}, {result!r})"
        case FederatedType(member, placement, all_equal):
            return f"FederatedType({member!r}, {placement!r}, {all_equal})"
        case AbstractType(label):
            return f"AbstractType({label!r})"
        case PlacementType():
            return "PlacementType()"
    raise TypeError(f"no type of the language: {type(type_).__name__}")
