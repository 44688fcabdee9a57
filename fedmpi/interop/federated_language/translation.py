"""From the tree of a computation of ``federated_language`` to fedmpi's.

The two trees have the same nodes.  What differs: intrinsics are function values there and operators here; a local
computation is a `Data` block there, whose content names an entry of `kernels`; names may shadow each other there and
are unique here; and a tree there does not know the Python containers of its structs, only the computation does.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from federated_language import framework as blocks

from fedmpi.interop.federated_language import intrinsics, kernels
from fedmpi.interop.federated_language.types import to_fedmpi
from fedmpi.language.checking import check
from fedmpi.language.errors import LeakedValueError, Report, UnsupportedValueError, reporting
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import (
    Block,
    Call,
    Expr,
    Lambda,
    Literal,
    Local,
    Ref,
    Struct,
    free,
    root_of,
)
from fedmpi.language.types import FunctionType, StructType, TensorType, Type
from fedmpi.runtime.plan.function_values import Constant

Names = Mapping[str, Ref]


def translate(computation: Any) -> Computation:
    """Return fedmpi's computation for one of ``federated_language``; it is made once.

    It can be given to `fm.plan`, called, and run with what is at the clients left there (``.resident``).  Raises
    `UnsupportedValueError` (also a `ValueError`) for blocks of other backends.
    """
    if not isinstance(computation, blocks.ConcreteComputation):
        raise TypeError(f"translate: expected a computation of federated_language, found {computation!r}")
    # Equal computations may return their structs in different containers, which the type alone knows.
    return _translated(computation, computation.type_signature)


@functools.lru_cache(maxsize=4096)
def _translated(computation: Any, type_: Any) -> Computation:
    block = computation.to_building_block()
    signature = to_fedmpi(type_)
    assert isinstance(signature, FunctionType)
    name = _name(block) or "computation"
    with reporting(name):
        if isinstance(block, blocks.Data):
            return kernels.of(block)
        expr = _Translation(name).function(block, signature)
        check(expr)
    return Computation(expr, name=name, doc=computation.__doc__, names=_parameters(signature))


def _name(block: Any) -> str | None:
    """Return the name of the Python function that a block was traced from: the names in it are made of that."""
    name = ""
    if isinstance(block, blocks.Lambda):
        name = block.parameter_name or ""
        if not name and isinstance(block.result, blocks.Block):
            name = block.result.locals[0][0]
    found = re.fullmatch(r"fc_(.+)_symbol_\d+|(.+)_arg", name)
    return None if found is None else (found[1] or found[2]).replace("<lambda>", "lambda")


def _parameters(signature: FunctionType) -> tuple[str, ...]:
    parameter = signature.parameter
    return tuple(parameter.fields()) if isinstance(parameter, StructType) else ()


class _Translation:
    """One walk over a tree; ``names`` maps its names to ours.

    A tree does not tell lines of the user's program: error texts name the function instead (``where``).
    """

    def __init__(self, where: str) -> None:
        self._counters: dict[str, itertools.count[int]] = {}
        self._where = where

    def function(self, block: Any, signature: FunctionType) -> Lambda:
        """Return the outermost function, with the Python containers of its type."""
        if isinstance(block, blocks.Lambda):
            return self._lambda(block, {}, signature)
        value = self.expr(block, {})  # a function that is not written as one, such as what a call returns
        if signature.parameter is None:
            return Lambda(None, Call(value, None, signature.result), signature)
        parameter = self._fresh("arg", signature.parameter)
        return Lambda(parameter.name, Call(value, parameter, signature.result), signature)

    def expr(self, block: Any, names: Names) -> Expr:
        """Return the expression of a block."""
        match block:
            case blocks.Reference():
                return _looked_up(block, names)
            case blocks.Literal():
                return _literal(block.value, to_fedmpi(block.type_signature))
            case blocks.Struct():
                parts = [(name, self.expr(part, names)) for name, part in block.items()]
                type_ = StructType([(name, part.type) for name, part in parts])
                return Struct(tuple(part for _, part in parts), type_)
            case blocks.Selection():
                return intrinsics.selected(self.expr(block.source, names), block.as_index())
            case blocks.Lambda():
                return self._lambda(block, names)
            case blocks.Block():
                return self._block(block, names)
            case blocks.Call():
                return self._call(block, names)
            case blocks.Intrinsic():
                return self._intrinsic_value(block)
            case blocks.Data():
                return kernels.of(block).expression
            case blocks.CompiledComputation():
                backend = block.to_proto().WhichOneof("computation")
                raise UnsupportedValueError(
                    f"a computation of the backend {backend!r} cannot run on fedmpi",
                    "write it with numba_computation or python_computation of fedmpi.interop.federated_language",
                )
        raise UnsupportedValueError(f"no value of fedmpi: a block of class {type(block).__name__}")

    def _fresh(self, name: str, type_: Type) -> Ref:
        name = name.replace("<lambda>", "lambda")
        number = next(self._counters.setdefault(name, itertools.count()))
        return Ref(f"{name}_{number}" if number else name, type_)

    def _lambda(self, block: Any, names: Names, signature: FunctionType | None = None) -> Lambda:
        parameter = None
        if block.parameter_type is not None:
            type_ = to_fedmpi(block.parameter_type) if signature is None else signature.parameter
            assert type_ is not None
            parameter = self._fresh(block.parameter_name, type_)
            names = {**names, block.parameter_name: parameter}
        around, self._where = self._where, _name(block) or self._where
        body = self.expr(block.result, names)
        self._where = around
        made = FunctionType(None if parameter is None else parameter.type, body.type)
        return Lambda(None if parameter is None else parameter.name, body, signature or made)

    def _block(self, block: Any, names: Names) -> Expr:
        inside, locals_ = dict(names), []
        for name, local in block.locals:
            bound = self.expr(local, inside)
            inside[name] = self._fresh(name, bound.type)
            locals_.append((inside[name].name, bound))
        result = self.expr(block.result, inside)
        return Block(tuple(locals_), result, result.type)

    def _call(self, block: Any, names: Names) -> Expr:
        argument = None if block.argument is None else self.expr(block.argument, names)
        if isinstance(block.function, blocks.Intrinsic):
            assert argument is not None
            return self._applied(block.function.uri, argument)
        function = self.expr(block.function, names)
        assert isinstance(function.type, FunctionType)
        return Call(function, argument, function.type.result, self._where)

    def _intrinsic_value(self, block: Any) -> Expr:
        """Return an intrinsic that is not called on the spot as a function."""
        type_ = to_fedmpi(block.type_signature)
        if block.uri == intrinsics.GENERIC_ZERO:
            return intrinsics.zero(type_)
        assert isinstance(type_, FunctionType)
        assert type_.parameter is not None
        parameter = self._fresh("arg", type_.parameter)
        body = self._applied(block.uri, parameter)
        return Lambda(parameter.name, body, FunctionType(parameter.type, body.type))

    def _applied(self, uri: str, argument: Expr) -> Expr:
        """Return an intrinsic applied to its argument; what it uses in several places is bound to a name first."""
        locals_: list[tuple[str, Expr]] = []

        def named(expr: Expr) -> Expr:
            if isinstance(expr, Lambda | Local | Literal) or intrinsics.is_path(expr):
                return expr
            ref = self._fresh("value", expr.type)
            locals_.append((ref.name, expr))
            return ref

        count = intrinsics.arity(uri)
        if count == 1:
            arguments = [argument]
        elif isinstance(argument, Struct):
            arguments = list(argument.elements)
        else:
            source = named(argument)
            arguments = [intrinsics.selected(source, index) for index in range(count)]
        if uri in intrinsics.REPEATING:
            arguments = [named(each) for each in arguments]
        result = intrinsics.applied(uri, [_unwrapped(each) for each in arguments], self._where)
        return Block(tuple(locals_), result, result.type) if locals_ else result


def _unwrapped(expr: Expr) -> Expr:
    """Return the function that a function calls with its own parameter, and does nothing else.

    ``federated_language`` wraps so what takes a struct with names, where one without is given.
    """
    match expr:
        case Lambda(name, Call(function, Ref(argument))) if name == argument:
            if all(root_of(use).name != name for use in free(function)):
                return function
    return expr


def _looked_up(block: Any, names: Names) -> Ref:
    if block.name not in names:
        report = Report(
            f"the value {block.name} of type {block.type_signature} belongs to another computation and cannot be used "
            "here",
            hint="return it from there, or make it a parameter of the computation that uses it",
        )
        raise LeakedValueError(str(report))
    return names[block.name]


def _literal(value: Any, type_: Type) -> Expr:
    assert isinstance(type_, TensorType)
    if type_.dtype.kind != "U":
        array = np.asarray(value, type_.dtype)
        return Literal(array.tobytes(), TensorType(type_.dtype, array.shape))
    if isinstance(value, np.ndarray):
        texts = np.array([kernels.decoded(text) for text in value.flat], dtype=object).reshape(value.shape)
        constant = Constant(texts, TensorType(type_.dtype, value.shape))
        return Call(Local(constant, constant.type), None, constant.type.result)
    return Literal(kernels.decoded(value), TensorType(type_.dtype))
