"""What the typing rules of the operators share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from fedmpi.language.dtypes import kind
from fedmpi.language.errors import SumIncompatibleError, TypingError, UnsupportedValueError
from fedmpi.language.hints import hint_for, mixed_hint
from fedmpi.language.placements import PlacementLiteral
from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    StructWithPythonType,
    TensorType,
    Type,
    type_contains,
)


def placed(type_: Type, name: str, placement: PlacementLiteral) -> FederatedType:
    """Return the type if it is at the placement; refuse it otherwise."""
    if isinstance(type_, FederatedType) and type_.placement == placement:
        return type_
    wanted = FederatedType(AbstractType("T"), placement)
    if isinstance(type_, FederatedType):
        hint = hint_for(FederatedType(type_.member, placement), type_)
    else:
        hint = mixed_hint(type_) or f"place it with fm.federated_value({name}, fm.{placement})"
    raise TypingError(f"{name} must be {wanted}, found {type_}", hint)


def place_hint(type_: Type) -> str:
    """Return advice on a value that is not placed."""
    if isinstance(type_, SequenceType):
        return "a sequence is mapped by fm.sequence_map"
    if isinstance(type_, FunctionType):
        return ""
    return "place it with fm.federated_value(arg, fm.SERVER) or at fm.CLIENTS"


def unplaced_result(fn: Type, name: str, argument: Type) -> Type:
    """Return the result of a function that must take ``argument`` and return nothing placed."""
    if not isinstance(fn, FunctionType) or fn.parameter is None:
        raise TypingError(f"{name} must be a function that takes {argument}, found {fn}")
    if not fn.parameter.is_assignable_from(argument):
        raise TypingError(f"{name} must take {argument}, found {fn}", hint_for(fn.parameter, argument))
    if type_contains(fn.result, lambda t: isinstance(t, FederatedType | FunctionType)):
        raise TypingError(f"{name} must return nothing placed and no function, found {fn}")
    return fn.result


def sequence(type_: Type, name: str) -> SequenceType:
    """Return the type if it is a sequence; refuse it otherwise."""
    if isinstance(type_, SequenceType):
        return type_
    hint = ""
    if isinstance(type_, StructType):
        hint = "a Python list or tuple in a body is a struct; a sequence can only be a parameter"
    raise UnsupportedValueError(f"{name} must be a sequence T*, found {type_}", hint)


def all_tensors(type_: Type, predicate: Callable[[TensorType], bool]) -> bool:
    """Say whether the type is made of tensors for which ``predicate`` holds."""
    match type_:
        case TensorType():
            return predicate(type_)
        case StructType():
            return all(all_tensors(element, predicate) for element in type_)
    return False


def check_summable(type_: Type, name: str) -> None:
    """Refuse what cannot be added: anything but numbers of known shapes."""
    numeric = all_tensors(type_, lambda t: kind(t.dtype) in ("int", "float", "complex"))
    known = all_tensors(type_, lambda t: t.shape is not None and None not in t.shape)
    if not numeric:
        raise SumIncompatibleError(f"{name} must be numbers, or structs of them, found {type_}")
    if not known:
        raise SumIncompatibleError(f"{name} must have known shapes, found {type_}")


def leaves_of(type_: Type) -> Iterator[Type]:
    """Yield what a struct, maybe nested, is made of."""
    if isinstance(type_, StructType):
        for element in type_:
            yield from leaves_of(element)
    else:
        yield type_


def members(type_: Type) -> Type:
    """Return the type with each placed type in it replaced by its member."""
    match type_:
        case FederatedType(member):
            return member
        case StructType():
            items = [(name, members(element)) for name, element in type_.items()]
            container = type_.python_container
            return StructType(items) if container is None else StructWithPythonType(items, container)
    return type_


def bare(types: Mapping[str, Type], name: str) -> Type | None:
    """Return the type of a known argument, at each place if it is placed."""
    type_ = types.get(name)
    return type_.member if isinstance(type_, FederatedType) else type_


def member_of(types: Mapping[str, Type], name: str) -> Type | None:
    """Return the member of a known, placed argument."""
    type_ = types.get(name)
    return type_.member if isinstance(type_, FederatedType) else None


def element_of(types: Mapping[str, Type], name: str) -> Type | None:
    """Return the element of a known argument that is a sequence, maybe placed."""
    type_ = bare(types, name)
    return type_.element if isinstance(type_, SequenceType) else None


def state_of(fn: Type | None) -> Type | None:
    """Return the first element of a function's parameter: the type of its state."""
    parameter = fn.parameter if isinstance(fn, FunctionType) else None
    return parameter[0] if isinstance(parameter, StructType) and len(parameter) else None


def pair(first: Type | None, second: Type | None) -> Type | None:
    """Return the type of a pair, if both types are known."""
    return None if first is None or second is None else StructType([first, second])


def state_hint(op: FunctionType, zero: Type) -> str:
    """Return advice on a ``zero`` that the function does not take."""
    state = state_of(op)
    return "" if state is None else hint_for(state, zero)
