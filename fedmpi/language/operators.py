"""The table of operators: one row each, of name, signature, typing rule, lowering and doc.

A rule gets the types of the arguments and returns the type of the result, or raises `TypingError`.  To add an operator,
add a row, and its evaluation in the runtime.
"""

# No `from __future__ import annotations`: the annotations of the rules are read when the rows are made.
from collections.abc import Callable, Iterator, Mapping

from fedmpi.language.applying import Function, OptionalPlaced, Placed, Placement, Plain, Sequence, operator
from fedmpi.language.dtypes import kind
from fedmpi.language.errors import SumIncompatibleError, TypingError, UnsupportedValueError
from fedmpi.language.hints import hint_for, mixed_hint
from fedmpi.language.placements import CLIENTS, SERVER, PlacementLiteral
from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    StructWithPythonType,
    TensorType,
    Type,
    is_federated,
    type_contains,
)


@operator("T@SERVER -> T@CLIENTS", lowering="one Bcast of the packed value")
def federated_broadcast(value: Placed) -> Type:
    """Send the server's value to every client."""
    server = _placed(value, "value", SERVER)
    if not server.all_equal:
        raise TypingError(f"value must be T@SERVER, found {value}")
    return FederatedType(server.member, CLIENTS, all_equal=True)


@operator(
    "<(T -> U),{T}@CLIENTS> -> {U}@CLIENTS, <(T -> U),T@SERVER> -> U@SERVER",
    lowering="one compiled loop over a rank's clients; a call at the server",
    hints={"fn": lambda types: _member(types, "arg")},
)
def federated_map(fn: Function, arg: Placed) -> Type:
    """Apply a function to the value at each client, or to the server's value."""
    if not isinstance(arg, FederatedType):
        raise TypingError(f"arg must be {{T}}@CLIENTS or T@SERVER, found {arg}", mixed_hint(arg) or _place_hint(arg))
    if arg.placement == SERVER and not arg.all_equal:
        raise TypingError(f"arg must be {{T}}@CLIENTS or T@SERVER, found {arg}")
    return FederatedType(_unplaced_result(fn, "fn", arg.member), arg.placement)


@operator(
    "<(T -> U),T@SERVER> -> U@SERVER",
    lowering="federated_map at the server",
    hints={"fn": lambda types: _member(types, "arg")},
    emits="federated_map",
)
def federated_apply(fn: Function, arg: Placed) -> Type:
    """Apply a function to the server's value."""
    return FederatedType(_unplaced_result(fn, "fn", _placed(arg, "arg", SERVER).member), SERVER)


@operator("<A@P,<B@P,…>> -> <A,<B,…>>@P", lowering="nothing: the parts stand side by side")
def federated_zip(value: Plain) -> Type:
    """Make a placed struct of a struct of placed values, with its names and nesting."""
    if not isinstance(value, StructType):
        raise TypingError(f"value must be a struct of placed values, found {value}")
    leaves = list(_leaves(value))
    unplaced = [leaf for leaf in leaves if not isinstance(leaf, FederatedType)]
    placements = {leaf.placement for leaf in leaves if isinstance(leaf, FederatedType)}
    if unplaced or len(placements) != 1:
        raise TypingError(f"value must be a struct of values at one placement, found {value}", mixed_hint(value))
    (placement,) = placements
    equal = placement == SERVER and all(leaf.all_equal for leaf in leaves if isinstance(leaf, FederatedType))
    return FederatedType(_members(value), placement, equal)


@operator("{T}@CLIENTS -> T@SERVER", lowering="a sum on each rank, then one Reduce")
def federated_sum(value: Placed) -> Type:
    """Add the clients' values, elementwise.  T is numeric, of known shape."""
    member = _placed(value, "value", CLIENTS).member
    _check_summable(member, "value")
    return FederatedType(member, SERVER)


@operator("<{T}@CLIENTS[,{W}@CLIENTS]> -> T@SERVER", lowering="weighted sums on each rank, one Reduce, then a division")
def federated_mean(value: Placed, weight: OptionalPlaced = None) -> Type:
    """Average the clients' values, elementwise, by weight if given.  T is float or complex, W a scalar int or float."""
    member = _placed(value, "value", CLIENTS).member
    if not _all_tensors(member, lambda t: kind(t.dtype) in ("float", "complex") and t.dtype.name != "bfloat16"):
        integers = _all_tensors(member, lambda t: kind(t.dtype) in ("int", "float", "complex"))
        hint = "convert integers first: fm.federated_map of a numba_computation that returns np.float32(x)"
        raise TypingError(
            f"value must be floats or complex numbers at the clients, found {value}", hint if integers else ""
        )
    if weight is not None:
        w = _placed(weight, "weight", CLIENTS).member
        if not isinstance(w, TensorType) or w.shape != () or kind(w.dtype) not in ("int", "float"):
            raise TypingError(f"weight must be a scalar int or float at the clients, found {weight}")
    return FederatedType(member, SERVER)


@operator("<T,P> -> T@P", lowering="nothing: every rank has the value")
def federated_value(value: Plain, placement: Placement) -> Type:
    """Place a value: the same at every place."""
    if isinstance(value, FunctionType) or is_federated(value):
        raise TypingError(f"value must be unplaced and no function, found {value}")
    if type_contains(value, lambda t: isinstance(t, FunctionType)):
        raise TypingError(f"value must contain no function, found {value}")
    return FederatedType(value, placement, all_equal=True)


@operator(
    "<(T -> U),T*> -> U*, <(T -> U),{T*}@P> -> {U*}@P",
    lowering="part of one compiled loop",
    hints={"fn": lambda types: _element(types, "arg")},
)
def sequence_map(fn: Function, arg: Sequence) -> Type:
    """Apply a function to each element of a sequence, or of the sequence at each place."""
    result = _unplaced_result(fn, "fn", _sequence(arg, "arg").element)
    if type_contains(result, lambda t: isinstance(t, FunctionType | SequenceType)):
        raise TypingError(f"fn must return no function and no sequence, found {fn}")
    return SequenceType(result)


@operator(
    "<T*,U,(<U,T> -> U)> -> U, <{T*}@P,{U}@P,(<U,T> -> U)> -> {U}@P",
    lowering="one compiled loop",
    hints={
        "zero": lambda types: _first(types.get("op")),
        "op": lambda types: _pair(_bare(types, "zero"), _element(types, "value")),
    },
)
def sequence_reduce(value: Sequence, zero: Placed, op: Function) -> Type:
    """Fold a sequence from ``zero`` with a function of the state and an element, strictly in order."""
    element = _sequence(value, "value").element
    if is_federated(zero):
        raise TypingError(f"zero must be unplaced, like value, found {zero}", hint_for(element, zero))
    if not isinstance(op, FunctionType) or op.parameter is None:
        raise TypingError(f"op must be a function (<U,T> -> U), found {op}")
    wanted = StructType([zero, element])
    if not op.parameter.is_assignable_from(wanted):
        hint = _state_hint(op, zero)
        raise TypingError(f"op must take {wanted}, found {op}", hint)
    if not op.result.is_equivalent_to(zero):
        raise TypingError(f"op must return the type of zero, {zero}, found {op}", hint_for(zero, op.result))
    return op.result


@operator("T* -> T, {T*}@P -> {T}@P", lowering="part of one compiled loop")
def sequence_sum(value: Sequence) -> Type:
    """Add the elements of a sequence, in order, from zero.  T is numeric, of known shape."""
    element = _sequence(value, "value").element
    _check_summable(element, "value")
    return element


def _placed(type_: Type, name: str, placement: PlacementLiteral) -> FederatedType:
    if isinstance(type_, FederatedType) and type_.placement == placement:
        return type_
    wanted = FederatedType(AbstractType("T"), placement)
    if isinstance(type_, FederatedType):
        hint = hint_for(FederatedType(type_.member, placement), type_)
    else:
        hint = mixed_hint(type_) or f"place it with fm.federated_value({name}, fm.{placement})"
    raise TypingError(f"{name} must be {wanted}, found {type_}", hint)


def _place_hint(type_: Type) -> str:
    if isinstance(type_, SequenceType):
        return "a sequence is mapped by fm.sequence_map"
    return (
        "" if isinstance(type_, FunctionType) else "place it with fm.federated_value(arg, fm.SERVER) or at fm.CLIENTS"
    )


def _unplaced_result(fn: Type, name: str, argument: Type) -> Type:
    """The result of a function that must take ``argument`` and return nothing placed."""
    if not isinstance(fn, FunctionType) or fn.parameter is None:
        raise TypingError(f"{name} must be a function that takes {argument}, found {fn}")
    if not fn.parameter.is_assignable_from(argument):
        raise TypingError(f"{name} must take {argument}, found {fn}", hint_for(fn.parameter, argument))
    if type_contains(fn.result, lambda t: isinstance(t, FederatedType | FunctionType)):
        raise TypingError(f"{name} must return nothing placed and no function, found {fn}")
    return fn.result


def _sequence(type_: Type, name: str) -> SequenceType:
    if isinstance(type_, SequenceType):
        return type_
    hint = ""
    if isinstance(type_, StructType):
        hint = "a Python list or tuple in a body is a struct; a sequence can only be a parameter"
    raise UnsupportedValueError(f"{name} must be a sequence T*, found {type_}", hint)


def _all_tensors(type_: Type, predicate: Callable[[TensorType], bool]) -> bool:
    match type_:
        case TensorType():
            return predicate(type_)
        case StructType():
            return all(_all_tensors(element, predicate) for element in type_)
    return False


def _check_summable(type_: Type, name: str) -> None:
    numeric = _all_tensors(type_, lambda t: kind(t.dtype) in ("int", "float", "complex"))
    known = _all_tensors(type_, lambda t: t.shape is not None and None not in t.shape)
    if not numeric:
        raise SumIncompatibleError(f"{name} must be numbers, or structs of them, found {type_}")
    if not known:
        raise SumIncompatibleError(f"{name} must have known shapes, found {type_}")


def _leaves(type_: Type) -> Iterator[Type]:
    if isinstance(type_, StructType):
        for element in type_:
            yield from _leaves(element)
    else:
        yield type_


def _members(type_: Type) -> Type:
    """The type with each placed type in it replaced by its member."""
    match type_:
        case FederatedType(member):
            return member
        case StructType():
            items = [(name, _members(element)) for name, element in type_.items()]
            container = type_.python_container
            return StructType(items) if container is None else StructWithPythonType(items, container)
    return type_


def _bare(types: Mapping[str, Type], name: str) -> Type | None:
    type_ = types.get(name)
    return type_.member if isinstance(type_, FederatedType) else type_


def _member(types: Mapping[str, Type], name: str) -> Type | None:
    type_ = types.get(name)
    return type_.member if isinstance(type_, FederatedType) else None


def _element(types: Mapping[str, Type], name: str) -> Type | None:
    sequence = _bare(types, name)
    return sequence.element if isinstance(sequence, SequenceType) else None


def _first(fn: Type | None) -> Type | None:
    """The first element of a function's parameter: the type of its state."""
    parameter = fn.parameter if isinstance(fn, FunctionType) else None
    return parameter[0] if isinstance(parameter, StructType) and len(parameter) else None


def _pair(first: Type | None, second: Type | None) -> Type | None:
    return None if first is None or second is None else StructType([first, second])


def _state_hint(op: FunctionType, zero: Type) -> str:
    state = _first(op)
    return "" if state is None else hint_for(state, zero)
