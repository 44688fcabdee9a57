"""A plan made ready to run: its functions, and what is known before any call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedmpi.language.types import FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.local.bodies import LocalBody
from fedmpi.local.functions import LocalFunction
from fedmpi.runtime.plan import Node, Plan, Stage, reduction_of
from fedmpi.runtime.reduction import Reduction


class Program:
    """A plan with its functions compiled when first needed; kept for all calls of a computation."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._functions: dict[Node, LocalFunction] = {}
        self._reductions: dict[Node, Reduction] = {}

    def function(self, node: Node) -> LocalFunction:
        """Return the function of a ``federated_map``."""
        if node not in self._functions:
            function = node.inputs[0]
            type_ = function.type if isinstance(function, LocalBody) else function.function.type
            assert isinstance(type_, FunctionType)
            self._functions[node] = LocalFunction(function, type_.parameter, type_.result, self.plan.name)
        return self._functions[node]

    def reduction(self, node: Node, member: Type | None = None) -> Reduction:
        """Return the reduction of a node; ``member`` has the open dimensions filled in."""
        if member is not None:
            return reduction_of(node, member)
        if node not in self._reductions:
            self._reductions[node] = reduction_of(node, node.inputs[0].member)
        return self._reductions[node]

    def arrives(self, level: int) -> bool:
        """Whether the ranks agree that nobody failed at the end of a stage's client work."""
        stage = self.plan.stages[level]
        return level == 0 or bool(stage.clients or stage.reductions)

    def confirms(self, level: int) -> bool:
        """Whether rank 0's work after a Reduce can fail or is sent on, so that a word of it goes to all ranks."""
        stage = self.plan.stages[level]
        finished = self.plan.stages[level - 1].reductions
        fallible = any(n.op == "federated_map" for n in stage.server) or any(_has_integers(n.member) for n in finished)
        return level > 0 and (fallible or bool(stage.broadcasts))

    def sent(self, stage: Stage) -> list[Node]:
        """Return the server values that go down in a stage, each once."""
        return list(dict.fromkeys(n.inputs[0] for n in stage.broadcasts))


def has_open_dimensions(type_: Type) -> bool:
    """Tell whether a type leaves dimensions open."""
    match type_:
        case TensorType(_, shape):
            return shape is None or None in shape
        case StructType():
            return any(map(has_open_dimensions, type_))
        case SequenceType():
            return True
    return False


def _has_integers(type_: Type) -> bool:
    match type_:
        case TensorType(dtype, _):
            return dtype.kind in "iu"
        case StructType():
            return any(map(_has_integers, type_))
    return False


def leaf_shapes(type_: Type, value: Any) -> list[list[int]]:
    """Return the shapes of the tensors in a value."""
    if isinstance(type_, StructType):
        return [shape for part, v in zip(type_, value, strict=True) for shape in leaf_shapes(part, v)]
    return [list(getattr(value, "shape", ()))]


def closed(type_: Type, shapes: Iterator[list[int]]) -> Type:
    """Return a type with the tensors' shapes filled in; where none is left, open dimensions are 0."""
    match type_:
        case TensorType(dtype, shape):
            return TensorType(dtype, next(shapes, [d or 0 for d in shape or ()]))
        case StructType():
            return StructType([(name, closed(t, shapes)) for name, t in type_.items()])
    return type_
