"""A stage as a value: all that is known of one trip down and up before any call."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from fedmpi.language.operators.table import Lowering
from fedmpi.language.types import TensorType, type_contains
from fedmpi.local.columns.storage import may_be_sparse
from fedmpi.runtime.plan.decision import Decision, No
from fedmpi.runtime.plan.dropping import ClientErrors
from fedmpi.runtime.plan.folding import BLOCKS
from fedmpi.runtime.plan.nodes import VALUE, Node, folding_state, nbytes, node_inputs
from fedmpi.runtime.plan.reduction import Layout


@dataclass(frozen=True)
class Options:
    """What a plan depends on besides the program.

    ``mode`` is how sums are taken, one of `reduction.MODES`; ``raises_nonfinite`` whether infinite and NaN terms are
    errors; ``fuse`` whether a rank's clients are run by one compiled loop (None: where it pays); ``debug`` whether it
    is run in debug mode; ``only`` whether a stage that is run client by client is an error (see `compiled_only`);
    ``errors`` what clients that fail do.
    """

    mode: str = "exact"
    raises_nonfinite: bool = False
    fuse: bool | None = None
    debug: bool = False
    only: bool = False
    errors: ClientErrors = ClientErrors()  # noqa: RUF009  # frozen


@dataclass(frozen=True, eq=False)
class Stage:
    """One trip down and up: server work, one Bcast, client work, one agreement, what goes up.

    The server's work is ``server``; ``sent`` are the server values that go down, each once, and ``broadcasts`` what
    they are at the clients.  Each rank with clients computes ``shared``, which is the same for all of them, once, and
    for each client the ``steps``, in order, from ``columns``: arguments, and what earlier stages kept.  ``kept`` are
    the steps whose values are needed later.  Up go ``reductions``, which stand in ``layout`` (None while the types of
    their members leave sizes open) and are taken in ``mode``, ``folds``, and ``collects``.
    """

    number: int
    server: tuple[Node, ...] = ()
    sent: tuple[Node, ...] = ()
    broadcasts: tuple[Node, ...] = ()
    shared: tuple[Node, ...] = ()
    columns: tuple[Node, ...] = ()
    steps: tuple[Node, ...] = ()
    kept: tuple[Node, ...] = ()
    reductions: tuple[Node, ...] = ()
    folds: tuple[Node, ...] = ()
    collects: tuple[Node, ...] = ()
    mode: str = "exact"
    drops: bool = False  # whether clients that fail are left out
    layout: Layout | None = None
    # How the clients are run; whether a loop can keep what is folded, for blocks whose clients are on several ranks.
    compiled: Decision = No("it is not decided")  # noqa: RUF009  # frozen
    folds_anywhere: bool = True
    # Whether rank 0 says in a word that its work after the last Reduce did not fail, and what it sends.
    confirms: bool = False
    # Whether the ranks agree after the clients' work that nobody failed.
    arrives: bool = True

    @functools.cached_property
    def has_clients(self) -> bool:
        """Whether there is something to do for each client."""
        return bool(self.steps or self.reductions or self.folds)

    @functools.cached_property
    def descends(self) -> bool:
        """Whether anything is told or sent before its clients' work: the header, a word, values."""
        return self.number == 0 or self.confirms or bool(self.broadcasts)

    @property
    def upward(self) -> tuple[Node, ...]:
        """What goes up."""
        return (*self.reductions, *self.folds, *self.collects)

    @property
    def bytes_down(self) -> int | None:
        """The bytes of the Bcast, None where a type leaves sizes open."""
        return nbytes([node.member for node in self.sent])

    @property
    def bytes_of_states(self) -> int | None:
        """The bytes of a block's states of ``folds``, of which at most `BLOCKS` go up; None where sizes are open."""
        return nbytes([folding_state(node) for node in self.folds])

    @property
    def bytes_up(self) -> int | None:
        """The most bytes that one rank sends up, beside ``collects`` and rare terms; None where sizes are open.

        Of exact sums the planes in use travel alone, two or three of eight for ordinary float32.
        """
        states = self.bytes_of_states
        if self.layout is None or states is None:
            return None
        return self.layout.nbytes + BLOCKS * states

    @functools.cached_property
    def may_be_sparse(self) -> bool:
        """Whether rows of the columns may be stored as sparse ones."""
        return any(type_contains(node.member, _may_be_sparse) for node in self.columns)

    @functools.cached_property
    def secure(self) -> tuple[Node, ...]:
        """The reductions whose terms have limits."""
        return tuple(node for node in self.reductions if node.lowering is Lowering.SECURE)

    @functools.cached_property
    def selections(self) -> tuple[Node, ...]:
        """The steps that make parts of a server's value for keys."""
        return tuple(node for node in self.steps if node.lowering is Lowering.SELECT)

    @functools.cached_property
    def folding(self) -> Stage:
        """The folds alone, and what only puts values beside each other or takes them apart for them.

        So its columns keep their forms when they are brought to other ranks.
        """
        needed = [node.inputs[VALUE] for node in self.folds]
        parts: set[Node] = set()
        while needed:
            node = needed.pop()
            if node in self.steps and not node.applies:
                parts.add(node)
                needed += node_inputs(node)
        steps = tuple(node for node in self.steps if node in parts)
        return dataclasses.replace(
            self,
            shared=(), steps=steps, kept=(), reductions=(), collects=(), sent=(), broadcasts=(), server=(),
            columns=columns_of(steps, self.folds), layout=Layout((), self.mode),
        )  # fmt: skip


def columns_of(steps: Sequence[Node], upward: Sequence[Node]) -> tuple[Node, ...]:
    """Return the values at the clients that these nodes take from before them."""
    used = [i for node in (*steps, *upward) for i in node_inputs(node)]
    return tuple(node for node in dict.fromkeys(used) if node.per_client and node not in steps)


def _may_be_sparse(type_: object) -> bool:
    return isinstance(type_, TensorType) and may_be_sparse(type_)
