"""The plan as text."""

from __future__ import annotations

from collections.abc import Iterator

from fedmpi.language.types import StructType, Type
from fedmpi.local.bodies import LocalBody
from fedmpi.local.columns import leaf_formats
from fedmpi.runtime.plan import Node, Plan
from fedmpi.runtime.program import Program, has_open_dimensions


def nbytes(type_: Type) -> int | None:
    """Return the bytes of one value, None where the type leaves sizes open."""
    if has_open_dimensions(type_):
        return None
    total = 0
    for dtype, inner in leaf_formats(type_):
        size = dtype.itemsize
        for dimension in inner:
            size *= dimension
        total += size
    return total


def text(plan: Plan) -> str:
    """Return the plan, one line a step."""
    return "\n".join([f"{plan.name} : {plan.computation.type_signature}", *(f"  {line}" for line in _lines(plan))])


def _bytes(nodes: list[Node]) -> str:
    size = nbytes(StructType([n.member for n in nodes]))
    return "bytes as the values have" if size is None else f"{size:,} B"


def _lines(plan: Plan) -> Iterator[str]:
    program = Program(plan)
    yield "header 96 B"
    for level, stage in enumerate(plan.stages):
        for node in stage.server:
            if node.op == "federated_map":
                yield f"server: {_function(node)}"
        if program.levels[level].confirms:
            yield "word 16 B"
        if stage.broadcasts:
            yield f"Bcast {_bytes(program.levels[level].sent)}"
        for node in stage.clients:
            if node.op == "federated_map":
                yield f"clients: {_function(node)}"
        if program.levels[level].arrives:
            yield "agreement 32 B"
        if stage.reductions:
            layout = program.layout(level)
            open_ = layout is None
            slots = "" if layout is None else f"{layout.terms:,} "
            yield from ["sizes: one gather to all, agreement 32 B"] * open_
            yield f"Reduce {slots}exact sums ({', '.join(n.op for n in stage.reductions)})"
    if plan.gathered:
        yield f"Gather {_bytes(plan.gathered)} a client to rank 0"


def _function(node: Node) -> str:
    function = node.inputs[0]
    parameter = "" if isinstance(function, LocalBody) else str(function.function.parameter)
    name = parameter.partition("_arg")[0] or function.name
    return f"{node.op} of {name} at {node.where}"
