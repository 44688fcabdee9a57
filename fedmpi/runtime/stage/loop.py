"""A stage's client work as one compiled loop over the rank's clients.

Each client's values are taken from columns, the functions applied to them are written out in place, and what they give
is added to the accumulator or folded into the state of its block: nothing of Python runs between the clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, Type
from fedmpi.local.columns.column import Column, slot_formats
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.jit.interrupts import run
from fedmpi.local.loops.codegen import Generator
from fedmpi.runtime.plan.loop_text import LoopWriter, kept_of
from fedmpi.runtime.plan.nodes import Node, folding_state
from fedmpi.runtime.plan.stage import Stage

Forms = tuple[tuple[str, ...], ...]


class ClientLoop:
    """The loop of a stage, compiled for columns that are stored in given forms.

    With ``folds`` it folds the clients of each block too; without, it keeps what is to be folded.  Raises
    `NotCompilable` where the stage holds something that only the interpreter can do.
    """

    def __init__(self, name: str, stage: Stage, forms: Forms, *, folds: bool) -> None:
        from fedmpi.local.loops.compiled import compile_entry

        self.kept = kept_of(stage, folds=folds)
        self.folds = stage.folds if folds else ()
        self.selections = stage.selections
        self.drops = stage.drops
        self.shared: list[Node] = []  # values that all clients have
        self.bodies: list[LocalBody] = []

        def write(dense: bool) -> Generator:
            writer = LoopWriter(stage, forms, folds=folds, dense=dense)
            self.shared, self.bodies = writer.lift.captured, writer.generator.bodies
            return writer.generator

        self._entry = compile_entry(write, f"the clients' loop of {name}", stored=any(map(any, forms)))

    def run(
        self,
        progress: Any,
        state: Sequence[Any],
        blocks: Any,
        columns: Sequence[Any],
        shared: Callable[[Node], Any],
        failed: Any,
    ) -> tuple[Any, list[Column], list[Column]]:
        """Run all clients; return the accumulator's wide store, the columns of `kept`, each fold's states of blocks.

        ``progress`` int64[PROGRESS] says where an error arose; ``blocks`` int64[clients], of one client or more,
        numbers the rank's blocks from 0 on; ``columns`` are (column, rows int64[clients]) in the order of
        the stage's; ``failed`` uint8[clients] takes 1 for a client that is left out.
        """
        from fedmpi.local.loops.compiled import flatten, flatten_arrays

        clients, folded = len(blocks), int(blocks[-1]) + 1
        flat: list[Any] = [*state, blocks, *([failed] if self.drops else [])]
        for column, rows in columns:
            flatten_arrays(column, flat)
            flat.append(rows)
        kept = [_arrays(n.member, clients) for n in self.kept]
        states = [_arrays(folding_state(n), folded) for n in self.folds]
        for arrays in (*kept, *states):
            flat += arrays
        for node in self.selections:
            flat += _memory(node, clients, int(shared(node.inputs[3])))
        for node in self.shared:
            flatten(shared(node), node.member, flat)
        wide = run(self._entry, progress, *flat)
        return (
            wide,
            [_column(n.member, clients, a) for n, a in zip(self.kept, kept, strict=True)],
            [_column(folding_state(n), folded, a) for n, a in zip(self.folds, states, strict=True)],
        )


def _arrays(type_: Type, count: int) -> list[Any]:
    return [np.empty((count, *inner), dtype) for dtype, inner in slot_formats(type_)]


def _column(type_: Type, count: int, arrays: list[Any]) -> Column:
    for array in arrays:
        array.flags.writeable = False
    return Column(type_, count, tuple(arrays))


def _memory(node: Node, clients: int, max_key: int) -> list[Any]:
    """Return what a selection remembers: a table of keys (see `selecting`), how many there are, a row for each.

    Memory of keys that no client has is never touched.
    """
    assert isinstance(node.member, SequenceType)
    (keys,) = node.inputs[1].member.shape
    rows = max(min(clients * keys, max_key + 1), 1)
    table = np.zeros((1 << (2 * rows - 1).bit_length(), 2), np.int64)
    return [table, np.zeros(1, np.int64), *_arrays(node.member.element, rows)]
