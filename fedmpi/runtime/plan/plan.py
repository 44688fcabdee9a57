"""The plan of a federated computation: from the tree to stages of server work, one Bcast, client work, one Reduce.

The tree is evaluated with nodes as values (functions are applied on the way, so only operators remain).  Each node then
gets its stage: a broadcast belongs to the stage of the server value it sends, a reduction ends the stage of its clients
and its result belongs to the next.  All values that go down in a stage travel together, and so does all that comes up.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from fedmpi.language.errors import CaptureError
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import (
    Apply,
    Call,
    Closure,
    Env,
    Expr,
    Kernel,
    Literal,
    Select,
    Struct,
    call_closure,
    evaluate,
    free,
    root_of,
    show,
    walk,
)
from fedmpi.language.types import FederatedType, FunctionType, StructType, TensorType, Type, contains
from fedmpi.language.types.placements import CLIENTS, SERVER, PlacementLiteral
from fedmpi.language.types.presenting import check_presentable
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.loops.codegen import Parts
from fedmpi.runtime.mpi.stdout import fitting
from fedmpi.runtime.plan.reduction import Reduction


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


SECURE_SUMS = ("federated_secure_sum", "federated_secure_sum_bitwidth", "federated_secure_modular_sum")
SUMS = ("federated_sum", "federated_mean", "federated_min", "federated_max", *SECURE_SUMS)  # numbers, by one Reduce
UPWARD = (*SUMS, "federated_aggregate")
SELECTIONS = ("federated_select", "federated_secure_select")


class Builder:
    """Semantics of `evaluate` that build nodes."""

    def __init__(self, root: str, functions: Sequence[Computation]) -> None:
        self.root, self.functions = root, iter(functions)
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []

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

    def kernel(self, expr: Kernel) -> LocalBody:
        body: LocalBody = expr.impl
        return body

    def call(self, function: Any, argument: Any, expr: Call) -> Any:
        return self.add("call", expr.type, (function, argument), expr.where)

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        if not isinstance(expr.type, FederatedType):
            return self.add("apply", expr.type, args, expr.where, detail=expr)
        if expr.op in SELECTIONS:
            keys, max_key, server_val, function = args
            args = [function, keys, *(self.sent_down(value, expr.where) for value in (server_val, max_key))]
        return self.add(expr.op, expr.type, args, expr.where, detail=expr)


@dataclass
class Stage:
    """One trip down and up: server work, what is broadcast, client work, what is reduced and what is folded."""

    server: list[Node] = field(default_factory=list)
    broadcasts: list[Node] = field(default_factory=list)
    clients: list[Node] = field(default_factory=list)
    reductions: list[Node] = field(default_factory=list)
    folds: list[Node] = field(default_factory=list)


@dataclass(repr=False)
class Plan:
    """What every rank does for one call; see `fm.plan`."""

    computation: Computation
    inputs: list[Node]
    unplaced: list[Node]
    stages: list[Stage]
    result: Any
    gathered: list[Node]
    kept: set[Node]
    fingerprint: int
    refused: dict[int, str] = field(default_factory=dict)  # stages whose loop Numba refused, and why
    # What the text needs besides: the context's ``reduction`` and ``fuse``, and a number of clients.
    mode: str = "exact"
    fuse: bool | None = None
    clients: int | None = None

    @property
    def name(self) -> str:
        return self.computation.name

    def __str__(self) -> str:
        from fedmpi.runtime.show.plan_text import text

        return fitting(text(self))

    __repr__ = __str__


def has_placements(computation: Computation) -> bool:
    """Tell whether a computation needs ranks: it takes, makes or returns placed values."""
    return any(contains(node.type, FederatedType) for node in walk(computation.expression))


def build(computation: Computation, functions: Sequence[Computation] = ()) -> Plan:
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
    stages = _stages(nodes)
    placed = [n for n in result_nodes(result) if n.per_client]
    later = {i for n in nodes for i in node_inputs(n) if i.per_client and i.stage < n.stage - (n.op in UPWARD)}
    return Plan(
        computation=computation,
        inputs=builder.inputs,
        unplaced=[n for n in nodes if n.placement is None and n.op != "input"],
        stages=stages,
        result=result,
        gathered=placed,
        kept=later | set(placed),
        fingerprint=_fingerprint(computation, functions),
    )


def _check_functions(name: str, result: Any) -> None:
    """Refuse a function in the result that uses a placed value: it would outlive the call in which that value is."""
    match result:
        case Parts(parts):
            for part in parts:
                _check_functions(name, part)
        case Closure():
            for node in _symbols(result):
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
        if isinstance(part, Kernel):
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


def _symbols(value: Any) -> Iterator[Node]:
    """Yield the nodes in a symbolic value: a struct's, and those that a function captured and uses."""
    match value:
        case Node():
            yield value
        case Parts(parts):
            for part in parts:
                yield from _symbols(part)
        case Closure(function, env):
            for use in free(function):
                yield from _symbols(_captured(use, env))


def _captured(use: Expr, env: Env) -> Any:
    """Return what a free use in a function stands for: of a struct, the part alone that it selects."""
    if isinstance(use, Select):
        source = _captured(use.source, env)
        return source.parts[use.index] if isinstance(source, Parts) else source
    return env[root_of(use).name]


def node_inputs(node: Node) -> list[Node]:
    """Return the nodes whose values a node needs."""
    return [n for value in node.inputs for n in _symbols(value)]


def result_nodes(result: Any) -> list[Node]:
    """Return the nodes in a symbolic result."""
    return list(_symbols(result))


def _needed(nodes: list[Node], result: Any) -> list[Node]:
    """Return the nodes that the result needs, in order."""
    needed: set[Node] = set()
    waiting = result_nodes(result)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node_inputs(node)
    return [n for n in nodes if n in needed]


def _stages(nodes: list[Node]) -> list[Stage]:
    """Set each node's stage and return the stages."""
    for node in nodes:
        node.stage = max((i.stage for i in node_inputs(node)), default=0)
        if node.op in UPWARD:
            node.stage += 1  # the result is there in the next stage
    stages = [Stage() for _ in range(1 + max((n.stage for n in nodes), default=0))]
    for node in nodes:
        if node.op in SUMS:
            stages[node.stage - 1].reductions.append(node)
        elif node.op in UPWARD:
            stages[node.stage - 1].folds.append(node)
        elif node.op == "federated_broadcast":
            stages[node.stage].broadcasts.append(node)
        elif node.op != "input" and node.placement is SERVER:
            stages[node.stage].server.append(node)
        elif node.op != "input" and node.placement is CLIENTS:
            stages[node.stage].clients.append(node)
    return stages


def reduction_of(node: Node, member: Type) -> Reduction:
    """Return the reduction of a node whose members have this type (open dimensions filled in)."""
    given = weight_of(node)
    weight = None if given is None else given.member
    assert weight is None or isinstance(weight, TensorType)
    return Reduction(node.op, member, weight)


def weight_of(node: Node) -> Node | None:
    """Return the weights of a reduction, where it has any."""
    return node.inputs[1] if node.op == "federated_mean" and len(node.inputs) > 1 else None
