"""The text of a stage's compiled loop over a rank's clients."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedmpi.language.operators.table import Lowering
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.language.types.walking import leaves_of
from fedmpi.local.columns.column import is_fixed, slot_formats
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.computations.bodies import BATCH, CLIENT, STEP, NotCompilable
from fedmpi.local.loops.codegen import Generator
from fedmpi.local.loops.lifting import Lift
from fedmpi.local.loops.writer import Parts, Var, check_compilable, part_of
from fedmpi.local.sums.terms import CLIENTS, turn_of
from fedmpi.runtime.plan.nodes import ACCUMULATE, VALUE, ZERO, Node, folding_state
from fedmpi.runtime.plan.reduction import LeafPlace, Reduction
from fedmpi.runtime.plan.stage import Stage

_I64, _F64, _U64 = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.uint64)
_KEY = TensorType(np.int32)


def kept_of(stage: Stage, *, folds: bool) -> list[Node]:
    """Return the clients' values that are needed after the loop; raise `NotCompilable` for what no loop can write."""
    folded = () if folds else stage.folding.columns
    kept = [node for node in stage.steps if node in stage.kept or node in folded]
    for node in kept:
        _check_fixed(node.member, "that is kept")
    return kept


def _check_fixed(type_: Type, what: str) -> None:
    """Refuse a value that cannot be written into an array that is there before."""
    for leaf in leaves_of(type_):
        if isinstance(leaf, TensorType):
            check_compilable(leaf)
        if not is_fixed(leaf):
            raise NotCompilable(f"a value of type {leaf} {what}")


class LoopWriter:
    """Writes ``entry(progress, state…, blocks, columns…, kept…, states…, memory…, shared…)``.

    ``forms`` are those in which the stage's columns are stored.  With ``folds`` the loop folds the clients of each
    block too; without, it keeps what is to be folded.  A ``draft`` is not to be compiled: it loads nothing of Numba.

    A client is *computed* first: all steps, the weights and limits of its terms, the next states of the folds.  Any of
    this may fail.  Then it is *committed*, which cannot: its terms are added, the states assigned.
    """

    def __init__(self, stage: Stage, forms: Any, *, folds: bool, dense: bool = False, draft: bool = False) -> None:
        assert stage.layout is not None
        self.stage, self.layout = stage, stage.layout
        self.generator = g = Generator(dense=dense)
        self.lift = Lift(g, lambda node: node.member)
        state = [(_F64, 2), (np.dtype(np.int32), 1), (_I64, 1), (_I64, 2), (_I64, 1), (_F64, 1)]
        state += [(self.layout.plain_dtype, 1), (_U64, 1), (_U64, 1), (_U64, 1)]
        self.state = [g.leaf(dtype, rank, written=True) for dtype, rank in state]
        self.blocks = g.leaf(_I64, 1)
        self.failed = g.leaf(np.uint8, 1, written=True) if stage.drops else ""
        self.adds = False  # whether clients add to sums that have to be carried
        elements = []
        for node, form in zip(stage.columns, forms, strict=True):
            column = g.sequence(node.member, g.arrays(node.member, iter(form)), "0", "0")
            elements.append((node, f"{g.helper('element_at')}({column}, {g.leaf(_I64, 1)}[client])"))
        self.kept = {n: self.outputs(n.member) for n in kept_of(stage, folds=folds)}
        self.folds = {n: self.outputs(self.checked_state(n)) for n in stage.folds} if folds else {}
        self.memory = {n: self.remembered(n) for n in stage.selections}
        states = {n: self.zero(n) for n in self.folds}
        g.line(f"for client in range(len({self.blocks})):")
        g.indent += 1
        g.line(f"progress[{BATCH}], progress[{CLIENT}], progress[{STEP}] = -1, client, 0")
        for zero, first in states.values():
            self.begin_block(zero, first)
        with self.trying([state.text for _, state in states.values()]):
            for node, text in elements:
                self.lift.known[id(node)] = g.bind(text, node.member)
            self.client(states)
        self.carry()
        for node, (_, last) in states.items():
            self.end_block(last, self.folds[node])
        g.indent -= 1
        g.line(f"return {self.state[2]}, {self.state[3]}")

    @contextlib.contextmanager
    def trying(self, states: Sequence[str]) -> Iterator[None]:
        """Write what notes a client that fails, where those are left out; inside, all that is done for it is written.

        What commits a client comes last and cannot fail: it counts whole or not at all.  ``states`` are the variables
        that it changes.
        """
        g, since = self.generator, len(self.generator.lines)
        yield
        if self.failed:
            changed = [*self.state[2:4], *states]
            call = g.set_apart(since, "one_client", ["client", *states], changed)
            g.line("try:")
            g.line(f"    {', '.join(changed)} = {call}")
            g.line("except Exception:")
            g.line(f"    {self.failed}[client] = 1")

    def client(self, states: dict[Node, tuple[str, Var]]) -> None:
        """Write what is done for a client; ``states`` are those of the folds."""
        steps, reductions = self.stage.steps, self.stage.reductions
        for number, node in enumerate(steps):
            self.step(number, node)
            if node in self.kept:  # others may hold sequences, which have no leaves to write
                self.write(self.kept[node], "client", self.lift(node), node.member)
        weights = [self.weight(i, node) for i, node in enumerate(reductions, len(steps))]
        terms = [self.lift(node.inputs[0]) for node in reductions]
        for number, (reduction, leaves, term) in enumerate(
            zip(self.layout.reductions, self.layout.leaves, terms, strict=True), len(steps)
        ):
            if reduction.secure and not reduction.modular:
                self.check_limits(number, leaves, self.leaves(term, reduction.member))
        first = len(steps) + len(reductions)
        following = [self.fold(number, node, states[node][1]) for number, node in enumerate(self.folds, first)]
        self.add_all(terms, weights)
        for node, state in zip(self.folds, following, strict=True):
            self.generator.line(f"{states[node][1].text} = {state.text}")

    # --- what a loop writes into ---

    def outputs(self, type_: Type) -> list[str]:
        """Return the names of arrays with a row for each of several values."""
        return [self.generator.leaf(d, 1 + len(inner), written=True) for d, inner in slot_formats(type_)]

    def write(self, arrays: list[str], row: str, value: Any, type_: Type) -> None:
        """Write a value into a row of such arrays."""
        g = self.generator
        for array, slot in zip(arrays, g.slots(value, type_), strict=True):
            self.put(array, row, slot, is_array=g.signature[int(array[1:])][1] > 1)

    def put(self, array: str, row: str, text: str, *, is_array: bool) -> None:
        g = self.generator
        g.line(f"{g.helper('put')}({array}, {row}, {text})" if is_array else f"{array}[{row}] = {text}")

    def leaves(self, value: Any, type_: Type) -> list[str]:
        """Return the texts of a value's tensors."""
        if isinstance(type_, StructType) and isinstance(value, Parts):
            return [leaf for i, t in enumerate(type_) for leaf in self.leaves(value.parts[i], t)]
        return self.generator.leaves(self.generator.text(value), type_)

    # --- steps ---

    def step(self, number: int, node: Node) -> None:
        """Write one operator."""
        g = self.generator
        match node.op:
            case _ if node.lowering is Lowering.APPLY:
                self.mark(number)
                argument = self.lift(node.inputs[1]) if len(node.inputs) > 1 else None
                value: Any = g.owned(g.invoke(self.lift(node.inputs[0]), argument, node.member), node.member)
            case "select":
                value = part_of(g, self.lift(node.inputs[0]), node.detail, node.member)
            case _ if node.lowering is Lowering.SELECT:
                self.mark(number)
                value = self.selection(node)
            case _:  # a zip: the parts stand side by side
                value = self.lift(node.inputs[0])
        self.lift.known[id(node)] = value

    def mark(self, number: int) -> None:
        """Write which step begins, for errors."""
        nodes = (*self.stage.steps, *self.stage.reductions, *self.stage.folds)
        self.generator.remarks[len(self.generator.lines)] = str(nodes[number])
        self.generator.line(f"progress[{BATCH}], progress[{STEP}] = -1, {number}")

    def remembered(self, node: Node) -> tuple[str, str, list[str]]:
        """Return the memory of a selection: the table of keys, their number, the arrays of their parts."""
        assert isinstance(node.member, SequenceType)
        _check_fixed(node.member.element, "that is selected")
        table, used = (self.generator.leaf(_I64, rank, written=True) for rank in (2, 1))
        return table, used, self.outputs(node.member.element)

    def selection(self, node: Node) -> Var:
        """Write a client's parts of a server's value, one for each of its keys; each key's is made once."""
        g, (table, used, rows) = self.generator, self.memory[node]
        assert isinstance(node.member, SequenceType)
        element, (count,) = node.member.element, node.inputs[1].member.shape
        function, keys, value, max_key = map(self.lift, node.inputs)
        g.scope["empty"] = np.empty
        formats = slot_formats(element)
        shapes = [(g.constant("S", (count, *inner)), g.constant("D", dtype.type)) for dtype, inner in formats]
        arrays = [g.bind(f"empty({shape}, {dtype})", element).text for shape, dtype in shapes]
        keys, max_key = g.bind(g.text(keys), node.inputs[1].member), g.text(max_key)
        i, at = g.name("i"), g.name("k")
        g.line(f"for {i} in range({count}):")
        g.indent += 1
        key = g.bind(f"{keys.text}[{i}]", _KEY)
        g.line(f"{at} = {g.helper('find_key')}({table}, {key.text}, {max_key})")
        g.line(f"if {table}[{at}, 0] == 0:")
        g.indent += 1
        argument = Parts((value, key), StructType([node.inputs[2].member, _KEY]))
        self.write(rows, f"{used}[0]", g.owned(g.invoke(function, argument, element), element), element)
        g.line(f"{table}[{at}, 0], {table}[{at}, 1] = {key.text} + 1, {used}[0]")
        g.line(f"{used}[0] += 1")
        g.indent -= 1
        for array, row, (_, inner) in zip(arrays, rows, formats, strict=True):
            self.put(array, i, f"{row}[{table}[{at}, 1]]", is_array=bool(inner))
        g.indent -= 1
        shared = "".join(f"{g.helper('shared')}({array}), " for array in arrays)
        return g.bind(f"{g.helper('make_sequence')}({g.token(element)}, ({shared}), progress, 0, {count})", node.member)

    # --- folds ---

    def checked_state(self, node: Node) -> Type:
        state = folding_state(node)
        _check_fixed(state, "as the state of a fold")
        return state

    def zero(self, node: Node) -> tuple[str, Var]:
        """Write the first state of a fold; return the text that makes another one, and the state."""
        g, type_ = self.generator, folding_state(node)
        zero = g.bind(g.text(self.lift(node.inputs[ZERO])), type_)
        text = f"{g.helper('fresh')}({zero.text}, {g.token(type_)})"
        return text, g.bind(text, type_)

    def begin_block(self, zero: str, state: Var) -> None:
        """Write what begins a block: its state is another zero."""
        g, blocks = self.generator, self.blocks
        g.line(f"if client == 0 or {blocks}[client] != {blocks}[client - 1]:")
        g.line(f"    {state.text} = {zero}")

    def fold(self, number: int, node: Node, state: Var) -> Var:
        """Write how a client is folded into the state of its block; return the next state."""
        g = self.generator
        self.mark(number)
        member = node.inputs[VALUE]
        given = Var(f"{g.helper('shared')}({state.text})", state.type)
        pair = Parts((given, self.lift(member)), StructType([state.type, member.member]))
        result = g.text(g.invoke(self.lift(node.inputs[ACCUMULATE]), pair, state.type))
        return g.bind(f"{g.helper('coerce')}({result}, {g.token(state.type)})", state.type)

    def end_block(self, state: Var, arrays: list[str]) -> None:
        """Write what ends a block: its last state goes into its row."""
        g, blocks = self.generator, self.blocks
        if not arrays:
            return  # a state of empty structs
        g.line(f"if client + 1 == len({blocks}) or {blocks}[client + 1] != {blocks}[client]:")
        g.indent += 1
        self.write(arrays, f"{blocks}[client]", state, state.type)
        g.indent -= 1

    # --- sums ---

    def check_limits(self, number: int, leaves: list[LeafPlace], texts: list[str]) -> None:
        """Write how the terms of a secure sum are checked; modular ones have no limits."""
        if not leaves:
            return
        g = self.generator
        self.mark(number)
        for leaf, text in zip(leaves, texts, strict=True):
            limit = f"{self.state[9]}[{g.constant('A', np.int64(leaf.limit))}]"
            name = "expect_inside" if leaf.shape else "expect_one_inside"
            g.line(f"{g.helper(name)}({self.flat(leaf, text)}, {limit})")

    def flat(self, leaf: LeafPlace, text: str) -> str:
        """Return a tensor as a flat array that nobody may write to, or the scalar that it is."""
        return f"{self.generator.helper('shared')}({text}.reshape(-1))" if leaf.shape else text

    def add_all(self, values: list[Any], weights: list[tuple[list[str], str]]) -> None:
        """Write what adds a client's terms, all of which are checked."""
        g = self.generator
        groups: dict[_Kind, list[tuple[str, int]]] = {}
        for reduction, leaves, blocks, value, (given, weight) in zip(
            self.layout.reductions, self.layout.leaves, self.layout.blocks, values, weights, strict=True
        ):
            if blocks and blocks[0].store in ("ordered", "secure"):
                texts = self.leaves(value, reduction.member) if blocks is leaves else g.slots(value, reduction.member)
                for leaf, text in zip(blocks, texts, strict=True):
                    self.keep(reduction, leaf, text)
                continue
            weighed = zip(blocks[-1:], given, strict=False)
            for leaf, text in (*self.placed(value, reduction, blocks), *weighed):
                kind = _Kind(
                    leaf.exact, leaf.is_integer, leaf.dtype, bool(leaf.shape), "1.0" if leaf.is_weight else weight
                )
                groups.setdefault(kind, []).extend(self.terms(leaf, text))
        for kind, terms in groups.items():
            self.add(kind, terms)
        self.adds = bool(groups)

    def carry(self) -> None:
        """Write what keeps the sums exact, however many clients there are."""
        g = self.generator
        if self.adds:
            g.line(f"if client % {g.constant('N', CLIENTS)} == {CLIENTS - 1}:")
            g.line(f"    {self.state[2]}, {self.state[3]} = {g.helper('carry')}({', '.join(self.state[:5])})")

    def placed(self, value: Any, reduction: Reduction, blocks: list[LeafPlace]) -> Iterator[tuple[LeafPlace, str]]:
        """Yield the numbers that a client adds to a sum, and where: of a flat struct its vectors, or their pieces."""
        member = reduction.member
        if flat_layout(member) is None:
            yield from zip(blocks, self.leaves(value, member), strict=False)
            return
        assert isinstance(member, StructType)
        for text, group, start, size in self.generator.pieces(value, member):
            block = blocks[group]
            at = block.at + start * (2 if block.dtype.kind == "c" else 1)
            yield dataclasses.replace(block, at=at, shape=() if size is None else (size,)), text

    def weight(self, number: int, node: Node) -> tuple[list[str], str]:
        """Write how a mean's weight is checked; return it as it was given (nothing without), and as a float64."""
        weight = node.weight
        if weight is None:
            return [], "1.0"
        g = self.generator
        self.mark(number)
        given = g.bind(g.text(self.lift(weight)), weight.member).text
        return [given], g.bind(f"{g.helper('checked_weight')}({given})", TensorType(np.float64)).text

    def keep(self, reduction: Reduction, leaf: LeafPlace, text: str) -> None:
        """Write how a tensor counts for a least or greatest value, or is added to a secure sum."""
        g, (ordered, secure, limits) = self.generator, self.state[7:]
        place = g.constant("A", np.int64(leaf.at))
        text = self.flat(leaf, text)
        many = "s" if leaf.shape else ""
        if leaf.store == "ordered":
            name = f"keep_{'integer' if leaf.is_integer else 'float'}{many}"
            turn = g.constant("A", turn_of(leaf.dtype, least=reduction.least))
            g.line(f"{g.helper(name)}({ordered}, {place}, {text}, {turn})")
        else:
            name = "add_inside" if leaf.shape else "add_one_inside"
            limit = f"{limits}[{g.constant('A', np.int64(leaf.limit))}]"
            modular = g.constant("M", reduction.modular)
            g.line(f"{g.helper(name)}({secure}, {place}, {text}, {limit}, {modular})")

    def terms(self, leaf: LeafPlace, text: str) -> list[tuple[str, int]]:
        """Return the terms of a tensor, as flat arrays or scalars of real numbers, and where they are added."""
        if leaf.shape:
            flat = f"{text}.reshape(-1)"
            if leaf.dtype.kind == "c":
                flat += f".view({self.generator.constant('F', np.dtype(f'f{leaf.dtype.itemsize // 2}').type)})"
            return [(f"{self.generator.helper('shared')}({flat})", leaf.at)]
        if leaf.dtype.kind == "c":
            return [(f"{text}.real", leaf.at), (f"{text}.imag", leaf.at + 1)]
        return [(text, leaf.at)]

    def add(self, kind: _Kind, terms: list[tuple[str, int]]) -> None:
        """Write the addition of terms of one kind, once: in a loop if there are several, for it is long to compile."""
        g, (planes, slots, keys, digits, notes, room, plain) = self.generator, self.state[:7]
        (text, at), indent = terms[0], ""
        if len(terms) > 1:
            parts, k = g.name(), g.name()
            g.line(f"{parts} = ({', '.join(text for text, _ in terms)})")
            g.line(f"for {k} in range({len(terms)}):")
            places = g.constant("A", tuple(at for _, at in terms))
            text, place, indent = f"{parts}[{k}]", f"{places}[{k}]", "    "
        else:
            place = g.constant("A", np.int64(at))  # a name: of each literal Numba would compile a form of its own
        if not kind.exact:
            name = g.helper("add_plain" if kind.is_array else "add_plain_float")
            g.line(f"{indent}{name}({plain}, {notes}, {place}, {text}, {kind.weight}, client)")
            return
        state = f"{planes}, {slots}, {keys}, {digits}, {notes}, {room}, {place}, {text}"
        name = ("add_integer" if kind.is_integer else "add_float") + "s" * kind.is_array
        weight = "" if kind.is_integer else f"{kind.weight}, "
        g.line(f"{indent}{keys}, {digits} = {g.helper(name)}({state}, {weight}client)")


class _Kind(NamedTuple):
    """What has to be the same for terms to be added by one loop; ``weight`` is a text."""

    exact: bool
    is_integer: bool
    dtype: Any
    is_array: bool
    weight: str
