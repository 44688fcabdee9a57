"""The rows of the table of operators: name, signature, lowering, typing rule and doc.

A rule gets the types of the arguments and returns the type of the result, or raises `TypingError`.  To add an operator,
add a row, and its evaluation in the runtime.
"""

# No `from __future__ import annotations`: the annotations of the rules are read when the rows are made.
import numpy as np

from fedmpi.language.errors import TypingError, UnsupportedValueError
from fedmpi.language.operators.hints import hint_for, mixed_hint
from fedmpi.language.operators.rules import (
    bare,
    check_integers,
    check_limit,
    check_ordered,
    check_state,
    check_summable,
    check_takes,
    check_tensors,
    element_of,
    member_of,
    members,
    pair,
    place_hint,
    placed,
    result_of,
    selection,
    sequence,
    state_of,
    unplaced,
    unplaced_result,
)
from fedmpi.language.operators.table import (
    Function,
    Lowering,
    OptionalPlaced,
    Placed,
    Placement,
    Plain,
    Sequence,
    operator,
)
from fedmpi.language.types import (
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
from fedmpi.language.types.placements import CLIENTS, SERVER
from fedmpi.language.types.walking import all_tensors, leaves_of


@operator("T@SERVER -> T@CLIENTS", Lowering.BROADCAST, runs="one Bcast of the packed value")
def federated_broadcast(value: Placed) -> Type:
    """Send the server's value to every client."""
    return FederatedType(placed(value, "value", SERVER).member, CLIENTS, all_equal=True)


@operator(
    "<(T -> U),{T}@CLIENTS> -> {U}@CLIENTS, <(T -> U),T@SERVER> -> U@SERVER",
    Lowering.APPLY,
    runs="one compiled loop over a rank's clients; a call at the server",
    hints={"fn": lambda types: member_of(types, "arg")},
)
def federated_map(fn: Function, arg: Placed) -> Type:
    """Apply a function to the value at each client, or to the server's value."""
    if not isinstance(arg, FederatedType):
        raise TypingError(f"arg must be {{T}}@CLIENTS or T@SERVER, found {arg}", mixed_hint(arg) or place_hint(arg))
    if arg.placement == SERVER and not arg.all_equal:
        raise TypingError(f"arg must be {{T}}@CLIENTS or T@SERVER, found {arg}")
    return FederatedType(unplaced_result(fn, "fn", arg.member), arg.placement)


@operator(
    "<(T -> U),T@SERVER> -> U@SERVER",
    Lowering.APPLY,
    runs="federated_map at the server",
    hints={"fn": lambda types: member_of(types, "arg")},
    emits="federated_map",
)
def federated_apply(fn: Function, arg: Placed) -> Type:
    """Apply a function to the server's value."""
    return FederatedType(unplaced_result(fn, "fn", placed(arg, "arg", SERVER).member), SERVER)


@operator("<A@P,<B@P,…>> -> <A,<B,…>>@P", Lowering.BESIDE, runs="nothing: the parts stand side by side")
def federated_zip(value: Plain) -> Type:
    """Make a placed struct of a struct of placed values, with its names and nesting."""
    if not isinstance(value, StructType):
        raise TypingError(f"value must be a struct of placed values, found {value}")
    leaves = list(leaves_of(value))
    unplaced = [leaf for leaf in leaves if not isinstance(leaf, FederatedType)]
    placements = {leaf.placement for leaf in leaves if isinstance(leaf, FederatedType)}
    if unplaced or len(placements) != 1:
        raise TypingError(f"value must be a struct of values at one placement, found {value}", mixed_hint(value))
    (placement,) = placements
    equal = placement == SERVER and all(leaf.all_equal for leaf in leaves if isinstance(leaf, FederatedType))
    return FederatedType(members(value), placement, equal)


@operator("{T}@CLIENTS -> T@SERVER", Lowering.SUM, runs="a sum on each rank, then one Reduce")
def federated_sum(value: Placed) -> Type:
    """Add the clients' values, elementwise.  T is numeric, of known shape."""
    member = placed(value, "value", CLIENTS).member
    check_summable(value, "value")
    return FederatedType(member, SERVER)


@operator(
    "<{T}@CLIENTS[,{W}@CLIENTS]> -> T@SERVER",
    Lowering.SUM,
    runs="weighted sums on each rank, one Reduce, then a division",
    wants="to take the mean over",
)
def federated_mean(value: Placed, weight: OptionalPlaced = None) -> Type:
    """Average the clients' values, elementwise, by weight if given.  T is float or complex, W a scalar int or float.

    A weight must be finite and not negative.
    """
    member = placed(value, "value", CLIENTS).member
    integers = all_tensors(member, lambda t: kind(t.dtype) in ("int", "float", "complex"))
    hint = "convert integers first: fm.federated_map of a numba_computation that returns np.float32(x)"
    check_tensors(
        value,
        "value",
        "floats or complex numbers at the clients",
        lambda t: kind(t.dtype) in ("float", "complex") and t.dtype.name != "bfloat16",
        hint if integers else "",
    )
    if weight is not None:
        w = placed(weight, "weight", CLIENTS).member
        if not isinstance(w, TensorType) or w.shape != () or kind(w.dtype) not in ("int", "float"):
            raise TypingError(f"weight must be a scalar int or float at the clients, found {weight}")
    return FederatedType(member, SERVER)


@operator(
    "{T}@CLIENTS -> T@SERVER",
    Lowering.EXTREME,
    runs="a minimum on each rank, then one Reduce",
    wants="to take the least value of",
)
def federated_min(value: Placed) -> Type:
    """Take the least of the clients' values, elementwise.  T is int or float; -0.0 < +0.0, and NaN gives NaN."""
    member = placed(value, "value", CLIENTS).member
    check_ordered(value, "value")
    return FederatedType(member, SERVER)


@operator(
    "{T}@CLIENTS -> T@SERVER",
    Lowering.EXTREME,
    runs="a maximum on each rank, then one Reduce",
    wants="to take the greatest value of",
)
def federated_max(value: Placed) -> Type:
    """Take the greatest of the clients' values, elementwise.  T is int or float; -0.0 < +0.0, and NaN gives NaN."""
    member = placed(value, "value", CLIENTS).member
    check_ordered(value, "value")
    return FederatedType(member, SERVER)


@operator(
    "<{T}@CLIENTS,U,(<U,T> -> U),(<U,U> -> U),(U -> R)> -> R@SERVER",
    Lowering.FOLD,
    runs="a fold of each block of clients on its rank, one Gather of the blocks, a tree of merges at the server",
    hints={
        "zero": lambda types: state_of(types.get("accumulate")),
        "accumulate": lambda types: pair(bare(types, "zero"), member_of(types, "value")),
        "merge": lambda types: pair(result_of(types, "accumulate"), result_of(types, "accumulate")),
        "report": lambda types: result_of(types, "merge"),
    },
)
def federated_aggregate(value: Placed, zero: Plain, accumulate: Function, merge: Function, report: Function) -> Type:
    """Fold the clients' values with functions of yours, and report what they come to at the server.

    The clients are accumulated from ``zero`` in order, in at most 64 blocks, whose states are merged in a fixed tree;
    blocks and tree depend on the number of clients alone.  So ``zero`` must be neutral for ``merge``.
    """
    member = placed(value, "value", CLIENTS).member
    unplaced(zero, "zero")
    unplaced_result(accumulate, "accumulate", StructType([zero, member]))
    state = state_of(accumulate)
    assert state is not None
    check_state(accumulate, "accumulate", state)
    unplaced_result(merge, "merge", StructType([state, state]))
    check_state(merge, "merge", state)
    return FederatedType(unplaced_result(report, "report", state), SERVER)


@operator("{T}@CLIENTS -> T*@SERVER", Lowering.COLLECT, runs="one Gather of the clients' values; n × T bytes on rank 0")
def federated_collect(value: Placed) -> Type:
    """Bring the clients' values to the server as a sequence, in the order of the clients.  T holds no sequence."""
    member = placed(value, "value", CLIENTS).member
    if contains(member, SequenceType):
        hint = "reduce each client's sequence first: fm.federated_map of a function with fm.sequence_reduce"
        raise TypingError(f"value must hold no sequence, found {value}", hint)
    return FederatedType(SequenceType(member), SERVER)


@operator("<T,P> -> T@P", Lowering.BESIDE, runs="nothing: every rank has the value")
def federated_value(value: Plain, placement: Placement) -> Type:
    """Place a value: the same at every place."""
    if isinstance(value, FunctionType) or is_federated(value):
        raise TypingError(f"value must be unplaced and no function, found {value}")
    if contains(value, FunctionType):
        raise TypingError(f"value must contain no function, found {value}")
    return FederatedType(value, placement, all_equal=True)


@operator(
    "<( -> T),P> -> {T}@P", Lowering.APPLY, runs="part of the compiled loop over a rank's clients; a call at the server"
)
def federated_eval(fn: Function, placement: Placement) -> Type:
    """Evaluate a function without parameters at each client, or at the server."""
    if not isinstance(fn, FunctionType) or fn.parameter is not None:
        raise TypingError(f"fn must be a function without parameters, found {fn}", "map others with fm.federated_map")
    if contains(fn.result, (FederatedType, FunctionType)):
        raise TypingError(f"fn must return nothing placed and no function, found {fn}")
    return FederatedType(fn.result, placement)


@operator(" -> {int64}@CLIENTS", Lowering.GIVEN, runs="nothing: every rank knows the indices of its clients")
def federated_client_index() -> Type:
    """Give each client its index: 0, 1, 2, … in a list or a `ClientData`; a cohort's clients keep theirs.

    With keys (``fm.random.fold_in(key, index)``) it gives each client draws of its own.
    """
    return FederatedType(TensorType(np.int64), CLIENTS)


_SELECT = "<{int32[N]}@CLIENTS,int32@SERVER,T@SERVER,(<T,int32> -> U)> -> {U*}@CLIENTS"
_SELECT_RUNS = "server_val goes down in the round's Bcast; select_fn runs once for each distinct key of a rank"


@operator(
    _SELECT,
    Lowering.SELECT,
    runs=_SELECT_RUNS,
    hints={"select_fn": lambda types: pair(member_of(types, "server_val"), TensorType(np.int32))},
)
def federated_select(client_keys: Placed, max_key: Placed, server_val: Placed, select_fn: Function) -> Type:
    """Give each client the parts of a server's value that it has keys of, in the order of its keys.

    ``select_fn`` makes the part of a key; a key is in 0 … ``max_key``, and each client has N of them.
    """
    return selection(client_keys, max_key, server_val, select_fn)


@operator(
    _SELECT,
    Lowering.SELECT,
    runs=_SELECT_RUNS + ", so the keys leave no client",
    hints={"select_fn": lambda types: pair(member_of(types, "server_val"), TensorType(np.int32))},
)
def federated_secure_select(client_keys: Placed, max_key: Placed, server_val: Placed, select_fn: Function) -> Type:
    """Do what `federated_select` does, and tell the server nothing of a client's keys."""
    return selection(client_keys, max_key, server_val, select_fn)


@operator("<{V}@CLIENTS,M> -> V@SERVER", Lowering.SECURE, runs="sums of masked integers on each rank, one Reduce")
def federated_secure_sum(value: Placed, max_input: Plain) -> Type:
    """Add the clients' integers under masks that cancel.  Each must be in 0 … ``max_input``: one limit, or a struct."""
    return _secure_sum(value, max_input, "max_input")


@operator("<{V}@CLIENTS,M> -> V@SERVER", Lowering.SECURE, runs="federated_secure_sum with the limit 2 ** bitwidth - 1")
def federated_secure_sum_bitwidth(value: Placed, bitwidth: Plain) -> Type:
    """Add the clients' integers under masks that cancel.  Each must be in 0 … 2 ** ``bitwidth`` - 1."""
    return _secure_sum(value, bitwidth, "bitwidth")


@operator("<{V}@CLIENTS,M> -> V@SERVER", Lowering.SECURE, runs="sums of masked integers on each rank, one Reduce")
def federated_secure_modular_sum(value: Placed, modulus: Plain) -> Type:
    """Add the clients' integers modulo ``modulus``, to 0 … ``modulus`` - 1, under masks that cancel."""
    return _secure_sum(value, modulus, "modulus")


def _secure_sum(value: Type, limit: Type, name: str) -> Type:
    member = placed(value, "value", CLIENTS).member
    check_integers(value, "value")
    check_limit(limit, member, name)
    return FederatedType(member, SERVER)


@operator(
    "<(T -> U),T*> -> U*, <(T -> U),{T*}@P> -> {U*}@P",
    Lowering.INSIDE,
    runs="part of one compiled loop",
    hints={"fn": lambda types: element_of(types, "arg")},
)
def sequence_map(fn: Function, arg: Sequence) -> Type:
    """Apply a function to each element of a sequence, or of the sequence at each place."""
    result = unplaced_result(fn, "fn", sequence(arg, "arg").element)
    if contains(result, (FunctionType, SequenceType)):
        raise TypingError(f"fn must return no function and no sequence, found {fn}")
    return SequenceType(result)


@operator(
    "<T*,U,(<U,T> -> U)> -> U, <{T*}@P,{U}@P,(<U,T> -> U)> -> {U}@P",
    Lowering.INSIDE,
    runs="one compiled loop",
    hints={
        "zero": lambda types: state_of(types.get("op")),
        "op": lambda types: pair(bare(types, "zero"), element_of(types, "value")),
    },
)
def sequence_reduce(value: Sequence, zero: Placed, op: Function) -> Type:
    """Fold a sequence from ``zero`` with a function of the state and an element, strictly in order."""
    if isinstance(zero, SequenceType) and not isinstance(value, SequenceType):
        raise UnsupportedValueError(
            f"value must be a sequence T*, found {value}", "the order is sequence_reduce(value, zero, op)"
        )
    element = sequence(value, "value").element
    if is_federated(zero):
        raise TypingError(f"zero must be unplaced, like value, found {zero}", hint_for(element, zero))
    if not isinstance(op, FunctionType) or op.parameter is None:
        raise TypingError(f"op must be a function (<U,T> -> U), found {op}")
    check_takes(op, "op", StructType([zero, element]))
    check_state(op, "op", zero)
    return op.result


@operator("T* -> T, {T*}@P -> {T}@P", Lowering.INSIDE, runs="part of one compiled loop")
def sequence_sum(value: Sequence) -> Type:
    """Add the elements of a sequence, in order, from zero.  T is numeric, of known shape."""
    element = sequence(value, "value").element
    check_summable(element, "the elements of value")
    return element
