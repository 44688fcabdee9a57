"""What the typing rules of the operators share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fedmpi.language.errors import SumIncompatibleError, TypingError, UnsupportedValueError
from fedmpi.language.operators.hints import contrast, first_leaf, hint_for, mixed_hint, shortened
from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    contains,
    is_federated,
)
from fedmpi.language.types.dtypes import kind
from fedmpi.language.types.placements import CLIENTS, SERVER, PlacementLiteral
from fedmpi.language.types.walking import all_tensors, transform_type_postorder


def placed(type_: Type, name: str, placement: PlacementLiteral) -> FederatedType:
    """Return the type if it is at the placement, and one value at the server; refuse it otherwise."""
    wanted = FederatedType(AbstractType("T"), placement)
    if isinstance(type_, FederatedType) and type_.placement == placement and type_.all_equal >= wanted.all_equal:
        return type_
    if isinstance(type_, FederatedType):
        hint = hint_for(FederatedType(type_.member, placement), type_)
    else:
        hint = mixed_hint(type_, placement) or _unplaced_hint(type_, name, placement)
    raise TypingError(f"{name} must be {wanted}, found {shortened(type_)}", hint)


_CALL_HINT = "this is a function: call it, and give what it returns"


def _unplaced_hint(type_: Type, name: str, placement: PlacementLiteral) -> str:
    """Return advice on an unplaced value; at the clients, a list or a sequence is meant to be one value for each."""
    listed = isinstance(type_, StructType) and type_.python_container in (list, tuple)
    if placement == CLIENTS and (listed or isinstance(type_, SequenceType)):
        what = "a list in a body is a struct" if listed else "a sequence is one value"
        return f"{what}; for one value at each client declare a parameter of type fm.type_at_clients(T)"
    if isinstance(type_, FunctionType):
        return _CALL_HINT
    return f"place it with fm.federated_value({name}, fm.{placement})"


def place_hint(type_: Type) -> str:
    """Return advice on a value that is not placed."""
    if isinstance(type_, SequenceType):
        return "a sequence is mapped by fm.sequence_map"
    if isinstance(type_, FunctionType):
        return _CALL_HINT
    return "place it with fm.federated_value(arg, fm.SERVER) or at fm.CLIENTS"


def unplaced_result(fn: Type, name: str, argument: Type) -> Type:
    """Return the result of a function that must take ``argument`` and return nothing placed."""
    if not isinstance(fn, FunctionType) or fn.parameter is None:
        raise TypingError(f"{name} must be a function that takes {argument}, found {fn}")
    check_takes(fn, name, argument)
    if contains(fn.result, (FederatedType, FunctionType)):
        raise TypingError(f"{name} must return nothing placed and no function, found {fn}")
    return fn.result


def check_takes(fn: FunctionType, name: str, argument: Type) -> None:
    """Refuse a function that does not take ``argument``."""
    assert fn.parameter is not None
    if not fn.parameter.is_assignable_from(argument):
        takes, given = contrast(fn.parameter, argument)
        text = f"{name} must take {given}, found ({takes} -> {shortened(fn.result, 80)})"
        placed_hint = f"{name} works at one place: let it take the member, or call it with the placed value yourself"
        raise TypingError(text, placed_hint if is_federated(fn.parameter) else hint_for(fn.parameter, argument))


def sequence(type_: Type, name: str) -> SequenceType:
    """Return the type if it is a sequence; refuse it otherwise."""
    if isinstance(type_, SequenceType):
        return type_
    hint = ""
    if isinstance(type_, StructType):
        hint = "a Python list or tuple in a body is a struct; a sequence can only be a parameter"
    raise UnsupportedValueError(f"{name} must be a sequence T*, found {type_}", hint)


_NUMBERS = ("int", "float", "complex")


def check_tensors(
    type_: Type,
    name: str,
    wanted: str,
    predicate: Callable[[TensorType], bool],
    hint: str = "",
    *,
    error: type[TypingError] = TypingError,
) -> None:
    """Refuse what is not made of tensors for which ``predicate`` holds, at each place; name the first other part."""
    inner = type_.member if isinstance(type_, FederatedType) else type_
    if all_tensors(inner, predicate):
        return
    part = first_leaf(inner, lambda t: not all_tensors(t, predicate))
    raise error(f"{name} must be {wanted}, found {shortened(type_)}", "; ".join(filter(None, (part, hint))))


def check_summable(type_: Type, name: str) -> None:
    """Refuse what cannot be added: anything but numbers of known shapes."""
    check_tensors(
        type_, name, "numbers, or structs of them", lambda t: kind(t.dtype) in _NUMBERS, error=SumIncompatibleError
    )
    known = "of known shape"
    check_tensors(type_, name, known, lambda t: t.shape is not None and None not in t.shape, error=SumIncompatibleError)


def check_ordered(type_: Type, name: str) -> None:
    """Refuse what has no order: anything but integers, floats and structs of them."""
    ordered = "integers or floats, or structs of them"
    check_tensors(type_, name, ordered, lambda t: kind(t.dtype) in ("int", "float") and t.dtype.name != "bfloat16")


def check_integers(type_: Type, name: str) -> None:
    """Refuse anything but integers, and structs of them."""
    member = type_.member if isinstance(type_, FederatedType) else type_
    floats = all_tensors(member, lambda t: kind(t.dtype) in ("int", "float"))
    hint = "masks are exact on integers alone: scale and round floats in a numba_computation" if floats else ""
    check_tensors(type_, name, "integers, or structs of them", lambda t: kind(t.dtype) == "int", hint)


def check_limit(type_: Type, member: Type, name: str) -> None:
    """Refuse a limit of integers that is neither one integer nor one for each tensor of ``member``."""
    if not is_limit(type_, member):
        hint = f"{name} is known to all: it is not placed" if is_federated(type_) else ""
        raise TypingError(f"{name} must be one integer, or one for each tensor of {member}, found {type_}", hint)


def is_limit(type_: Type, member: Type) -> bool:
    """Say whether the type is one integer, or a struct like ``member`` with one integer for each of its tensors."""
    if isinstance(type_, TensorType):
        one = type_.shape is not None and None not in type_.shape and math.prod(d or 0 for d in type_.shape) == 1
        return one and kind(type_.dtype) == "int"
    if not isinstance(type_, StructType) or not isinstance(member, StructType) or len(type_) != len(member):
        return False
    pairs = zip(type_.items(), member.items(), strict=True)
    return all(name == other and is_limit(limit, part) for (name, limit), (other, part) in pairs)


def unplaced(type_: Type, name: str) -> None:
    """Refuse a value that is placed or a function, or contains one."""
    if contains(type_, (FederatedType, FunctionType)):
        raise TypingError(f"{name} must be unplaced and no function, found {type_}")


def check_state(fn: Type, name: str, state: Type) -> None:
    """Refuse a fold's function that does not return the state."""
    assert isinstance(fn, FunctionType)
    if not fn.result.is_equivalent_to(state):
        wanted, found = contrast(state, fn.result)
        hint = hint_for(state, fn.result) or "zero has the type of what the function returns"
        raise TypingError(f"{name} must return the state, {wanted}, found {found}", hint)


def selection(keys: Type, max_key: Type, server_val: Type, fn: Type) -> Type:
    """Return the type of `federated_select`."""
    member = placed(keys, "client_keys", CLIENTS).member
    shape = member.shape if isinstance(member, TensorType) and member.dtype == np.int32 else None
    if shape is None or len(shape) != 1 or shape[0] is None:
        raise TypingError(f"client_keys must be {{int32[N]}}@CLIENTS with a known N, found {keys}")
    wanted = FederatedType(TensorType(np.int32), SERVER)
    if not wanted.is_assignable_from(max_key):
        unplaced = max_key.is_equivalent_to(wanted.member)
        hint = "place it with fm.federated_value(max_key, fm.SERVER)" if unplaced else hint_for(wanted, max_key)
        raise TypingError(f"max_key must be {wanted}, found {max_key}", hint)
    value = placed(server_val, "server_val", SERVER).member
    result = unplaced_result(fn, "select_fn", StructType([value, TensorType(np.int32)]))
    if contains(result, SequenceType):
        raise TypingError(f"select_fn must return no sequence, found {fn}")
    return FederatedType(SequenceType(result), CLIENTS)


def members(type_: Type) -> Type:
    """Return the type with each placed type in it replaced by its member."""

    def member(part: Type) -> tuple[Type, bool]:
        return (part.member, True) if isinstance(part, FederatedType) else (part, False)

    return transform_type_postorder(type_, member)[0]


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


def result_of(types: Mapping[str, Type], name: str) -> Type | None:
    """Return the result of a known argument that is a function."""
    fn = types.get(name)
    return fn.result if isinstance(fn, FunctionType) else None


def pair(first: Type | None, second: Type | None) -> Type | None:
    """Return the type of a pair, if both types are known."""
    return None if first is None or second is None else StructType([first, second])
