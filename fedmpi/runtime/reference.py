"""The reference evaluator: one process, one value at a time, straight from the definitions.

It is the oracle of the tests and shares with the MPI runtime only what both get from the language: it knows no plan, no
packing of messages and no ranks, and its sums are `math.fsum` and fractions (`fedmpi.runtime.reference_sums`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.source import user_location
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.default_context import Installable
from fedmpi.language.tree.expressions import Apply, Local, Select, call_closure, evaluate
from fedmpi.language.tree.expressions import Closure as ClosureValue
from fedmpi.language.types import FederatedType, FunctionType, SequenceType, StructType, Type, contains
from fedmpi.language.types.placements import CLIENTS
from fedmpi.language.types.presenting import rebuild
from fedmpi.local.columns.client_data import ClientData, Indices
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.columns.values import ArgumentError, present
from fedmpi.local.jit.debugging import debugging
from fedmpi.local.loops.interpret import Interpreter
from fedmpi.local.sums.weights import check_weight
from fedmpi.runtime import reference_sums, watch
from fedmpi.runtime.arguments.checks import check, client_count, common_cohort, common_count, label, parts_of
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.failures import refuse
from fedmpi.runtime.plan.function_values import as_computation, function_value
from fedmpi.runtime.plan.plan import has_placements
from fedmpi.runtime.stage import debug_mode as debug_checks
from fedmpi.runtime.stage.limits import limits_of
from fedmpi.runtime.stage.nonfinite import NONFINITE, Found, tell


@dataclass(frozen=True)
class AtClients:
    """A value at the clients: one for each."""

    members: tuple[Any, ...]


@dataclass(frozen=True)
class Everywhere:
    """A value at the clients that all have, however many they are."""

    value: Any


class ReferenceContext(Installable):
    """Evaluates computations in this process, without MPI; slow, short and obviously right.

    ``num_clients`` is the number of clients of computations that have no argument at the clients; ``nonfinite`` says
    what infinite and NaN terms of sums and means do, as for `fm.MpiContext`: "propagate" or "raise" `ValueError`.
    """

    def __init__(self, *, num_clients: int | None = None, nonfinite: str = "propagate") -> None:
        if nonfinite not in NONFINITE:
            raise ValueError(f"ReferenceContext: nonfinite must be 'propagate' or 'raise', found {nonfinite!r}")
        self.num_clients, self.nonfinite = num_clients, nonfinite
        self._placed_calls = 0

    def invoke(self, computation: Computation, argument: Any, *, resident: bool = False) -> Any:
        """Return the computation's result for a Python argument."""
        if not watch.watching():
            return self._invoke(computation, argument, resident)
        with watch.Watch(computation) as record:
            result = self._invoke(computation, argument, resident)
            placed = has_placements(computation)
            self._placed_calls += placed
            record.returned(result, self._placed_calls if placed else None)
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
            cohort = common_cohort(computation.name, [(p, v) for p, t, v in parts if _per_client(t)])
            values = iter([_part(value, part_type, path, cohort) for path, part_type, value in parts])
        except ArgumentError as error:
            raise refuse(computation.name, error) from None
        arguments = [label(path) for path, _ in counts]
        semantics = _Reference(clients, self.nonfinite == "raise", computation.name, arguments, cohort)
        function = evaluate(computation.expression, {}, semantics)
        value = None if type_.parameter is None else _assemble(type_.parameter, values, parts)
        try:
            returned = semantics.invoke(function, value)
        except Exception as error:
            if error is semantics.told:  # it says already where it arose
                raise failures.shared(error)  # noqa: B904  # the same error
            if isinstance(computation.expression, Local):
                raise failures.noted(error)  # noqa: B904  # the same error
            raise failures.annotated(error, computation.name) from error
        finally:
            if semantics.not_finite and watch.is_first():
                tell(semantics.not_finite, f"{computation.name} at {user_location()}", cohort)
        return _present(returned, type_.result, resident, semantics)

    def client_data(self, values: Any, type_: Any, *, storage: str = "auto") -> ClientData:
        """Pack a list of all clients' values; see `fm.client_data`."""
        from fedmpi.runtime.arguments.placing import pack_all

        return pack_all(values, type_, storage)

    def client_data_from_arrays(
        self, arrays: Any, offsets: Any, type_: Any, batch_size: int | None = None, *, storage: str = "auto"
    ) -> ClientData:
        """Keep views of the arrays; see `fm.client_data_from_arrays`."""
        from fedmpi.runtime.arguments.from_arrays import from_arrays

        return from_arrays(arrays, offsets, type_, batch_size, storage)

    def replicate(self, value: Any) -> Any:
        """Return the value as several ranks would get it."""
        from fedmpi.runtime.arguments.replicate import packed, unpacked

        return unpacked(packed(value), value)

    @property
    def is_server(self) -> bool:
        """Whether this process has what is at the server: it has."""
        return True


def _per_client(type_: Type) -> bool:
    return isinstance(type_, FederatedType) and type_.placement is CLIENTS and not type_.all_equal


def _part(value: Any, type_: Type, path: tuple[str, ...], cohort: Indices | None) -> Any:
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
                ", ".join([label(path), failures.who(index, (), cohort), *error.path[1:]])
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
    """The interpreter with placements: an `AtClients` for each value at the clients, the value itself at the server.

    Functions of the user's are called in lists, not in generators, which turn a `StopIteration` into another error.
    """

    def __init__(
        self, clients: int | None, raises_nonfinite: bool, name: str, arguments: list[str], cohort: Indices | None
    ) -> None:
        self.clients, self.raises_nonfinite, self.cohort = clients, raises_nonfinite, cohort
        self.name, self.arguments = name, arguments  # for errors: the computation and its arguments at the clients
        self.told: BaseException | None = None  # the error that says where it arose
        self.not_finite: Found = []

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
                    return self._at_server(expr, function, value)
                if expr.type.all_equal:
                    return Everywhere(self._at_server(expr, function, value.value))
                members = self.members(value)
                return AtClients(tuple([self._for_client(expr, function, m, i) for i, m in enumerate(members)]))
            case "federated_zip":
                if expr.type.placement is not CLIENTS:
                    return args[0]
                if expr.type.all_equal:
                    return Everywhere(self._everywhere(args[0]))
                return AtClients(tuple(self._zipped(args[0], i) for i in range(self.count())))
            case "federated_sum":
                members = self.members(args[0])
                self._look(expr, members, None)
                return reference_sums.total(members, expr.type.member)
            case "federated_mean":
                members = self.members(args[0])
                if not members:
                    raise ValueError("federated_mean: there are no clients to take the mean over")
                weights = self._weights(expr, args[1]) if len(args) > 1 else None
                self._look(expr, members, weights)
                return reference_sums.mean(members, weights or (1,) * len(members), expr.type.member)
            case "federated_min" | "federated_max":
                return reference_sums.extreme(expr.op, self.members(args[0]), expr.type.member)
            case "federated_aggregate":
                return self.aggregate(expr, *args)
            case "federated_collect":
                members = self.members(args[0])
                assert isinstance(expr.type.member, SequenceType)
                return PackedSequence(pack(expr.type.member.element, list(members)), 0, len(members))
            case "federated_client_index":
                indices = range(self.count()) if self.cohort is None else self.cohort
                return AtClients(tuple(np.int64(i) for i in indices))
            case "federated_eval":
                if expr.type.placement is not CLIENTS:
                    return self._at_server(expr, args[0], None)
                return AtClients(tuple([self._for_client(expr, args[0], None, i) for i in range(self.count())]))
            case "federated_select" | "federated_secure_select":
                return AtClients(tuple([self._selected(expr, args, i) for i in range(self.count())]))
            case "federated_secure_sum" | "federated_secure_sum_bitwidth" | "federated_secure_modular_sum":
                limits = limits_of(expr.op, args[1], expr.type.member, self.count())
                members = self.members(args[0])
                return reference_sums.secure(expr.op, members, iter(limits), expr.type.member, self.cohort)
        raise ValueError(f"{expr.op} has no evaluation")

    def _weights(self, expr: Apply, value: Any) -> tuple[Any, ...]:
        """Return the clients' weights, all of them checked."""
        weights = self.members(value)
        for client, weight in enumerate(weights):
            try:
                check_weight(weight)
            except ValueError as error:
                raise self._failed(expr, error, client) from error
        return weights

    def _look(self, expr: Apply, members: tuple[Any, ...], weights: tuple[Any, ...] | None) -> None:
        """Keep what is not finite, for a warning; with ``nonfinite="raise"``, refuse it."""
        assert isinstance(expr.type, FederatedType)
        found = reference_sums.not_finite(members, weights, expr.type.member)
        if found is None:
            return
        if self.raises_nonfinite:
            self.told = ValueError(f"{self.name}: {expr.op} at {expr.where}: {found.first(self.cohort)}")
            raise self.told
        self.not_finite.append((found, f"{expr.op} at {expr.where}"))

    def aggregate(self, expr: Apply, value: Any, zero: Any, accumulate: Any, merge: Any, report: Any) -> Any:
        """Fold the clients in at most 64 blocks, in order; merge neighbours until one state is left (decision 23)."""
        members = self.members(value)
        count = min(len(members), 64)
        states = []
        for block in range(count):
            state = zero
            for i in range(block * len(members) // count, (block + 1) * len(members) // count):
                state = self._for_client(expr, accumulate, (state, members[i]), i)
            states.append(state)
        if debugging():
            debug_checks.check_neutral(lambda pair: self.invoke(merge, pair), zero, states)
        while len(states) > 1:
            pairs = [states[i : i + 2] for i in range(0, len(states), 2)]
            states = [self._at_server(expr, merge, tuple(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
        return self._at_server(expr, report, states[0] if states else zero)

    def _selected(self, expr: Apply, args: list[Any], index: int) -> Any:
        keys, max_key, server_val, function = args
        assert isinstance(expr.type, FederatedType)
        assert isinstance(expr.type.member, SequenceType)
        parts = []
        for key in self.members(keys)[index]:
            if not 0 <= key <= max_key:
                error = ValueError(f"a key is not in 0 to max_key: {key} is not in 0 … {max_key}")
                raise self._failed(expr, error, index)
            parts.append(self._for_client(expr, function, (server_val, key), index))
        return PackedSequence(pack(expr.type.member.element, parts), 0, len(parts))

    def _for_client(self, expr: Apply, function: Any, member: Any, index: int) -> Any:
        try:
            return self.invoke(function, member)
        except Exception as error:
            raise self._failed(expr, error, index) from error

    def _at_server(self, expr: Apply, function: Any, value: Any) -> Any:
        try:
            return self.invoke(function, value)
        except Exception as error:
            self.told = failures.annotated(error, f"{self.name}: {expr.op} at the server, {expr.where}")
            raise self.told from error

    def _failed(self, expr: Apply, error: Exception, client: int) -> BaseException:
        where = f"{self.name}: {expr.op} at {expr.where}: {failures.who(client, self.arguments, self.cohort)}"
        self.told = failures.annotated(error, where, rank=0)
        return self.told

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


def _present(value: Any, type_: Type, resident: bool, semantics: _Reference) -> Any:
    """Return a result as Python values: a list for a value at the clients, the member where all are equal."""
    match type_:
        case FederatedType(member):
            if isinstance(value, Everywhere) and not type_.all_equal:
                value = AtClients(semantics.members(value))
            if isinstance(value, AtClients):
                if resident:
                    owner = np.zeros(len(value.members), np.int32)
                    return ClientData(member, owner, 0, pack(member, value.members), cohort=semantics.cohort)
                return [present(v, member) for v in value.members]
            return present(value.value if isinstance(value, Everywhere) else value, member)
        case StructType():
            return rebuild(type_, [_present(v, t, resident, semantics) for v, t in zip(value, type_, strict=True)])
        case FunctionType():
            return as_computation(value, type_)
    return present(value, type_)


__all__ = ["ClosureValue", "ReferenceContext", "call_closure"]
