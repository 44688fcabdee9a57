"""One call of a federated computation on all ranks.

Every rank runs the same stages: server work on rank 0, one Bcast, client work on the ranks that own clients, an
agreement, one Reduce.  A failure is noted, not raised, until all ranks know of it: rank 0's travels in the header (or
in the word before a later stage), another rank's in the agreement; then every rank raises the same error.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fedmpi.language.types import FederatedType, Type
from fedmpi.language.types.placements import CLIENTS
from fedmpi.local.attributes import in_a_line
from fedmpi.local.columns.client_data import ClientData, Ranks, read_only
from fedmpi.local.columns.column import Column
from fedmpi.local.columns.messages import columns_of, to_bytes
from fedmpi.local.loops.functions import concrete
from fedmpi.local.loops.interpret import Interpreter
from fedmpi.local.status import NOW
from fedmpi.runtime import slowly
from fedmpi.runtime.arguments.checks import (
    check,
    check_data,
    client_count,
    common_cohort,
    common_count,
    pack_members,
)
from fedmpi.runtime.arguments.ownership import assign, assign_blocks
from fedmpi.runtime.arguments.placing import moved
from fedmpi.runtime.arguments.sizes import works
from fedmpi.runtime.collective import alike, failures
from fedmpi.runtime.collective.header import UNKNOWN
from fedmpi.runtime.collective.rounds import NOTHING, Words
from fedmpi.runtime.plan.decision import No, Yes, is_compiled, why_not
from fedmpi.runtime.plan.dropping import Dropped, too_few
from fedmpi.runtime.plan.folding import BLOCKS, blocks_of, homes_of, is_whole
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.plan.stage import Stage
from fedmpi.runtime.reports import CallReport, written
from fedmpi.runtime.runners.clients import run_clients
from fedmpi.runtime.runners.work import Work
from fedmpi.runtime.stage import debug_mode as debugging
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.nonfinite import tell
from fedmpi.runtime.stage.program import refusal, wants_of
from fedmpi.runtime.upward.aggregate import aggregate
from fedmpi.runtime.upward.collect import collect
from fedmpi.runtime.upward.reduce import reduce

Rows = np.ndarray[Any, np.dtype[np.int64]]
Given = tuple[Node, tuple[str, ...], Any]  # an argument at the clients, its path, what was given for it
UPWARD = (reduce, aggregate, collect)  # what brings a stage's results to rank 0, in this order (collective)
REFUSED = -2  # the third word of an agreement: as -1, and some rank's loop was refused
DROPPED = -4  # as -1, and clients failed that are left out; in this case the ranks tell what else there is


class Execution(CallState):
    """One call on one rank, from its arguments to its results."""

    def run(self, argument: Any) -> None:
        """Run all stages; afterwards `values` holds what the result is made of."""
        try:
            self.run_stages(argument)
        finally:
            if self.not_finite:
                tell(self.not_finite, self.comm.whereabouts(), self.cohort)

    def run_stages(self, argument: Any) -> None:
        self.attempt(functools.partial(self.prepare, argument))
        for number in range(len(self.plan.stages)):
            stage = self.program.stages[number]
            NOW.stage, NOW.stages = number, len(self.plan.stages)
            if stage.server and self.comm.is_server:
                self.clock.to("server")
                self.attempt(functools.partial(self.serve, stage))
            if stage.descends or self.program.debug:
                self.descend(stage)
            if self.moves:
                self.clock.to("arguments")
                self.move()
            if stage.arrives:
                work = self.attempt(functools.partial(run_clients, self, number))
                words = NOTHING if work is None or work.sums is None else work.sums.words(self.num_clients or 0)
                if work is not None and (self.program.refusals or work.dropped):
                    words = self.told(number, words, work)
                words = self.agree(words)
                assert work is not None  # else it has been raised
                self.clock.to("reduce")
                if words[2] == REFUSED:
                    self.refuse(number)
                elif words[2] == DROPPED:
                    self.drop(number, work)
                self.note_how(number)
                for bring in UPWARD:
                    bring(self, work, words)

    def note_how(self, number: int) -> None:
        """Note for the report where a stage's clients are run client by client."""
        stage = self.program.stages[number]
        if not stage.has_clients or isinstance(stage.compiled, Yes):
            return
        clients = (self.num_clients or 0) + sum(each.stage == number for each in self.dropped)
        sparse = stage.may_be_sparse and any("sparse" in self.values[node].forms for node in stage.columns)
        if clients and not is_compiled(stage.compiled, clients, sparse=sparse):
            self.uncompiled.append((number, why_not(stage.compiled)))

    def agree(self, words: Words = NOTHING) -> Words:
        """Agree as any round; the time counts as waiting."""
        if self.comm.size == 1:
            return super().agree(words)
        before = self.clock.to("waiting")
        words = super().agree(words)
        self.clock.to(before)
        return words

    def report(self, error: BaseException | None) -> Callable[[], CallReport]:
        """Return what writes down what this rank has to say of the call, which has ended."""
        self.clock.to("")
        clients = None if self.num_clients is None else self.num_clients + len(self.dropped)
        nonfinite = sum(terms.count for terms, _ in self.not_finite) if self.comm.is_server else None
        sent, ended = self.comm.sent - self.sent_before, "" if error is None else in_a_line(error)
        return functools.partial(
            written, self.name, self.where, self.number, self.clock, self.bytes_broadcast, sent, clients,
            self.dropped, self.uncompiled, nonfinite, ended,
        )  # fmt: skip

    # --- before the first stage ---

    def prepare(self, argument: Any) -> None:
        """Do what comes before all stages; anything of it may fail."""
        self.bind(argument)
        if self.plan.unplaced:
            self.run_unplaced()
        self.check_cohort()

    def bind(self, argument: Any) -> None:
        """Check the arguments; keep what this rank needs of them."""
        server = self.comm.is_server
        parts = self.program.split(argument, server=server)
        counts, at_clients = [], []
        for node, (path, type_, value) in zip(self.plan.inputs, parts, strict=True):
            if node.per_client:
                assert isinstance(type_, FederatedType)
                counts.append((path, client_count(self.name, value, type_, path)))
                at_clients.append((node, path, value))
            elif node.placement is None or node.placement is CLIENTS or server:
                self.values[node] = check(value, node.member, path)
        self.num_clients = common_count(self.name, counts) if counts else self.num_clients
        self.cohort = common_cohort(self.name, [(path, value) for _, path, value in at_clients])
        for node, path, value in at_clients:
            if isinstance(value, ClientData):
                check_data(value, node.type, path, self.comm)
        loads = self.own(at_clients)
        if self.plan.indices is not None:
            mine = self.mine if self.cohort is None else self.cohort[self.mine]
            self.values[self.plan.indices] = Column(self.plan.indices.member, len(mine), (read_only(mine.copy()),))
            self.positions[self.plan.indices] = np.arange(len(mine))
        if self.comm.size > 1:
            self.given = list(self.given_alike(at_clients, loads))
        self.packed = [value for _, _, value in at_clients if isinstance(value, ClientData)]
        for node, path, value in at_clients:
            if isinstance(value, ClientData):
                if value.owner is not self.owner and not np.array_equal(value.owner, self.owner):
                    if value.anywhere:
                        value = value.at(self.owner)
                    else:
                        self.moves.append((node, value))
                self.values[node], self.positions[node] = value.as_type(node.member)
            else:
                self.values[node] = pack_members(value, node.member, self.mine.tolist(), path, self.cohort)
                self.positions[node] = np.arange(len(self.mine))

    def given_alike(self, arguments: list[Given], loads: dict[Node, Rows]) -> Iterator[alike.Alike]:
        """Yield what all ranks give this call; ``loads`` are the clients' in lists."""
        for node, path, value in arguments:
            if isinstance(value, ClientData):
                yield alike.of_client_data(path, value)
            else:
                yield alike.of_list(path, value, node.member, loads[node], everything=self.program.debug)
        if len(loads) == len(arguments):  # with a `ClientData`, its hash has the owners
            yield alike.of_hosts(self.hosts, self.owner)
        for node in self.program.common:
            yield alike.of_value(node.detail, self.values[node], node.member)

    def own(self, arguments: list[Given]) -> dict[Node, Rows]:
        """Decide which rank owns which client: where a `ClientData` is, else by the work in the lists.

        Returns the work of each client in each list, as far as ranks need it.
        """
        packed = [value for _, _, value in arguments if isinstance(value, ClientData)]
        loads: dict[Node, Rows] = {}
        if not packed or self.comm.size > 1:
            loads = {n: works(v, n.member) for n, _, v in arguments if not isinstance(v, ClientData)}
        if packed:
            # What every rank can open goes where the others are.
            leading = next((value for value in packed if not value.anywhere), packed[0])
            self.owner, self.mine = leading.owner, leading.mine
        else:
            nothing = np.full(self.num_clients or 0, not arguments, dtype=np.int64)
            self.owner = self.assigned(sum(loads.values(), start=nothing))
            self.mine = np.flatnonzero(self.owner == self.comm.rank)
        if self.program.folds:
            self.blocks = blocks_of(self.num_clients or 0)
            self.blocks_are_whole = is_whole(self.owner, self.blocks)
            if self.program.options.errors.drop and not self.blocks_are_whole:
                # A client may fail in a fold, and then adds nothing either: it is folded with the rest of its work.
                self.owner, self.blocks_are_whole = homes_of(self.owner, self.blocks), True
                self.mine = np.flatnonzero(self.owner == self.comm.rank)
        return loads

    def assigned(self, loads: Any) -> Ranks:
        """Return the owners of clients with these loads: whole blocks, if they are folded and all ranks have some."""
        if not self.program.folds or len(self.hosts) > BLOCKS // 4:
            return assign(loads, self.hosts)
        return assign_blocks(loads, blocks_of(len(loads)), self.hosts)

    def run_unplaced(self) -> None:
        """Run what has no placement, on every rank."""
        for node in self.plan.unplaced:
            try:
                self.values[node] = self.unplaced_value(node)
            except Exception as error:
                raise failures.annotated(error, self.name) from error

    def unplaced_value(self, node: Node) -> Any:
        interpreter = Interpreter()
        arguments = [concrete(value, self.values.__getitem__) for value in node.inputs]
        match node.op:
            case "literal":
                return node.detail
            case "select":
                return arguments[0][node.detail]
            case "call":
                return interpreter.invoke(*arguments)
        return interpreter.apply(node.detail, arguments)

    def check_cohort(self) -> None:
        """Refuse, before any work, what needs clients when there are none or their number is not known."""
        counts, wants = self.program.counts, self.program.wants
        if self.num_clients is None and counts:
            raise ValueError(
                f"{self.name}: the number of clients is not known: no argument at the clients tells it; "
                "say it with fm.set_default_context(fm.MpiContext(num_clients=…))"
            )
        minimum = self.program.options.errors.minimum
        if self.num_clients is not None and self.num_clients < minimum:
            raise too_few(self.name, self.num_clients, [], minimum)
        if self.num_clients == 0 and wants:
            raise ValueError(f"{self.name}: {wants}")
        for stage in self.program.stages:
            if stage.secure:
                self.limits(stage)
            if self.program.options.only and stage.has_clients and isinstance(stage.compiled, No):
                raise refusal(self.name, stage, stage.compiled.reason)
        if not self.program.said:
            self.program.said = True
            self.say_how()

    def say_how(self) -> None:
        """Say once on rank 0 that clients are run client by client where the program has not asked for that."""
        for stage in self.program.stages if self.comm.is_server else ():
            if stage.has_clients and isinstance(stage.compiled, No) and not stage.compiled.asked:
                slowly.tell(self.name, stage.compiled.reason)

    # --- down: server work, header or word, payload ---

    def serve(self, stage: Stage) -> None:
        """Run the server's part of a stage (rank 0)."""
        for node in stage.server:
            self.values[node] = self.program.checked(node, self.server_value(node))

    def descend(self, stage: Stage) -> None:
        """Tell all ranks how the server is and send them what it broadcasts."""
        self.clock.to("bcast")
        parcel, payload = self.program.parcels[stage.number], None
        if stage.sent and self.comm.is_server and self.comm.size > 1:
            payload = self.attempt(lambda: parcel.packed([self.values[n] for n in stage.sent]))
        status, nbytes = self.announce(stage, 0 if payload is None else len(payload))
        if status:
            self.raise_of(0)
        if self.program.debug:
            debugging.compare(self, stage.number)
        if stage.sent and self.comm.size > 1:  # of no bytes, maybe
            buffer = payload if payload is not None else np.empty(nbytes, dtype=np.uint8)
            self.comm.bcast(buffer)
            self.bytes_broadcast += nbytes
            if not self.comm.is_server:
                self.values.update(zip(stage.sent, parcel.unpacked(buffer), strict=True))
        for node in stage.broadcasts:
            self.values[node] = self.values[node.inputs[0]]
            if self.program.debug:
                self.attempt(functools.partial(self.program.checked, node, self.values[node]))

    def announce(self, stage: Stage, payload: int) -> tuple[int, int]:
        """Return rank 0's status and payload: in the call's header, or in the word before a later stage."""
        if stage.number == 0:
            clients = UNKNOWN if self.num_clients is None else self.num_clients
            program = f"{'[debug] ' * self.program.debug}{self.name} ({self.plan.computation.where})"
            fingerprint = self.program.fingerprint ^ (self.stays << 3)  # only some ranks would wait in `gather`
            self.clock.to("waiting")
            server = self.open(fingerprint, clients, program, payload)
            self.clock.to("bcast")
            return server.status, server.payload
        if not stage.confirms:
            return 0, 0
        word = np.array([self.failure is not None, payload], dtype=np.int64)
        self.clock.to("waiting")
        self.comm.bcast(word)
        self.clock.to("bcast")
        return int(word[0]), int(word[1])

    def move(self) -> None:
        """Bring arguments together whose clients live on different ranks.

        A rank that failed knows of no moves; the agreement here meets the one at the end of its stage.
        """
        self.clock.to("arguments")
        self.agree()
        for node, data in self.moves:
            self.values[node], self.positions[node] = moved(self.comm, data, self.owner).as_type(node.member)
        self.moves = []

    # --- up: agreement, Reduce ---

    def told(self, number: int, words: Words, work: Work) -> Words:
        """Return the words of an agreement in which this rank says that clients failed, or Numba refused its loop."""
        if work.dropped:
            return np.array([*words[:2], DROPPED])
        return np.array([*words[:2], REFUSED]) if number in self.program.refusals else words

    def drop(self, number: int, work: Work) -> None:
        """Leave out the clients that failed in a stage, on all ranks alike."""
        mine = {str(self.mine[position]): reason for position, reason in sorted(work.dropped.items())}
        told = {"dropped": mine, "refused": self.program.refusals.get(number, "")}
        parts = self.comm.allgather_bytes(np.frombuffer(json.dumps(told).encode(), np.uint8))
        every = [json.loads(part.tobytes()) for part in parts]
        refused = next((each["refused"] for each in every if each["refused"]), "")
        if refused:
            self.program.refuse(number, refused)
        gone = sorted((int(client), why) for each in every for client, why in each["dropped"].items())
        indices = np.arange(len(self.owner)) if self.cohort is None else self.cohort
        self.dropped += [Dropped(int(indices[client]), number, why) for client, why in gone]
        keep = np.ones(len(self.owner), bool)
        keep[[client for client, _ in gone]] = False
        stays = keep[self.mine]
        for node, rows in self.positions.items():
            if len(rows) == len(stays):
                self.positions[node] = rows[stays]
        work.numbers = (np.cumsum(keep) - 1)[self.mine]
        self.cohort, self.owner = indices[keep], self.owner[keep]
        self.mine = np.flatnonzero(self.owner == self.comm.rank)
        self.num_clients = len(self.owner)
        if self.program.folds:
            self.blocks = np.unique(self.blocks[keep], return_inverse=True)[1]
        self.check_reports(number)

    def check_reports(self, number: int) -> None:
        """Refuse to go on after a stage with fewer clients than are wanted."""
        left, minimum = self.num_clients or 0, self.program.options.errors.minimum
        wants = "" if left else wants_of(self.plan.stages[number:])
        if left >= minimum and not wants:
            return
        self.agreed = True  # every rank sees the same
        if left < minimum:
            raise too_few(self.name, left + len(self.dropped), self.dropped, minimum)
        raise ValueError(f"{self.name}: {wants}: all {len(self.dropped)} failed, first {self.dropped[0]}")

    def refuse(self, number: int) -> None:
        """Let all ranks know that Numba refused the loop of a stage, and say so once."""
        reason = self.program.refusals.get(number, "").encode()
        reasons = self.comm.allgather_bytes(np.frombuffer(reason, dtype=np.uint8))
        found = next(part.tobytes().decode() for part in reasons if len(part))
        self.program.refuse(number, found)
        if self.comm.is_server:
            slowly.tell(self.name, found)

    def gather(self) -> None:
        """Bring the result's values at the clients to rank 0, in the order of the clients."""
        if self.stays:
            return
        nodes, self.gathered = self.plan.gathered, {}
        if not nodes:
            return
        self.clock.to("reduce")
        columns = [self.column(n) for n in nodes]
        if self.comm.size == 1:
            self.gathered = {n: list(c) for n, c in zip(nodes, columns, strict=True)}
            return
        parts = self.comm.gather_bytes(to_bytes(*columns))
        if parts is None:
            return
        of_rank = [columns_of([n.member for n in nodes], part) for part in parts]
        for i, node in enumerate(nodes):
            rows = [iter(each[i]) for each in of_rank]
            self.gathered[node] = [next(rows[rank]) for rank in self.owner]

    def resident(self, node: Node, type_: Type) -> ClientData:
        """Return a value at the clients as it is, on the ranks of its clients."""
        kept = self.kept(node.member, self.values[node], self.positions.get(node))
        return self.kept(type_, *kept.as_type(type_))

    def kept(self, type_: Type, column: Column, positions: Rows | None = None) -> ClientData:
        """Return values of this rank's clients as those of the call's clients."""
        versions = (v for data in self.packed for v in data.versions if v.store.has_arrays_of(column))
        return ClientData(
            type_, self.owner, self.comm.rank, column, positions, cohort=self.cohort, ranks=self.comm.ranks,
            source=self.number, keeps=tuple(dict.fromkeys(versions)),
        )  # fmt: skip
