"""Programs of fedmpi written once more with ``federated_language``: each node of a tree by that package's call."""

from __future__ import annotations

import federated_language as fl
from federated_language import framework

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from fedmpi.language.operators.arithmetic import OPERATORS
from fedmpi.language.tree.expressions import Apply, Block, Call, Lambda, Literal, Local, Ref, Select, Struct

ARITHMETIC = {name for name in OPERATORS if not name.startswith(("federated_", "sequence_"))}
OURS_ALONE = {"federated_secure_modular_sum", "federated_collect", "federated_client_index"}
PLACEMENTS = {fm.CLIENTS: fl.CLIENTS, fm.SERVER: fl.SERVER}


def replayed(computation):
    """Return a computation of ``federated_language`` that does what one of fedmpi does."""
    return function(computation.expression, {})


def function(expr, names):
    if isinstance(expr, Local):
        return bridge.wrap(fm.Computation(expr))
    if not isinstance(expr, Lambda):
        return value_of(expr, names)
    if expr.parameter is None:
        return fl.federated_computation(lambda: value_of(expr.body, names))
    return fl.federated_computation(
        lambda x: value_of(expr.body, {**names, expr.parameter: x}), bridge.from_fedmpi(expr.type.parameter)
    )


def value_of(expr, names):
    match expr:
        case Ref(name):
            return names[name]
        case Literal():
            return fl.to_value(expr.value, None)
        case Struct(elements, type_):
            parts = [(n, value_of(e, names).comp) for (n, _), e in zip(type_.items(), elements, strict=True)]
            return fl.to_value(framework.Struct(parts, type_.python_container), None)
        case Select(source, index):
            return value_of(source, names)[index]
        case Block(locals_, result):
            for name, local in locals_:
                names = {**names, name: value_of(local, names)}
            return value_of(result, names)
        case Call(called, argument):
            return function(called, names)(*([] if argument is None else [value_of(argument, names)]))
        case Lambda() | Local():
            return fl.to_value(function(expr, names), None)
        case Apply():
            return applied(expr, names)
    raise AssertionError(expr)


def applied(expr, names):
    op, arguments = expr.op, expr.args
    if op in ARITHMETIC or op in OURS_ALONE:
        return bridge.wrap(as_function(expr))(*[value_of(argument, names) for argument in arguments])
    if op in ("federated_value", "federated_eval"):
        return getattr(fl, op)(function(arguments[0], names), PLACEMENTS[expr.type.placement])
    if op == "federated_zip" and expr.type.placement is fm.CLIENTS and expr.type.all_equal:
        first = arguments[0].elements[0]  # a slice of a value that is the same at all clients
        return value_of(first.source, names)[first.index :]
    return getattr(fl, op)(*[function(argument, names) for argument in arguments])


def as_function(expr):
    """Return a computation of fedmpi that applies an operator to its parameters."""
    if not expr.args:
        return fm.Computation(Lambda(None, expr, fm.FunctionType(None, expr.type)))
    if len(expr.args) == 1:  # a struct of one would be taken for its element
        (argument,) = expr.args
        body = Apply(expr.op, (Ref("p", argument.type),), expr.type)
        return fm.Computation(Lambda("p", body, fm.FunctionType(argument.type, expr.type)))
    type_ = fm.to_type([(f"p{i}", argument.type) for i, argument in enumerate(expr.args)])
    parameter = Ref("p", type_)
    arguments = tuple(Select(parameter, i, argument.type) for i, argument in enumerate(expr.args))
    body = Apply(expr.op, arguments, expr.type)
    return fm.Computation(Lambda("p", body, fm.FunctionType(type_, expr.type)))
