"""The reference evaluator: one process, one value at a time, straight from the definitions.

It is the oracle of the tests and shares with the MPI runtime only what both get from the language: it knows no packing
of messages and no ranks, and its sums are `math.fsum` and fractions (`fedmpi.runtime.reference_sums`).  Of a plan it
asks where stages begin, and only where clients that fail are left out of them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from fedmpi.language.source import user_location
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.default_context import Installable
from fedmpi.language.tree.expressions import Closure as ClosureValue
from fedmpi.language.tree.expressions import Local, call_closure
from fedmpi.language.types import FederatedType, FunctionType, StructType, Type, contains
from fedmpi.language.types.placements import CLIENTS
from fedmpi.language.types.presenting import rebuild
from fedmpi.local.attributes import in_a_line
from fedmpi.local.columns.client_data import ClientData, Indices
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.values import ArgumentError, present
from fedmpi.runtime import reports, watch
from fedmpi.runtime.arguments.checks import (
    check,
    checked_count,
    client_count,
    common_cohort,
    common_count,
    label,
    parts_of,
)
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.failures import refuse
from fedmpi.runtime.plan.dropping import checked, policy_here
from fedmpi.runtime.plan.function_values import as_computation, function_value
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.plan.plan import build, has_placements
from fedmpi.runtime.plan.stage import Options
from fedmpi.runtime.reference_semantics import AtClients, Everywhere, ReferenceSemantics
from fedmpi.runtime.stage.nonfinite import NONFINITE, tell


class ReferenceContext(Installable):
    """Evaluates computations in this process, without MPI; slow, short and obviously right.

    ``num_clients`` is the number of clients of computations that have no argument at the clients; ``nonfinite`` says
    what infinite and NaN terms of sums and means do, as for `fm.MpiContext`: "propagate" or "raise" `ValueError`.
    """

    def __init__(
        self, *, num_clients: int | None = None, nonfinite: str = "propagate", on_client_error: str = "raise",
        minimum_reports: int = 0, on_report: reports.OnReport = None,
    ) -> None:  # fmt: skip
        if nonfinite not in NONFINITE:
            raise ValueError(f"ReferenceContext: nonfinite must be 'propagate' or 'raise', found {nonfinite!r}")
        self.num_clients, self.nonfinite = checked_count("ReferenceContext", num_clients), nonfinite
        self.client_errors = checked("ReferenceContext", on_client_error, minimum_reports)
        self.on_report = reports.checked_callback("ReferenceContext", on_report)
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
        value = None if type_.parameter is None else _assemble(type_.parameter, values, parts)
        errors = policy_here(self.client_errors)
        order: tuple[Node, ...] = ()
        if errors.drop and has_placements(computation):
            functions = [v for _, t, v in parts if isinstance(t, FunctionType)]
            order = build(computation, functions, Options(errors=errors)).placed
        semantics = ReferenceSemantics(clients, self.nonfinite == "raise", computation.name, arguments, cohort)
        began = time.perf_counter()
        try:
            returned = semantics.run(computation, value, order, errors)
        except Exception as error:
            self._report(computation, began, semantics, in_a_line(error))
            if error is semantics.told:  # it says already where it arose
                raise failures.shared(error)  # noqa: B904  # the same error
            if isinstance(computation.expression, Local):
                raise failures.noted(error)  # noqa: B904  # the same error
            raise failures.annotated(error, computation.name) from error
        finally:
            if semantics.not_finite and watch.is_first():
                tell(semantics.not_finite, f"{computation.name} at {user_location()}", cohort)
        self._report(computation, began, semantics, "")
        return _present(returned, type_.result, resident, semantics)

    def _report(self, computation: Computation, began: float, semantics: ReferenceSemantics, error: str) -> None:
        if not has_placements(computation):
            return
        nonfinite = sum(terms.count for terms, _ in semantics.not_finite)
        report = reports.CallReport(
            computation.name, user_location(), 0, reports.Seconds(local=time.perf_counter() - began),
            clients=semantics.clients, dropped=tuple(semantics.dropped), nonfinite=nonfinite, error=error,
        )  # fmt: skip
        reports.made(lambda: report, self.on_report)

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

    def last_reports(self) -> tuple[reports.CallReport, ...]:
        """Return the last report as that of the one rank."""
        last = reports.last_report()
        return () if last is None else (last,)

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


def _present(value: Any, type_: Type, resident: bool, semantics: ReferenceSemantics) -> Any:
    """Return a result as Python values: a list for a value at the clients, the member where all are equal."""
    match type_:
        case FederatedType(member):
            if isinstance(value, Everywhere) and not type_.all_equal:
                value = AtClients(semantics.every(value))
            if isinstance(value, AtClients):
                members = semantics.members(value)
                if resident:
                    owner, cohort = np.zeros(len(members), np.int32), semantics.cohort
                    if semantics.gone:
                        cohort = np.array([semantics.index_of(i) for i in semantics.here()], np.int64)
                    return ClientData(member, owner, 0, pack(member, members), cohort=cohort)
                return [present(v, member) for v in members]
            return present(value.value if isinstance(value, Everywhere) else value, member)
        case StructType():
            return rebuild(type_, [_present(v, t, resident, semantics) for v, t in zip(value, type_, strict=True)])
        case FunctionType():
            return as_computation(value, type_)
    return present(value, type_)


__all__ = ["ClosureValue", "ReferenceContext", "call_closure"]
