"""The plan of a federated computation: from the tree to stages of server work, one Bcast, client work, one Reduce.

The tree is evaluated with nodes as values (functions are applied on the way, so only operators remain).  Each node then
gets its stage: a broadcast belongs to the stage of the server value it sends, a reduction ends the stage of its clients
and its result belongs to the next.  All values that go down in a stage travel together, and so does all that comes up.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from fedmpi.language.errors import CaptureError
from fedmpi.language.operators.table import OPERATORS, Lowering
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import (
    Apply,
    Call,
    Closure,
    Literal,
    Local,
    Select,
    Struct,
    call_closure,
    evaluate,
    show,
    walk,
)
from fedmpi.language.types import FederatedType, FunctionType, StructType, Type, contains
from fedmpi.language.types.placements import CLIENTS
from fedmpi.language.types.presenting import check_presentable
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.loops.writer import Parts
from fedmpi.runtime.plan.nodes import Node, node_inputs, symbols
from fedmpi.runtime.plan.stage import Options, Stage
from fedmpi.runtime.plan.stages import stages_of

PLAIN = Options()


class Builder:
    """Semantics of `evaluate` that build nodes."""

    def __init__(self, root: str, functions: Sequence[Computation]) -> None:
        self.root, self.functions = root, iter(functions)
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self.indices: Node | None = None  # of the clients
        self.placed: list[Node] = []  # the nodes of placed operators, in the order in which they are evaluated

    def parameter(self, type_: Type, path: tuple[str, ...] = ()) -> Any:
        """Return the symbolic parameter: one input node for each placed or unplaced part, functions as they are."""
        if isinstance(type_, StructType) and contains(type_, (FederatedType, FunctionType)):
            items = enumerate(type_.items())
            parts = [self.parameter(t, (*path, name if name is not None else str(i))) for i, (name, t) in items]
            return Parts(tuple(parts), type_)
        path = path or (self.root,)
        if isinstance(type_, FunctionType):
            return evaluate(next(self.functions).expression, {}, self)
        node = self.add("input", type_, detail=path)
        self.inputs.append(node)
        return node

    def add(self, op: str, type_: Type, inputs: Any = (), where: str = "", detail: Any = None) -> Node:
        node = Node(op, type_, tuple(inputs), where, detail)
        self.nodes.append(node)
        return node

    def sent_down(self, value: Node, where: str) -> Node:
        return self.add("federated_broadcast", FederatedType(value.member, CLIENTS, True), (value,), where)

    def literal(self, expr: Literal) -> Node:
        return self.add("literal", expr.type, detail=expr.value)

    def struct(self, expr: Struct, parts: list[Any]) -> Parts:
        return Parts(tuple(parts), expr.type)

    def select(self, expr: Select, source: Any) -> Any:
        if isinstance(source, Parts):
            return source.parts[expr.index]
        return self.add("select", expr.type, (source,), detail=expr.index)

    def local(self, expr: Local) -> LocalBody:
        body: LocalBody = expr.impl
        return body

    def call(self, function: Any, argument: Any, expr: Call) -> Any:
        return self.add("call", expr.type, (function, argument), expr.where)

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        if not isinstance(expr.type, FederatedType):
            return self.add("apply", expr.type, args, expr.where, detail=expr)
        if OPERATORS[expr.op].lowering is Lowering.GIVEN:
            self.indices = self.indices or self.add(expr.op, expr.type, (), expr.where)
            self.placed.append(self.indices)
            return self.indices
        if OPERATORS[expr.op].lowering is Lowering.SELECT:
            keys, max_key, server_val, function = args
            args = [function, keys, *(self.sent_down(value, expr.where) for value in (server_val, max_key))]
        self.placed.append(self.add(expr.op, expr.type, args, expr.where, detail=expr))
        return self.placed[-1]


@dataclass(frozen=True, eq=False)
class Plan:
    """What every rank does for one call: from ``inputs`` and ``unplaced`` values, through ``stages``, to ``result``.

    ``gathered`` are the values at the clients that the result holds; ``indices`` are the clients', if they are needed;
    ``placed`` are all operators in the order of evaluation, also those that the result does not need.
    """

    computation: Computation
    options: Options
    inputs: tuple[Node, ...]
    unplaced: tuple[Node, ...]
    stages: tuple[Stage, ...]
    result: Any
    gathered: tuple[Node, ...]
    fingerprint: int
    indices: Node | None = None
    placed: tuple[Node, ...] = ()

    @functools.cached_property
    def name(self) -> str:
        return self.computation.name


def has_placements(computation: Computation) -> bool:
    """Tell whether a computation needs ranks: it takes, makes or returns placed values."""
    return any(contains(node.type, FederatedType) for node in walk(computation.expression))


def build(computation: Computation, functions: Sequence[Computation] = (), options: Options = PLAIN) -> Plan:
    """Return the plan of a computation; ``functions`` are the values of its functional parameters, in their order."""
    check_presentable(computation.type_signature.result)
    builder = Builder(computation.root, functions)
    parameter = computation.type_signature.parameter
    argument = None if parameter is None else builder.parameter(parameter)
    function = evaluate(computation.expression, {}, builder)
    if isinstance(function, Closure):
        result = call_closure(function, argument, builder)
    else:
        result = builder.call(function, argument, Call(computation.expression, None, computation.type_signature.result))
    _check_functions(computation.name, result)
    nodes = _needed(builder.nodes, result)
    gathered = tuple(node for node in symbols(result) if node.per_client)
    return Plan(
        computation=computation,
        options=options,
        inputs=tuple(builder.inputs),
        unplaced=tuple(n for n in nodes if n.placement is None and n.op != "input"),
        stages=stages_of(nodes, gathered, options),
        result=result,
        gathered=gathered,
        fingerprint=_fingerprint(computation, functions),
        indices=builder.indices if builder.indices in nodes else None,
        placed=tuple(builder.placed),
    )


def _check_functions(name: str, result: Any) -> None:
    """Refuse a function in the result that uses a placed value: it would outlive the call in which that value is."""
    match result:
        case Parts(parts):
            for part in parts:
                _check_functions(name, part)
        case Closure():
            for node in symbols(result):
                if node.placement is not None:
                    raise CaptureError(
                        f"{name}: a function that is returned must use no placed value, found one of type {node.type}",
                        "make it a parameter of that function",
                    )


def _fingerprint(computation: Computation, functions: Sequence[Computation]) -> int:
    """Return a number that is equal for equal programs on all ranks."""
    digest = hashlib.sha256()
    for program in (computation, *functions):
        feed_program(digest, program)
    return int.from_bytes(digest.digest()[:8], "little", signed=True)


def feed_program(digest: Any, program: Computation) -> None:
    """Add to a hash what a computation does: its text, the code of its local computations, its constants."""
    digest.update(f"{program.name} {program.type_signature} {show(program.expression)}".encode())
    for part in walk(program.expression):
        if isinstance(part, Local):
            digest.update(f"{part.impl}".encode())
            _add_code(digest, getattr(part.impl.function, "__code__", None))
        elif isinstance(part, Literal):  # whose text shortens large arrays
            digest.update(part.data if isinstance(part.data, bytes) else repr(part.data).encode())


def _add_code(digest: Any, code: Any) -> None:
    """Add what a Python function does and the constants that it uses, but nothing of where it was read from."""
    if isinstance(code, CodeType):
        digest.update(code.co_code + repr(code.co_names).encode())
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                _add_code(digest, constant)
            elif not isinstance(constant, frozenset):  # whose order depends on the process
                digest.update(repr(constant).encode())


def _needed(nodes: list[Node], result: Any) -> list[Node]:
    """Return the nodes that the result needs, in order."""
    needed: set[Node] = set()
    waiting = list(symbols(result))
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node_inputs(node)
    return [n for n in nodes if n in needed]
