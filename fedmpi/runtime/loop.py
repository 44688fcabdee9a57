"""A stage's client work as one compiled loop over the rank's clients.

Each client's values are taken from columns, the mapped functions are written out in place, and what they give is added
to the accumulator: nothing of Python runs between the clients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.local.codegen import Generator, NotCompilable, Parts, check_compilable, part_of
from fedmpi.local.columns import Column, layout, leaf_formats
from fedmpi.local.lifting import Lift
from fedmpi.runtime.plan import Node, Plan, Stage
from fedmpi.runtime.program import columns_of, steps_of
from fedmpi.runtime.reduction import Layout, Leaf

Forms = tuple[tuple[str, ...], ...]
BATCH, CLIENT, STEP = range(3)  # places in `progress`


class ClientLoop:
    """The loop of a stage, compiled for columns that are stored in given forms.

    Raises `NotCompilable` where the stage holds something that only the interpreter can do.
    """

    def __init__(self, plan: Plan, stage: Stage, layout: Layout, forms: Forms) -> None:
        from fedmpi.local.compiled import compile_entry

        self.columns, self.steps = columns_of(stage), steps_of(stage)
        self.kept = _kept(plan, stage)
        self.shared: list[Node] = []  # values that all clients have

        def write(dense: bool) -> Generator:
            writer = _Writer(plan, stage, layout, forms, dense)
            self.shared = writer.lift.captured
            return writer.generator

        self._entry = compile_entry(write, stored=any(map(any, forms)))

    def run(self, progress: Any, state: Sequence[Any], columns: Sequence[Any], shared: Callable[[Node], Any]) -> Any:
        """Run all clients; return the accumulator's wide store and the columns of `kept`.

        ``progress`` int64[3] says where an error arose; ``columns`` are (column, rows int64[clients]) in the order of
        `self.columns`.
        """
        from fedmpi.local.compiled import flatten, flatten_arrays

        count = len(columns[0][1])
        flat: list[Any] = [*state, count]
        for column, rows in columns:
            flatten_arrays(column, flat)
            flat.append(rows)
        kept = [[np.empty((count, *inner), dtype) for dtype, inner in leaf_formats(n.member)] for n in self.kept]
        for arrays in kept:
            flat += arrays
        for node in self.shared:
            flatten(shared(node), node.member, flat)
        wide = self._entry(progress, *flat)
        for array in (a for arrays in kept for a in arrays):
            array.flags.writeable = False
        return wide, [Column(n.member, count, tuple(a)) for n, a in zip(self.kept, kept, strict=True)]


def reason_against(plan: Plan, stage: Stage, layout: Layout | None) -> str | None:
    """Return why a stage cannot be one compiled loop, None if it can; nothing is compiled."""
    if layout is None:
        return "what is summed has sizes that its type leaves open"
    try:
        _Writer(plan, stage, layout, tuple(() for _ in columns_of(stage)), False)
    except NotCompilable as reason:
        return str(reason)
    return None


def _kept(plan: Plan, stage: Stage) -> list[Node]:
    """Return the clients' values that are needed after the stage; raise `NotCompilable` for what no loop can write."""
    kept = [node for node in steps_of(stage) if node in plan.kept]
    for node in kept:
        _check_fixed(node.member)
    return kept


def _check_fixed(type_: Type) -> None:
    """Refuse a value that cannot be written into an array that is there before."""
    match type_:
        case TensorType():
            check_compilable(type_)
            if layout(type_) != "fixed":
                raise NotCompilable(f"a value of type {type_} that is kept")
        case StructType():
            for part in type_:
                _check_fixed(part)
        case _:
            raise NotCompilable(f"a value of type {type_} that is kept")


class _Writer:
    """Writes ``entry(progress, state…, count, columns…, kept…, shared…)``."""

    def __init__(self, plan: Plan, stage: Stage, layout: Layout, forms: Forms, dense: bool) -> None:
        self.generator = g = Generator(dense=dense)
        self.lift = Lift(g, lambda node: node.member)
        i64, f64 = np.dtype(np.int64), np.dtype(np.float64)
        state = [(f64, 2), (np.dtype(np.int32), 1), (i64, 1), (i64, 2), (i64, 1), (f64, 1), (layout.plain_dtype, 1)]
        self.state = [g.leaf(dtype, rank, written=True) for dtype, rank in state]
        count = g.leaf(None, 0)
        elements = []
        for node, form in zip(columns_of(stage), forms, strict=True):
            column = g.sequence(node.member, g.arrays(node.member, iter(form)), "0", "0")
            elements.append((node, f"{g.helper('element_at')}({column}, {g.leaf(i64, 1)}[client])"))
        kept = {n: [g.leaf(d, 1 + len(s), written=True) for d, s in leaf_formats(n.member)] for n in _kept(plan, stage)}
        g.line(f"for client in range({count}):")
        g.indent += 1
        g.line(f"progress[{BATCH}], progress[{CLIENT}], progress[{STEP}] = -1, client, 0")
        for node, text in elements:
            self.lift.known[id(node)] = g.bind(text, node.member)
        for number, node in enumerate(steps_of(stage)):
            self.step(number, node)
            if node in kept:  # others may hold sequences, which have no leaves to write
                for array, leaf in zip(kept[node], self.leaves(self.lift(node), node.member), strict=True):
                    is_array = g.signature[int(array[1:])][1] > 1
                    g.line(f"{g.helper('put')}({array}, client, {leaf})" if is_array else f"{array}[client] = {leaf}")
        self.reduce(stage, layout)
        g.indent -= 1
        g.line(f"return {self.state[2]}, {self.state[3]}")

    def step(self, number: int, node: Node) -> None:
        """Write one operator."""
        g = self.generator
        match node.op:
            case "federated_map":
                g.line(f"progress[{BATCH}], progress[{STEP}] = -1, {number}")
                value: Any = g.invoke(self.lift(node.inputs[0]), self.lift(node.inputs[1]), node.member)
                value = g.owned(value, node.member)
            case "select":
                value = part_of(g, self.lift(node.inputs[0]), node.detail, node.member)
            case _:  # a zip: the parts stand side by side
                value = self.lift(node.inputs[0])
        self.lift.known[id(node)] = value

    def leaves(self, value: Any, type_: Type) -> list[str]:
        """Return the texts of a value's tensors."""
        if isinstance(type_, StructType) and isinstance(value, Parts):
            return [leaf for i, t in enumerate(type_) for leaf in self.leaves(value.parts[i], t)]
        return self.generator.leaves(self.generator.text(value), type_)

    def reduce(self, stage: Stage, layout: Layout) -> None:
        """Write what adds a client's terms."""
        g = self.generator
        for node, leaves in zip(stage.reductions, layout.leaves, strict=True):
            texts = self.leaves(self.lift(node.inputs[0]), node.inputs[0].member)
            weight = "1.0"
            if len(node.inputs) > 1:
                texts.append(g.bind(g.text(self.lift(node.inputs[1])), node.inputs[1].member).text)
                g.scope["float64"] = np.float64
                weight = g.bind(f"float64({texts[-1]})", TensorType(np.float64)).text
            for leaf, text in zip(leaves, texts, strict=True):
                self.add(leaf, text, "1.0" if leaf.is_weight else weight)
        if stage.reductions:
            g.line(f"if client % {g.constant('N', _clients())} == {_clients() - 1}:")
            g.line(f"    {self.state[2]}, {self.state[3]} = {g.helper('carry')}({', '.join(self.state[:5])})")

    def add(self, leaf: Leaf, text: str, weight: str) -> None:
        """Write the addition of one tensor."""
        g = self.generator
        if leaf.dtype.kind == "c":
            if leaf.shape:
                real = np.dtype(f"f{leaf.dtype.itemsize // 2}").type
                return self._add(leaf, f"{text}.reshape(-1).view({g.constant('F', real)})", weight, leaf.at, True)
            self._add(leaf, f"{text}.real", weight, leaf.at, False)
            return self._add(leaf, f"{text}.imag", weight, leaf.at + 1, False)
        return self._add(leaf, f"{text}.reshape(-1)" if leaf.shape else text, weight, leaf.at, bool(leaf.shape))

    def _add(self, leaf: Leaf, text: str, weight: str, at: int, is_array: bool) -> None:
        g, (planes, slots, keys, digits, notes, room, plain) = self.generator, self.state
        place = g.constant("A", np.int64(at))  # a name: of each literal Numba would compile a form of its own
        if not leaf.exact:
            name = g.helper("add_plain" if is_array else "add_plain_float")
            g.line(f"{name}({plain}, {notes}, {place}, {text}, {weight}, client)")
            return
        state = f"{planes}, {slots}, {keys}, {digits}, {notes}, {room}, {place}, {text}"
        if leaf.is_integer:
            name = g.helper("add_integers" if is_array else "add_integer")
            g.line(f"{keys}, {digits} = {name}({state}, client)")
        else:
            name = g.helper("add_floats" if is_array else "add_float")
            g.line(f"{keys}, {digits} = {name}({state}, {weight}, client)")


def _clients() -> int:
    from fedmpi.local.bins import CLIENTS

    return CLIENTS
