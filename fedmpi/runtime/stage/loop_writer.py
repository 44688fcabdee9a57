"""The text of a stage's compiled loop over a rank's clients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import layout as layout_of
from fedmpi.local.columns.column import leaf_formats
from fedmpi.local.computations.bodies import BATCH, CLIENT, STEP, NotCompilable
from fedmpi.local.loops.codegen import Generator, Parts, Var, check_compilable, part_of
from fedmpi.local.loops.lifting import Lift
from fedmpi.runtime.plan.plan import SELECTIONS, Node, Plan, Stage, weight_of
from fedmpi.runtime.plan.reduction import Layout, Leaf, Reduction
from fedmpi.runtime.stage.program import ACCUMULATE, VALUE, ZERO, columns_of, folding_of, folding_state, steps_of

_I64, _F64, _U64 = np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.uint64)
_KEY = TensorType(np.int32)


def kept_of(plan: Plan, stage: Stage, *, folds: bool) -> list[Node]:
    """Return the clients' values that are needed after the loop; raise `NotCompilable` for what no loop can write."""
    folded = [] if folds else columns_of(folding_of(stage))
    kept = [node for node in steps_of(stage) if node in plan.kept or node in folded]
    for node in kept:
        _check_fixed(node.member, "that is kept")
    return kept


def _check_fixed(type_: Type, what: str) -> None:
    """Refuse a value that cannot be written into an array that is there before."""
    match type_:
        case TensorType():
            check_compilable(type_)
            if layout_of(type_) != "fixed":
                raise NotCompilable(f"a value of type {type_} {what}")
        case StructType():
            for part in type_:
                _check_fixed(part, what)
        case _:
            raise NotCompilable(f"a value of type {type_} {what}")


class LoopWriter:
    """Writes ``entry(progress, state…, blocks, columns…, kept…, states…, memory…, shared…)``."""

    def __init__(self, plan: Plan, stage: Stage, layout: Layout, forms: Any, dense: bool, *, folds: bool) -> None:
        self.generator = g = Generator(dense=dense, in_place=True)
        self.lift = Lift(g, lambda node: node.member)
        state = [(_F64, 2), (np.dtype(np.int32), 1), (_I64, 1), (_I64, 2), (_I64, 1), (_F64, 1)]
        state += [(layout.plain_dtype, 1), (_U64, 1), (_U64, 1), (_U64, 1)]
        self.state = [g.leaf(dtype, rank, written=True) for dtype, rank in state]
        self.blocks = g.leaf(_I64, 1)
        elements = []
        for node, form in zip(columns_of(stage), forms, strict=True):
            column = g.sequence(node.member, g.arrays(node.member, iter(form)), "0", "0")
            elements.append((node, f"{g.helper('element_at')}({column}, {g.leaf(_I64, 1)}[client])"))
        kept = {n: self.outputs(n.member) for n in kept_of(plan, stage, folds=folds)}
        fold = {n: self.outputs(self.checked_state(n)) for n in stage.folds} if folds else {}
        self.memory = {n: self.remembered(n) for n in steps_of(stage) if n.op in SELECTIONS}
        states = {n: self.zero(n) for n in fold}
        g.line(f"for client in range(len({self.blocks})):")
        g.indent += 1
        g.line(f"progress[{BATCH}], progress[{CLIENT}], progress[{STEP}] = -1, client, 0")
        for node, text in elements:
            self.lift.known[id(node)] = g.bind(text, node.member)
        steps = steps_of(stage)
        for number, node in enumerate(steps):
            self.step(number, node)
            if node in kept:  # others may hold sequences, which have no leaves to write
                self.write(kept[node], "client", self.lift(node), node.member)
        self.reduce(stage, layout, len(steps))
        for number, node in enumerate(fold, len(steps) + len(stage.reductions)):
            self.fold(number, node, *states[node], fold[node])
        g.indent -= 1
        g.line(f"return {self.state[2]}, {self.state[3]}")

    # --- what a loop writes into ---

    def outputs(self, type_: Type) -> list[str]:
        """Return the names of arrays with a row for each of several values."""
        return [self.generator.leaf(d, 1 + len(inner), written=True) for d, inner in leaf_formats(type_)]

    def write(self, arrays: list[str], row: str, value: Any, type_: Type) -> None:
        """Write a value into a row of such arrays."""
        g = self.generator
        for array, leaf in zip(arrays, self.leaves(value, type_), strict=True):
            self.put(array, row, leaf, is_array=g.signature[int(array[1:])][1] > 1)

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
            case "federated_map" | "federated_eval":
                self.mark(number)
                argument = self.lift(node.inputs[1]) if node.op == "federated_map" else None
                value: Any = g.owned(g.invoke(self.lift(node.inputs[0]), argument, node.member), node.member)
            case "select":
                value = part_of(g, self.lift(node.inputs[0]), node.detail, node.member)
            case op if op in SELECTIONS:
                self.mark(number)
                value = self.selection(node)
            case _:  # a zip: the parts stand side by side
                value = self.lift(node.inputs[0])
        self.lift.known[id(node)] = value

    def mark(self, number: int) -> None:
        """Write which step begins, for errors."""
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
        formats = leaf_formats(element)
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

    def fold(self, number: int, node: Node, zero: str, state: Var, arrays: list[str]) -> None:
        """Write how a client is folded into the state of its block."""
        g, blocks = self.generator, self.blocks
        self.mark(number)
        g.line(f"if client == 0 or {blocks}[client] != {blocks}[client - 1]:")
        g.line(f"    {state.text} = {zero}")
        member = node.inputs[VALUE]
        given = Var(f"{g.helper('shared')}({state.text})", state.type)
        pair = Parts((given, self.lift(member)), StructType([state.type, member.member]))
        result = g.text(g.invoke(self.lift(node.inputs[ACCUMULATE]), pair, state.type))
        g.line(f"{state.text} = {g.helper('coerce')}({result}, {g.token(state.type)})")
        if not arrays:
            return  # a state of empty structs
        g.line(f"if client + 1 == len({blocks}) or {blocks}[client + 1] != {blocks}[client]:")
        g.indent += 1
        self.write(arrays, f"{blocks}[client]", state, state.type)
        g.indent -= 1

    # --- sums ---

    def reduce(self, stage: Stage, layout: Layout, steps: int) -> None:
        """Write what adds a client's terms, all of its weights checked before."""
        g = self.generator
        weights = [self.weight(i, node) for i, node in enumerate(stage.reductions, steps)]
        groups: dict[_Kind, list[tuple[str, int]]] = {}
        for number, (node, reduction, leaves, (given, weight)) in enumerate(
            zip(stage.reductions, layout.reductions, layout.leaves, weights, strict=True), steps
        ):
            texts = self.leaves(self.lift(node.inputs[0]), node.inputs[0].member)
            if leaves and leaves[0].store in ("ordered", "secure"):
                self.mark(number)
                for leaf, text in zip(leaves, texts, strict=True):
                    self.keep(reduction, leaf, text)
                continue
            for leaf, text in zip(leaves, [*texts, *given], strict=True):
                kind = _Kind(
                    leaf.exact, leaf.is_integer, leaf.dtype, bool(leaf.shape), "1.0" if leaf.is_weight else weight
                )
                groups.setdefault(kind, []).extend(self.terms(leaf, text))
        for kind, terms in groups.items():
            self.add(kind, terms)
        if groups:
            g.line(f"if client % {g.constant('N', _clients())} == {_clients() - 1}:")
            g.line(f"    {self.state[2]}, {self.state[3]} = {g.helper('carry')}({', '.join(self.state[:5])})")

    def weight(self, number: int, node: Node) -> tuple[list[str], str]:
        """Write how a mean's weight is checked; return it as it was given (nothing without), and as a float64."""
        weight = weight_of(node)
        if weight is None:
            return [], "1.0"
        g = self.generator
        self.mark(number)
        given = g.bind(g.text(self.lift(weight)), weight.member).text
        return [given], g.bind(f"{g.helper('checked_weight')}({given})", TensorType(np.float64)).text

    def keep(self, reduction: Reduction, leaf: Leaf, text: str) -> None:
        """Write how a tensor counts for a least or greatest value, or is added to a secure sum."""
        from fedmpi.local.sums.extremes import turn_of

        g, (ordered, secure, limits) = self.generator, self.state[7:]
        place = g.constant("A", np.int64(leaf.at))
        if leaf.shape:
            text = f"{g.helper('shared')}({text}.reshape(-1))"
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

    def terms(self, leaf: Leaf, text: str) -> list[tuple[str, int]]:
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


def _clients() -> int:
    from fedmpi.local.sums.bins import CLIENTS

    return CLIENTS
