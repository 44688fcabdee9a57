"""The language with placements, straight from the definitions: what the reference evaluator evaluates by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import Apply, Select, evaluate
from fedmpi.language.types import FederatedType, SequenceType
from fedmpi.language.types.placements import CLIENTS
from fedmpi.local.attributes import in_a_line
from fedmpi.local.columns.client_data import Indices
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.jit.debugging import debugging
from fedmpi.local.loops.interpret import Interpreter
from fedmpi.local.sums.weights import check_weight
from fedmpi.runtime import reference_sums
from fedmpi.runtime.collective import failures
from fedmpi.runtime.plan.dropping import ClientErrors, Dropped, too_few
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.stage import debug_mode as debug_checks
from fedmpi.runtime.stage.limits import limits_of
from fedmpi.runtime.stage.nonfinite import Found


@dataclass(frozen=True)
class AtClients:
    """A value at the clients: one for each."""

    members: tuple[Any, ...]


@dataclass(frozen=True)
class Everywhere:
    """A value at the clients that all have, however many they are."""

    value: Any


MISSING = object()  # a placed value of which the evaluation has failed


def _is_missing(value: Any) -> bool:
    return value is MISSING or (isinstance(value, tuple) and any(map(_is_missing, value)))


class _LeftOut(Exception):
    """A client has failed and is left out from its stage on: the evaluation begins again without it."""

    def __init__(self, client: int, stage: int, reason: str) -> None:
        super().__init__(client, stage, reason)
        self.client, self.stage, self.reason = client, stage, reason


class ReferenceSemantics(Interpreter):
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
        self.drops = False  # whether clients that fail are left out: those in ``gone``, from a stage on
        self.order: tuple[Node, ...] = ()
        self.at = self.stage = 0
        self.gone: dict[int, int] = {}
        self.reasons: dict[int, str] = {}
        self.first: tuple[Exception, BaseException | None] | None = None  # that is no client's, and ``told`` of it

    def run(self, computation: Computation, value: Any, order: tuple[Node, ...], errors: ClientErrors) -> Any:
        """Return the computation's result; where clients that fail are left out, begin again without the next of them.

        ``order`` are the plan's nodes of the placed operators in the order of their evaluation: they tell the stages,
        from which on a client that fails takes no part.
        """
        self.order, self.drops = order, errors.drop
        self.check_reports(errors.minimum)
        while True:
            self.at, self.not_finite, self.first = 0, [], None
            try:
                returned = self.invoke(evaluate(computation.expression, {}, self), value)
                if self.first is not None:
                    error, self.told = self.first
                    raise error
            except _LeftOut as left:
                self.gone[left.client], self.reasons[left.client] = left.stage, left.reason
            except Exception:
                self.check_reports(errors.minimum)
                raise
            else:
                self.check_reports(errors.minimum)
                self.stage = len(order) + 1  # after all of them
                return returned

    @property
    def dropped(self) -> list[Dropped]:
        """The clients that were left out, in the order of stages and clients."""
        found = sorted((stage, client) for client, stage in self.gone.items())
        return [Dropped(self.index_of(client), stage, self.reasons[client]) for stage, client in found]

    def check_reports(self, minimum: int) -> None:
        """Refuse to go on with fewer clients than are wanted, after the first stage after which it is so."""
        for stage in (-1, *sorted(set(self.gone.values()))):
            gone = [each for each in self.dropped if each.stage <= stage]
            if self.clients is not None and self.clients - len(gone) < minimum:
                self.told = too_few(self.name, self.clients, gone, minimum)
                raise self.told from None

    def index_of(self, client: int) -> int:
        return client if self.cohort is None else int(self.cohort[client])

    def here(self) -> list[int]:
        """Return the numbers of the clients that take part in the stage at hand."""
        if not self.gone:
            return list(range(self.count_all()))
        return [i for i in range(self.count_all()) if self.gone.get(i, self.stage + 1) > self.stage]

    def at_clients(self, values: Iterable[Any]) -> AtClients:
        """Return values of the clients that take part, in their order."""
        members: list[Any] = [None] * self.count_all()
        for client, value in zip(self.here(), values, strict=True):
            members[client] = value
        return AtClients(tuple(members))

    def select(self, expr: Select, source: Any) -> Any:
        if source is MISSING:
            return MISSING
        if isinstance(source, AtClients):
            return AtClients(tuple(None if member is None else member[expr.index] for member in source.members))
        if isinstance(source, Everywhere):
            return Everywhere(source.value[expr.index])
        return source[expr.index]

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        if not isinstance(expr.type, FederatedType):
            return super().apply(expr, args)
        if self.order:
            node = self.order[self.at]
            self.at += 1
            self.stage = node.stage - node.goes_up
        if not self.drops:
            return self._placed(expr, args)
        # An operator that stands later may leave out the client of which this one's error comes.
        if any(map(_is_missing, args)):
            return MISSING
        try:
            return self._placed(expr, args)
        except _LeftOut:
            raise
        except Exception as error:
            self.first = self.first or (error, self.told)
            return MISSING

    def _placed(self, expr: Apply, args: list[Any]) -> Any:
        assert isinstance(expr.type, FederatedType)
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
                pairs = zip(self.here(), self.members(value), strict=True)
                return self.at_clients([self._for_client(expr, function, m, i) for i, m in pairs])
            case "federated_zip":
                if expr.type.placement is not CLIENTS:
                    return args[0]
                if expr.type.all_equal:
                    return Everywhere(self._everywhere(args[0]))
                return self.at_clients([self._zipped(args[0], i) for i in self.here()])
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
                return self.at_clients([np.int64(self.index_of(i)) for i in self.here()])
            case "federated_eval":
                if expr.type.placement is not CLIENTS:
                    return self._at_server(expr, args[0], None)
                return self.at_clients([self._for_client(expr, args[0], None, i) for i in self.here()])
            case "federated_select" | "federated_secure_select":
                return self.at_clients([self._selected(expr, args, i) for i in self.here()])
            case "federated_secure_sum" | "federated_secure_sum_bitwidth" | "federated_secure_modular_sum":
                return self._secure(expr, *args)
        raise ValueError(f"{expr.op} has no evaluation")

    def _secure(self, expr: Apply, value: Any, limit: Any) -> Any:
        assert isinstance(expr.type, FederatedType)
        limits, members = limits_of(expr.op, limit, expr.type.member, self.count()), self.members(value)
        for client, member in zip(self.here(), members, strict=True) if self.drops else ():
            try:
                reference_sums.secure(expr.op, (member,), iter(limits), expr.type.member, None)
            except ValueError as error:
                text = str(error).partition(", found")[0].rpartition(": ")[2]  # without the client and its number
                raise self._failed(expr, ValueError(text), client) from error
        return reference_sums.secure(expr.op, members, iter(limits), expr.type.member, self.cohort)

    def _weights(self, expr: Apply, value: Any) -> tuple[Any, ...]:
        """Return the clients' weights, all of them checked."""
        weights = self.members(value)
        for client, weight in zip(self.here(), weights, strict=True):
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
        found = dataclasses.replace(found, client=self.here()[found.client])
        if self.raises_nonfinite:
            self.told = ValueError(f"{self.name}: {expr.op} at {expr.where}: {found.first(self.cohort)}")
            raise self.told
        self.not_finite.append((found, f"{expr.op} at {expr.where}"))

    def aggregate(self, expr: Apply, value: Any, zero: Any, accumulate: Any, merge: Any, report: Any) -> Any:
        """Fold the clients in at most 64 blocks, in order; merge neighbours until one state is left (decision 23)."""
        here, total = dict(zip(self.here(), self.members(value), strict=True)), self.count_all()
        count = min(total, 64)
        states = []
        for block in range(count):
            clients = range(block * total // count, (block + 1) * total // count)
            state = zero
            for i in clients:
                if i in here:
                    state = self._for_client(expr, accumulate, (state, here[i]), i)
            if any(i in here for i in clients):  # of a block whose clients have all been left out nothing is left
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
        for key in self.every(keys)[index]:
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
        if isinstance(error, _LeftOut):
            return error
        if self.drops:
            return _LeftOut(client, self.stage, f"{expr.op} at {expr.where}: {in_a_line(error)}")
        where = f"{self.name}: {expr.op} at {expr.where}: {failures.who(client, self.arguments, self.cohort)}"
        self.told = failures.annotated(error, where, rank=0)
        return self.told

    def members(self, value: AtClients | Everywhere) -> tuple[Any, ...]:
        """Return the value of each client that takes part."""
        every = self.every(value)
        return tuple(every[i] for i in self.here())

    def every(self, value: AtClients | Everywhere) -> tuple[Any, ...]:
        """Return each client's value, None of those that had been left out when it was computed."""
        return value.members if isinstance(value, AtClients) else (value.value,) * self.count_all()

    def count(self) -> int:
        """Return the number of clients that take part."""
        return len(self.here())

    def count_all(self) -> int:
        """Return the number of clients, those that have been left out among them."""
        if self.clients is None:
            raise ValueError("the number of clients is not known: say it with fm.ReferenceContext(num_clients=…)")
        return self.clients

    def _everywhere(self, value: Any) -> Any:
        return value.value if isinstance(value, Everywhere) else tuple(map(self._everywhere, value))

    def _zipped(self, value: Any, index: int) -> Any:
        if isinstance(value, AtClients | Everywhere):
            return self.every(value)[index]
        return tuple(self._zipped(part, index) for part in value)
