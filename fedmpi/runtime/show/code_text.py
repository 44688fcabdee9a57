"""The generated code of a computation, as text: what Numba compiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import Closure, Local, evaluate, free
from fedmpi.language.types import FunctionType, contains
from fedmpi.local.computations.bodies import LocalBody, NotCompilable
from fedmpi.local.loops.codegen import Generator
from fedmpi.local.loops.functions import has_loop
from fedmpi.local.loops.interpret import Interpreter
from fedmpi.local.loops.lifting import generate, text_of
from fedmpi.local.typed.tokens import TypeToken
from fedmpi.runtime.plan.decision import No
from fedmpi.runtime.plan.loop_text import LoopWriter
from fedmpi.runtime.plan.nodes import Node, function_type
from fedmpi.runtime.plan.plan import has_placements
from fedmpi.runtime.plan.stage import Stage
from fedmpi.runtime.show.plan_text import planned

LEGEND = (
    "a0 … a9: the accumulator's planes, slots, keys, digits, notes, room, plain sums, ordered keys, masked sums, "
    "limits; a10: each client's block; then columns with the clients' rows, what is kept, states, what all share"
)


def unplanned(computation: Computation) -> str:
    """Return why a computation has no plan of its own, "" where it has one."""
    if contains(computation.type_signature.parameter, FunctionType):
        return "made at each call, for the functions that it is given"
    if any(free(computation.expression)):
        return "that of the computation around it, whose values it uses"
    return ""


def texts(computation: Computation, clients: int | None) -> Iterator[str]:
    """Yield the lines of all that is compiled for a computation, stage by stage, and what the names in it stand for."""
    if reason := unplanned(computation):
        yield f"  {reason}"
    elif not has_placements(computation):
        yield from _of_function(computation)
    else:
        stages = planned("explain", computation, clients).stages
        if not any(stage.has_clients or any(map(has_loop_of, stage.server)) for stage in stages):
            yield "  none is generated: values travel, and no function works on them in a loop"
        for stage in stages:
            for node in (*stage.server, *stage.shared):
                if has_loop_of(node):
                    yield from _of_node(node)
            if stage.has_clients:
                yield from _of_stage(stage)


def loop_text(stage: Stage) -> str:
    """Return the text of a stage's loop; raise `NotCompilable` where it has none."""
    return _shown(LoopWriter(stage, tuple(() for _ in stage.columns), folds=True).generator, "clients")


def _of_stage(stage: Stage) -> Iterator[str]:
    if isinstance(stage.compiled, No):
        yield f"  stage {stage.number}: client by client, for {stage.compiled.reason}"
    else:
        yield f"  stage {stage.number}: the clients of a rank"
        yield f"    # {LEGEND}"
        yield from _indented(loop_text(stage))


def has_loop_of(node: Node) -> bool:
    """Tell whether the function of a node works through a sequence, so that it is compiled as a whole."""
    function = node.inputs[0] if node.applies else None
    return isinstance(function, Closure) and has_loop(function.function.body)


def _of_node(node: Node) -> Iterator[str]:
    type_ = function_type(node.inputs[0])
    yield f"  stage {node.stage}: {node}"
    yield from _written(node.inputs[0], type_)


def _of_function(computation: Computation) -> Iterator[str]:
    type_ = computation.type_signature
    assert isinstance(type_, FunctionType)
    if isinstance(computation.expression, Local) or not has_loop(computation.expression):
        yield "  none is generated: it runs as its local computations do"
        return
    yield from _written(evaluate(computation.expression, {}, Interpreter()), type_)


def _written(function: Any, type_: FunctionType) -> Iterator[str]:
    try:
        generator, _ = generate(function, type_.parameter, type_.result)
    except NotCompilable as reason:
        yield f"    it is interpreted, for {reason}"
        return
    yield from _indented(_shown(generator, "function"))


def _shown(generator: Generator, name: str) -> str:
    """Return a generated text, below a line for each name of its scope that is no function of fedmpi's."""
    text = text_of(generator, name, remarks=True).rstrip()
    meanings = {key: generator.meanings.get(key) or _meaning(value) for key, value in generator.scope.items()}
    said = [f"# {key}: {meaning}" for key, meaning in meanings.items() if meaning and re.search(rf"\b{key}\b", text)]
    return "\n".join([*said, text])


def _meaning(value: Any) -> str:
    match value:
        case LocalBody():
            return f"{value.name} ({value.where})" if value.where else value.name
        case TypeToken():
            return f"the type {value.type}" + (f", of {value.label}" if value.label else "")
        case np.ndarray() | np.generic() | bool() | int() | float() | str() | tuple():
            return repr(value)
        case type() if hasattr(value, "_fields"):
            return f"a record of {', '.join(value._fields)}"
        case type():
            return value.__name__
    return ""


def _indented(text: str) -> Iterator[str]:
    yield from (f"    {line}".rstrip() for line in text.split("\n"))
