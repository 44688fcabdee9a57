"""The nodes of a plan: values, and the operators that make them of others."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedmpi.language.operators.table import OPERATORS, Lowering, Operator
from fedmpi.language.tree.expressions import Closure, Env, Expr, Select, free, root_of
from fedmpi.language.types import FederatedType, FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.language.types.placements import CLIENTS, PlacementLiteral
from fedmpi.language.types.walking import leaves_of
from fedmpi.local.columns.column import slot_formats
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.loops.writer import Parts

VALUE, ZERO, ACCUMULATE, MERGE, REPORT = range(5)  # the inputs of a federated_aggregate


@dataclass(eq=False, repr=False)
class Node:
    """One value of the plan: an input, or an operator applied to other values."""

    op: str
    type: Type
    inputs: tuple[Any, ...] = ()
    where: str = ""
    detail: Any = None  # input: its path; literal: its value; select: the index; apply: the expression
    stage: int = 0

    @functools.cached_property
    def placement(self) -> PlacementLiteral | None:
        return self.type.placement if isinstance(self.type, FederatedType) else None

    @functools.cached_property
    def member(self) -> Type:
        return self.type.member if isinstance(self.type, FederatedType) else self.type

    @functools.cached_property
    def per_client(self) -> bool:
        """Whether each client has a value of its own."""
        return self.placement is CLIENTS and isinstance(self.type, FederatedType) and not self.type.all_equal

    @functools.cached_property
    def operator(self) -> Operator | None:
        """The row of the table; None for an input, a literal, a selected element, unplaced work."""
        return OPERATORS.get(self.op)

    @functools.cached_property
    def lowering(self) -> Lowering | None:
        """How the operator runs, where it is one."""
        return None if self.operator is None else self.operator.lowering

    @functools.cached_property
    def applies(self) -> bool:
        """Whether a function, the first of the inputs, is applied at the places."""
        return self.operator is not None and self.operator.applies

    @functools.cached_property
    def is_given(self) -> bool:
        """Whether the value is there before any work: an argument, or the clients' indices."""
        return self.op == "input" or self.lowering is Lowering.GIVEN

    @functools.cached_property
    def goes_up(self) -> bool:
        """Whether it brings the clients' values to the server."""
        return self.operator is not None and self.operator.goes_up

    @functools.cached_property
    def weight(self) -> Node | None:
        """The weights of a reduction, where it has any."""
        return self.inputs[1] if self.op == "federated_mean" and len(self.inputs) > 1 else None

    def __str__(self) -> str:
        return f"{self.op} at {self.where}" if self.where else self.op


def symbols(value: Any) -> Iterator[Node]:
    """Yield the nodes in a symbolic value: a struct's, and those that a function captured and uses."""
    match value:
        case Node():
            yield value
        case Parts(parts):
            for part in parts:
                yield from symbols(part)
        case Closure(function, env):
            for use in free(function):
                yield from symbols(_captured(use, env))


def _captured(use: Expr, env: Env) -> Any:
    """Return what a free use in a function stands for: of a struct, the part alone that it selects."""
    if isinstance(use, Select):
        source = _captured(use.source, env)
        return source.parts[use.index] if isinstance(source, Parts) else source
    return env[root_of(use).name]


def node_inputs(node: Node) -> list[Node]:
    """Return the nodes whose values a node needs."""
    return [n for value in node.inputs for n in symbols(value)]


def result_nodes(result: Any) -> list[Node]:
    """Return the nodes in a symbolic result."""
    return list(symbols(result))


def function_type(function: Any) -> FunctionType:
    """Return the type of a symbolic function."""
    type_ = function.type if isinstance(function, LocalBody) else function.function.type
    assert isinstance(type_, FunctionType)
    return type_


def folding_state(node: Node) -> Type:
    """Return the type of the state of a ``federated_aggregate``: that which its function takes."""
    parameter = function_type(node.inputs[ACCUMULATE]).parameter
    assert isinstance(parameter, StructType)
    return parameter[0]


def has_open_dimensions(type_: Type) -> bool:
    """Tell whether a type leaves dimensions open."""
    return any(
        isinstance(leaf, SequenceType) or (isinstance(leaf, TensorType) and (leaf.shape is None or None in leaf.shape))
        for leaf in leaves_of(type_)
    )


def nbytes(types: list[Type]) -> int | None:
    """Return the bytes of one value of each type, None where a type leaves sizes open."""
    if any(map(has_open_dimensions, types)):
        return None
    return sum(dtype.itemsize * math.prod(inner) for type_ in types for dtype, inner in slot_formats(type_))
