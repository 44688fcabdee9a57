"""What a rank's clients do in one stage of a call, and the protocol of what runs them."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from fedmpi.local.attributes import attributes_of, in_a_line
from fedmpi.local.computations.bodies import CLIENT, PROGRESS
from fedmpi.local.status import NOW
from fedmpi.runtime.collective import failures
from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.plan.nodes import Node
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import FOLDS, UNFOLDED, WHOLE


class Work:
    """The clients of stage ``number`` of a call, on this rank, and what comes of them.

    Afterwards ``sums`` holds the sums of what they send up; or, while the type leaves sizes open, ``members`` holds
    what the sums are of, client by client.  ``states`` holds for each fold of the stage the states of the rank's
    blocks, ascending; where the clients of a block are on several ranks it holds nothing, and what is folded is kept.
    ``dropped`` says which clients failed and why, where the stage leaves such out.  ``part`` is that of the stage,
    `FOLDS` or found here.
    """

    def __init__(self, call: CallState, number: int, part: int = WHOLE) -> None:
        self.call, self.number = call, number
        self.part = part if call.blocks_are_whole else UNFOLDED
        stage = call.program.stages[number]
        self.stage = stage.folding if part == FOLDS else stage
        self.sums = call.program.sums(number) if self.stage.reductions else None
        self.members: list[Any] = []
        self.folds = () if self.part == UNFOLDED else self.stage.folds
        self.states: dict[Node, Any] = {}
        self.dropped: dict[int, str] = {}  # positions of clients that failed and are left out, and why
        self.unexplained: list[int] = []  # those that failed in compiled code, which does not say why
        self.progress = np.full(PROGRESS, -1, dtype=np.int64)  # how far the clients are; see `bodies`
        NOW.client, NOW.clients = self.progress[CLIENT : CLIENT + 1], len(call.mine)
        self.numbers = call.mine  # the numbers of the rank's clients, by their positions in the sums' notes

    def failed(self, error: Exception, node: Node, position: int) -> ClientError:
        """Return the error of the rank's client ``position``, which says where it arose."""
        call, client = self.call, int(self.call.mine[position])
        where = f"{call.name}: {node.op} at {node.where}: {call.who(client, call.per_client_names)}"
        failed = ClientError(client, failures.annotated(error, where, call.comm.rank))
        failed.reason = f"{node.op} at {node.where}: {in_a_line(error)}"
        return failed

    def add_members(self, sums: Any) -> None:
        """Add the members to sums whose sizes are known now."""
        sums.limits[:] = self.call.limits(self.stage)
        for position, members in enumerate(self.members):
            self.check(sums, members, position)
            sums.add(members, position)
        self.check_finite(sums)

    def check(self, sums: Any, members: Any, position: int) -> None:
        """Refuse a client with a number that a secure sum does not take, before anything of it is added."""
        try:
            sums.check(members)
        except ValueError as error:
            node = self.stage.reductions[attributes_of(error).pop("fedmpi_reduction", 0)]
            raise self.failed(error, node, position) from error

    def check_finite(self, sums: Any) -> None:
        """With ``nonfinite="raise"``: refuse terms that are infinite or NaN."""
        if not self.call.program.options.raises_nonfinite or not sums.specials:
            return
        found = sums.not_finite(sums.notes)
        node = self.stage.reductions[found.reduction]
        found = dataclasses.replace(found, client=int(self.call.mine[found.client]))
        error = ValueError(f"{self.call.name}: {node.op} at {node.where}: {found.first(self.call.cohort)}")
        raise ClientError(found.client, error)


class Runner(Protocol):
    """One way to run the clients of a stage.  `clients.RUNNERS` lists them; the first that takes a work runs it.

    A client counts whole or not at all.  It is *computed* first: all steps, the weights and limits of its terms, the
    next states of the folds; any of this may fail, which raises `Work.failed`, of the rank's clients for the first that
    fails; where ``stage.drops``, such a client is entered in ``work.dropped`` with the error's ``reason``, and the
    others go on.  Then it is *committed*, which cannot fail: its terms are added to ``work.sums`` (or kept in
    ``work.members``), the states of ``work.folds`` are its own.  What the stage keeps goes into the call's ``values``
    and ``positions``, the states of blocks into ``work.states``, where the rank has no clients too.  A runner in Python
    has `one_by_one` for all of this.
    """

    def run(self, work: Work) -> bool:
        """Run all clients of this rank; return False, with nothing done, where this way does not take them."""
