"""The reference evaluator: one process, one value at a time, straight from the definitions.

It is the oracle of the tests and shares with the MPI runtime only what both get from the language: it knows no plan, no
packing of messages and no ranks, and it sums with `math.fsum`, so that a sum is the true sum rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.computation import Computation
from fedmpi.language.containers import rebuild
from fedmpi.language.expressions import Apply, Select, call_closure, evaluate
from fedmpi.language.expressions import Closure as ClosureValue
from fedmpi.language.placements import CLIENTS
from fedmpi.language.types import FederatedType, FunctionType, StructType, TensorType, Type
from fedmpi.local.client_data import ClientData
from fedmpi.local.columns import pack
from fedmpi.local.interpret import Interpreter
from fedmpi.local.values import ArgumentError, present
from fedmpi.runtime import records
from fedmpi.runtime.arguments import ClientError, check, client_count, common_count, label, parts_of, refuse
from fedmpi.runtime.functions import as_computation, function_value
from fedmpi.runtime.plan import contains, has_placements


@dataclass(frozen=True)
class AtClients:
    """A value at the clients: one for each."""

    members: tuple[Any, ...]


@dataclass(frozen=True)
class Everywhere:
    """A value at the clients that all have, however many they are."""

    value: Any


class ReferenceContext:
    """Evaluates computations in this process, without MPI; slow, short and obviously right.

    ``num_clients`` is the number of clients of computations that have no argument at the clients.
    """

    def __init__(self, *, num_clients: int | None = None) -> None:
        self.num_clients = num_clients
        self._placed_calls = 0

    def invoke(self, computation: Computation, argument: Any, *, resident: bool = False) -> Any:
        """Return the computation's result for a Python argument."""
        if not records.watching():
            return self._invoke(computation, argument, resident)
        with records.Watch(computation) as watch:
            result = self._invoke(computation, argument, resident)
            placed = has_placements(computation)
            self._placed_calls += placed
            watch.returned(result, self._placed_calls if placed else None)
        return result

    def _invoke(self, computation: Computation, argument: Any, resident: bool) -> Any:
        type_ = computation.type_signature
        try:
            parts = parts_of(computation, argument)
            counts = [
                (p, client_count(computation.name, v, t, p))
                for p, t, v in parts
                if isinstance(t, FederatedType) and _per_client(t)
            ]
            clients = common_count(computation.name, counts)
            clients = self.num_clients if clients is None else clients
            values = iter([_part(value, part_type, path) for path, part_type, value in parts])
        except ArgumentError as error:
            raise refuse(computation.name, error) from None
        semantics = _Reference(clients)
        function = evaluate(computation.expression, {}, semantics)
        value = None if type_.parameter is None else _assemble(type_.parameter, values, parts)
        return _present(semantics.invoke(function, value), type_.result, resident)

    def client_data(self, values: Any, type_: Any, *, storage: str = "auto") -> ClientData:
        """Pack a list of all clients' values; see `fm.client_data`."""
        from fedmpi.runtime.client_data import pack_all

        return pack_all(values, type_, storage)

    def client_data_from_arrays(
        self, arrays: Any, offsets: Any, type_: Any, batch_size: int | None = None, *, storage: str = "auto"
    ) -> ClientData:
        """Keep views of the arrays; see `fm.client_data_from_arrays`."""
        from fedmpi.runtime.from_arrays import from_arrays

        return from_arrays(arrays, offsets, type_, batch_size, storage, [0], 0)

    def replicate(self, value: Any) -> Any:
        """Return the value: there is one process."""
        return value

    @property
    def is_server(self) -> bool:
        """Whether this process has what is at the server: it has."""
        return True


def _per_client(type_: Type) -> bool:
    return isinstance(type_, FederatedType) and type_.placement is CLIENTS and not type_.all_equal


def _part(value: Any, type_: Type, path: tuple[str, ...]) -> Any:
    if isinstance(type_, FunctionType):
        return function_value(value, type_, path)
    if not isinstance(type_, FederatedType):
        return check(value, type_, path)
    if not _per_client(type_):
        member = check(value, type_.member, path)
        return Everywhere(member) if type_.placement is CLIENTS else member
    if isinstance(value, ClientData):
        if not value.complete:
            raise ArgumentError(str(type_), "a ClientData of several ranks").inside(label(path))
        if not type_.member.is_assignable_from(value.type):
            raise ArgumentError(str(type_), value.fedmpi_description).inside(label(path))
        return AtClients(tuple(value.members()))
    members = []
    for index, member in enumerate(value):
        try:
            members.append(check(member, type_.member, ()))
        except ArgumentError as error:
            raise ArgumentError(error.expected, error.found, error.hint).inside(
                ", ".join([label(path), f"client {index}", *error.path[1:]])
            ) from None
    return AtClients(tuple(members))


def _assemble(type_: Type, values: Any, parts: Any) -> Any:
    if len(parts) == 1 and parts[0][1] is type_:
        return next(values)
    assert isinstance(type_, StructType)
    return tuple(_next(t, values) for t in type_)


def _next(type_: Type, values: Any) -> Any:
    if isinstance(type_, StructType) and contains(type_, (FederatedType, FunctionType)):
        return tuple(_next(t, values) for t in type_)
    return next(values)


class _Reference(Interpreter):
    """The interpreter with placements: an `AtClients` for each value at the clients, the value itself at the server."""

    def __init__(self, clients: int | None) -> None:
        self.clients = clients

    def select(self, expr: Select, source: Any) -> Any:
        if isinstance(source, AtClients):
            return AtClients(tuple(member[expr.index] for member in source.members))
        if isinstance(source, Everywhere):
            return Everywhere(source.value[expr.index])
        return source[expr.index]

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        if not isinstance(expr.type, FederatedType):
            return super().apply(expr, args)
        match expr.op:
            case "federated_broadcast":
                return Everywhere(args[0])
            case "federated_value":
                return Everywhere(args[0]) if expr.type.placement is CLIENTS else args[0]
            case "federated_map":
                function, value = args
                if expr.type.placement is not CLIENTS:
                    return self.invoke(function, value)
                return AtClients(tuple(self._for_client(function, m, i) for i, m in enumerate(self.members(value))))
            case "federated_zip":
                if expr.type.placement is not CLIENTS:
                    return args[0]
                if expr.type.all_equal:
                    return Everywhere(self._everywhere(args[0]))
                return AtClients(tuple(self._zipped(args[0], i) for i in range(self.count())))
            case "federated_sum":
                return _total(self.members(args[0]), None, expr.type.member)
            case "federated_mean":
                weights = self.members(args[1]) if len(args) > 1 else (1,) * self.count()
                if not weights:
                    raise ValueError("federated_mean: there are no clients to take the mean over")
                return _mean(self.members(args[0]), weights, expr.type.member)
        raise ValueError(f"{expr.op} has no evaluation")

    def _for_client(self, function: Any, member: Any, index: int) -> Any:
        try:
            return self.invoke(function, member)
        except ClientError:
            raise
        except Exception as error:
            error.add_note(f"in federated_map for client {index}")
            raise

    def members(self, value: AtClients | Everywhere) -> tuple[Any, ...]:
        """Return each client's value."""
        return value.members if isinstance(value, AtClients) else (value.value,) * self.count()

    def count(self) -> int:
        """Return the number of clients."""
        if self.clients is None:
            raise ValueError("the number of clients is not known: say it with fm.ReferenceContext(num_clients=…)")
        return self.clients

    def _everywhere(self, value: Any) -> Any:
        return value.value if isinstance(value, Everywhere) else tuple(map(self._everywhere, value))

    def _zipped(self, value: Any, index: int) -> Any:
        if isinstance(value, AtClients | Everywhere):
            return self.members(value)[index]
        return tuple(self._zipped(part, index) for part in value)


def _total(members: Any, weights: Any, type_: Type) -> Any:
    """Return the sum of (weighted) members, rounded once to the type."""
    if isinstance(type_, StructType):
        return tuple(_total([m[i] for m in members], weights, t) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    if type_.dtype.kind in "iu":
        return _integer_sum(members, type_)
    return _rounded(_true_sum(members, weights, type_, 1.0), type_)


def _mean(members: Any, weights: Any, type_: Type) -> Any:
    if isinstance(type_, StructType):
        return tuple(_mean([m[i] for m in members], weights, t) for i, t in enumerate(type_))
    assert isinstance(type_, TensorType)
    total = np.float64(
        math.fsum(float(w) for w in weights) if all(map(math.isfinite, weights)) else sum(map(float, weights))
    )
    with np.errstate(all="ignore"):
        return _rounded(_true_sum(members, weights, type_, total), type_)


def _true_sum(members: Any, weights: Any, type_: TensorType, divisor: Any) -> Any:
    """Return the true sum over ``divisor``; of complex numbers, part by part."""
    shape = np.shape(members[0]) if members else tuple(d or 0 for d in type_.shape or ())
    if any(np.shape(member) != shape for member in members):
        raise ValueError("the clients' values differ in size")
    if type_.dtype.kind == "c":
        parts = TensorType(np.float64, type_.shape)
        total = np.zeros(shape, dtype=np.complex128)
        total.real = _true_sum([np.real(m) for m in members], weights, parts, divisor)
        total.imag = _true_sum([np.imag(m) for m in members], weights, parts, divisor)
        return total
    sums = np.zeros(shape, dtype=np.float64)
    with np.errstate(all="ignore"):
        terms = [
            np.asarray(m, dtype=np.float64) * np.float64(1 if weights is None else weights[i])
            for i, m in enumerate(members)
        ]
        for index in np.ndindex(*shape):
            sums[index] = _fsum([t[index] for t in terms])
        return sums / divisor


def _fsum(terms: Any) -> float:
    if all(map(math.isfinite, terms)):
        try:
            return math.fsum(terms)
        except OverflowError:  # beyond float64: infinity of the true sum's sign
            return math.inf if sum(math.frexp(t)[0] for t in terms) > 0 else -math.inf
    with np.errstate(all="ignore"):
        return float(np.sum(np.array([t for t in terms if not math.isfinite(t)])))


def _rounded(total: Any, type_: TensorType) -> Any:
    with np.errstate(all="ignore"):
        array = np.asarray(total).astype(type_.dtype) + type_.dtype.type(0)  # -0.0 becomes +0.0
    if type_.dtype.kind == "f":
        array = np.where(np.isnan(array), type_.dtype.type(np.nan), array).astype(type_.dtype)
    return array[()]


def _integer_sum(members: Any, type_: TensorType) -> Any:
    exact = np.zeros(tuple(d or 0 for d in type_.shape or ()), dtype=object)
    for member in members:
        exact = exact + np.asarray(member).astype(object)
    info = np.iinfo(type_.dtype)
    for value in np.asarray(exact, dtype=object).reshape(-1):
        if not info.min <= value <= info.max:
            raise OverflowError(f"federated_sum: the sum does not fit {type_.dtype.name}: it is {value}")
    return np.asarray(exact).astype(type_.dtype)[()]


def _present(value: Any, type_: Type, resident: bool) -> Any:
    """Return a result as Python values: a list for a value at the clients, the member where all are equal."""
    match type_:
        case FederatedType(member):
            if isinstance(value, AtClients):
                if resident:
                    return ClientData(member, np.zeros(len(value.members), np.int32), 0, pack(member, value.members))
                return [present(v, member) for v in value.members]
            return present(value.value if isinstance(value, Everywhere) else value, member)
        case StructType():
            return rebuild(type_, [_present(v, t, resident) for v, t in zip(value, type_, strict=True)])
        case FunctionType():
            return as_computation(value, type_)
    return present(value, type_)


__all__ = ["ClosureValue", "ReferenceContext", "call_closure"]
