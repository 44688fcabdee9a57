"""`MpiContext`: runs computations on the ranks of a communicator."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.default_context import Installable, current_context
from fedmpi.language.tree.expressions import Local
from fedmpi.language.types import FederatedType, FunctionType, StructType, Type, contains
from fedmpi.language.types.placements import CLIENTS, SERVER
from fedmpi.language.types.presenting import rebuild
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.storage import check_storage
from fedmpi.local.columns.values import ArgumentError, normalise, present, struct_parts
from fedmpi.local.jit.debugging import check_compiler, debugging
from fedmpi.local.loops.functions import concrete, local_function
from fedmpi.local.loops.writer import Parts
from fedmpi.runtime import reports, watch
from fedmpi.runtime.arguments import replicate as replication
from fedmpi.runtime.arguments.checks import check, check_ranks_known, checked_count, parts_of
from fedmpi.runtime.arguments.from_arrays import NAME, from_arrays
from fedmpi.runtime.arguments.ownership import hosts
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.arguments.placing import check_list, member_type, pack_owned
from fedmpi.runtime.asynchronous import blocking
from fedmpi.runtime.collective import alike
from fedmpi.runtime.collective.failures import annotated, noted, refuse
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.machines import compare
from fedmpi.runtime.collective.rounds import Round
from fedmpi.runtime.executor import Execution
from fedmpi.runtime.mpi import forked, line
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.mpi.launch import LaunchError
from fedmpi.runtime.mpi.library import initialise
from fedmpi.runtime.plan.decision import only
from fedmpi.runtime.plan.dropping import checked, policy_here
from fedmpi.runtime.plan.function_values import as_computation, function_value, present_with_functions
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.plan.plan import Plan, build, has_placements
from fedmpi.runtime.plan.reduction import MODES
from fedmpi.runtime.plan.stage import Options, Stage
from fedmpi.runtime.stage.nonfinite import NONFINITE
from fedmpi.runtime.stage.program import Program


class MpiContext(Installable):
    """Runs every computation on all ranks of ``comm`` (default: all of the job).

    Rank 0 is the server, the others host the clients; with one rank, or with ``server_trains=True``, rank 0 hosts
    clients too. ``num_clients`` is the number of clients of computations that have no argument at the clients.  MPI is
    initialised when the first computation with placements runs.

    ``reduction`` is how sums and means are taken: "exact", the true sum rounded once, which no order of clients and
    ranks can change; "float64" or "fast" (float32), cheaper sums of rounded numbers.  ``nonfinite`` says what
    infinities and NaN in them do: "propagate" as IEEE 754 says, with a warning, or "raise" `ValueError` on all
    ranks.  ``fuse`` says whether a rank's clients are run by one compiled loop: None, where it pays; True, wherever
    it can be compiled; False, never, for comparison: the results are the same.  ``on_client_error`` says whether a
    client that fails ends the call on all ranks ("raise") or is left out ("drop"), and ``minimum_reports`` how many
    must be left (see `fm.on_client_error`).  ``on_report`` is called with the `fm.CallReport` of each call.
    """

    def __init__(
        self,
        comm: Any = None,
        *,
        server_trains: bool = False,
        num_clients: int | None = None,
        reduction: str = "exact",
        nonfinite: str = "propagate",
        fuse: bool | None = None,
        on_client_error: str = "raise",
        minimum_reports: int = 0,
        on_report: reports.OnReport = None,
    ) -> None:
        _check_choice("server_trains", server_trains, (False, True))
        _check_choice("reduction", reduction, MODES)
        _check_choice("nonfinite", nonfinite, NONFINITE)
        _check_choice("fuse", fuse, (None, True, False))
        self._given = comm
        self._comm: Communicator | None = None
        self.server_trains = server_trains
        self.reduction, self.nonfinite, self.fuse = reduction, nonfinite, fuse
        self.client_errors = checked("MpiContext", on_client_error, minimum_reports)
        self.on_report = reports.checked_callback("MpiContext", on_report)
        self.num_clients = checked_count("MpiContext", num_clients)
        self._placed: dict[Computation, bool] = {}
        self._local: dict[Any, Callable[[Any], Any]] = {}
        self._programs: dict[Any, Program] = {}
        self._ready: dict[Any, Program] = {}  # of computations that take no functions

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes a copy, in this process or another: the options, nothing that is open or compiled."""
        return {**vars(self), "_comm": None, "_placed": {}, "_local": {}, "_programs": {}, "_ready": {}}

    @property
    def comm(self) -> Communicator:
        """The communicator; opening it initialises MPI."""
        if forked.is_child():
            forked.check()
        if self._comm is None:
            line.wait()
            self._comm = Communicator.open(self._given)
            if self._comm.size > 1 and self._comm.call == 0:
                compare(self._comm)
        return self._comm

    def prepare(self, computation: Computation) -> None:
        """Initialise MPI in this thread if another one is to run a computation that needs it."""
        if self._comm is None and self._is_placed(computation) and not forked.is_child():
            with contextlib.suppress(LaunchError):  # the call itself will raise it
                initialise()

    def invoke(self, computation: Computation, argument: Any, *, resident: bool = False) -> Any:
        """Return the computation's result for a Python argument (collective if the computation has placements)."""
        if not watch.watching():
            return self._invoke(computation, argument, resident)
        with watch.Watch(computation) as record:
            result = self._invoke(computation, argument, resident)
            comm = self.comm if self._is_placed(computation) else None
            record.returned(result, None if comm is None else comm.call, comm)
        return result

    def _invoke(self, computation: Computation, argument: Any, resident: bool) -> Any:
        key = (computation, computation.called, debugging(), only(), policy_here(self.client_errors))
        program = self._ready.get(key)
        if program is None:
            if not self._is_placed(computation):
                return self._invoke_local(computation, argument)
            program = self.program(computation, argument)
            if not contains(computation.type_signature.parameter, FunctionType):
                self._ready[key] = program
        comm = self.comm
        ranks = hosts(comm.size, self.server_trains)
        execution = Execution(comm, program, ranks, self.num_clients, stays=resident)
        try:
            with execution:
                execution.run(argument)
                execution.gather()
        except Exception as error:
            reports.made(execution.report(error), self.on_report)
            raise
        reports.made(execution.report(None), self.on_report)
        # Outside of the call: what a container of the user's makes of the values concerns no other rank.
        return _result(execution, program.plan.result, computation.type_signature.result)

    def _is_placed(self, computation: Computation) -> bool:
        if computation not in self._placed:
            self._placed[computation] = has_placements(computation)
        return self._placed[computation]

    def program(self, computation: Computation, argument: Any = None) -> Program:
        """Return the program of a computation, built at its first call."""
        functions: list[Computation] = []
        parameter = computation.type_signature.parameter
        if contains(parameter, FunctionType) and parameter is not None:
            try:
                # Without what is at the server, which rank 0 alone could refuse: the others would wait for it.
                for path, type_, value in parts_of(computation, argument, server=False):
                    if isinstance(type_, FunctionType):
                        functions.append(check(value, type_, path))
            except ArgumentError as error:
                raise refuse(computation.name, error) from None
        key = (computation, computation.called, tuple(functions), self.options)
        if key not in self._programs:
            check_compiler()
            for each in (computation, *functions):
                check_ranks_known(each)
            self._programs[key] = Program(build(computation, functions, self.options))
        return self._programs[key]

    @property
    def options(self) -> Options:
        """What plans made here and now depend on."""
        errors = policy_here(self.client_errors)
        return Options(self.reduction, self.nonfinite == "raise", self.fuse, debugging(), only(), errors)

    def planned(self, computation: Computation) -> tuple[Plan, tuple[Stage, ...]]:
        """Return the plan of a computation, and its stages as far as calls have shown how they run."""
        program = self._programs.get((computation, computation.called, (), self.options))
        if program is None:
            plan = build(computation, (), self.options)
            return plan, plan.stages
        return program.plan, tuple(program.stages)

    def _invoke_local(self, computation: Computation, argument: Any) -> Any:
        parameter, result = computation.type_signature.parameter, computation.type_signature.result
        key = (computation, computation.called, debugging())
        if key not in self._local:
            self._local[key] = local_function(computation.expression, computation.name)
        try:
            value = None if parameter is None else _normalised(argument, parameter)
        except ArgumentError as error:
            named = error.inside(computation.root) if len(computation.names) < 2 else error
            raise refuse(computation.name, named) from None
        try:
            returned = self._local[key](value)
        except Exception as error:
            if isinstance(computation.expression, Local):
                raise noted(error)  # noqa: B904  # the same error
            raise annotated(error, computation.name) from error
        return present_with_functions(returned, result)

    def client_data(self, values: Any, type_: Any, *, storage: str = "auto") -> ClientData:
        """Pack the members that this rank owns (collective); see `fm.client_data`."""
        member = member_type(type_)
        check_list(values)
        check_storage(storage, "client_data")
        return pack_owned(self.comm, values, member, hosts(self.comm.size, self.server_trains), storage)

    def client_data_from_arrays(
        self, arrays: Any, offsets: Any, type_: Any, batch_size: int | None = None, *, storage: str = "auto"
    ) -> ClientData:
        """Keep views of the arrays (collective); see `fm.client_data_from_arrays`."""
        ranks = hosts(self.comm.size, self.server_trains)
        with Round(self.comm, NAME) as step:
            where: Any = {"hosts": ranks, "rank": self.comm.rank, "ranks": self.comm.ranks, "source": step.number}
            data = step.attempt(lambda: from_arrays(arrays, offsets, type_, batch_size, storage, **where))
            several = data is not None and self.comm.size > 1
            given = [*alike.of_arrays(data), alike.of_hosts(ranks, data.owner)] if several else []
            clients = UNKNOWN if data is None else len(data)
            step.check_in(f"{NAME}, {storage}, batch_size {batch_size}", clients, given)
            step.agree()
        return data  # type: ignore[no-any-return]

    def replicate(self, value: Any) -> Any:
        """Return rank 0's value on every rank (collective)."""
        return replication.replicate(self.comm, value)

    def last_reports(self) -> tuple[reports.CallReport, ...]:
        """Return the last report of each rank (collective)."""
        return reports.gathered(self.comm)

    @property
    def is_server(self) -> bool:
        """Whether this is rank 0."""
        return self.comm.is_server


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse an option that is none of its choices; 1 is not True."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        expected = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
        raise ValueError(f"MpiContext: {name} must be {expected}, found {value!r}")


def _normalised(argument: Any, type_: Type, path: tuple[str, ...] = ()) -> Any:
    """Normalise an argument that may hold computations."""
    if isinstance(type_, FunctionType):
        return function_value(argument, type_, path)
    if isinstance(type_, StructType) and contains(type_, FunctionType):
        items = zip(type_.items(), struct_parts(argument, type_), strict=True)
        named = [(t, part, name if name is not None else str(i)) for i, ((name, t), part) in enumerate(items)]
        return tuple([_normalised(part, t, (*path, name)) for t, part, name in named])
    return check(argument, type_, path) if path else normalise(argument, type_)


def _result(execution: Execution, value: Any, type_: Type) -> Any:
    """Return the Python result of a call: values where they are, placeholders elsewhere."""
    if isinstance(value, Parts):
        assert isinstance(type_, StructType)
        return rebuild(type_, [_result(execution, v, t) for v, t in zip(value.parts, type_, strict=True)])
    if not isinstance(value, Node):
        return as_computation(concrete(value, execution.values.__getitem__), type_)  # type: ignore[arg-type]
    if not isinstance(type_, FederatedType):
        return present(execution.values[value], type_)
    if value.per_client:
        if execution.gathered is None:
            return execution.resident(value, type_.member)
        if not execution.comm.is_server:
            return Placeholder(type_)
        return [present(v, type_.member) for v in execution.gathered[value]]
    if type_.placement is SERVER and not execution.comm.is_server:
        return Placeholder(type_)
    if type_.placement is CLIENTS and not type_.all_equal:
        return _for_each(execution, execution.values[value], type_)
    return present(execution.values[value], type_.member)


def _for_each(execution: Execution, value: Any, type_: FederatedType) -> Any:
    """Return a value that is the same at all clients where the result has one for each."""
    if execution.num_clients is None:  # on all ranks alike
        raise ValueError(
            f"{execution.name}: the number of clients is not known: no argument at the clients tells it; "
            "say it with fm.set_default_context(fm.MpiContext(num_clients=…))"
        )
    if execution.gathered is None:
        return execution.kept(type_.member, pack(type_.member, [value] * len(execution.mine)))
    if not execution.comm.is_server:
        return Placeholder(type_)
    return [present(value, type_.member) for _ in range(execution.num_clients)]


def default_context() -> MpiContext:
    """Return the context of a program that sets none; with FEDMPI_SERVER_TRAINS=1 rank 0 hosts clients too."""
    return MpiContext(server_trains=os.environ.get("FEDMPI_SERVER_TRAINS") == "1")


def machine() -> Any:
    """Return the current context, or what it runs its calls in if it is an `AsyncContext`."""
    return blocking(current_context())


def client_data_from_arrays(
    arrays: Any, offsets: Any, type_: Any, batch_size: int | None = None, *, storage: str = "auto"
) -> ClientData:
    """Make client data of arrays with all clients' rows; every rank gives the same arrays, or opens the same files.

    ``type_`` is the type of one client's value, ``T*`` (batches of ``batch_size`` rows, the last one of a client
    shorter) or ``T``, where T is a tensor or struct of tensors whose first dimension alone is ``?``; ``{…}@CLIENTS`` is
    as well.  ``arrays`` are nested as a value of T, one array ``[rows, …]`` for each tensor; client k has the rows
    ``offsets[k]`` to ``offsets[k + 1]`` (int64[clients + 1], ascending from 0 to the number of rows).

    The arrays are kept, not copied: of a memory map (``np.load(…, mmap_mode="r")``, `np.memmap`) a rank reads the pages
    of its own clients.  As every rank can open them, `ClientData.select` balances each cohort again.  ``storage`` is
    that of `client_data`, but a memory map stays as it is with "auto", and with "bytes" a uint8 array of u stands for
    floats u / 255.0; "sparse", "density" and "bytes" of floats read all of an array, on every rank that has clients.
    Raises `TypeError` or `ValueError` on all ranks.
    """
    return machine().client_data_from_arrays(  # type: ignore[no-any-return]
        arrays, offsets, type_, batch_size, storage=storage
    )


def replicate(value: Any) -> Any:
    """Return on every rank what ``value`` is on rank 0 (collective): a nest of arrays, numbers, texts, bytes."""
    return machine().replicate(value)


def last_reports() -> tuple[reports.CallReport, ...]:
    """Return `fm.last_report` of each rank, by rank, on all of them (collective); empty before all have had a call."""
    return machine().last_reports()  # type: ignore[no-any-return]


def is_server() -> bool:
    """Tell whether this is rank 0, where results at the server are; initialises MPI."""
    return bool(machine().is_server)
