"""The running sums of a stage on one rank, their way to rank 0, and what is made of them there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmpi.language.types.walking import flat, nested
from fedmpi.local.attributes import attributes_of
from fedmpi.local.columns.flat import slots_of, value_of
from fedmpi.local.sums import bins, extremes, masks, rounding
from fedmpi.local.sums.terms import CLIENTS, PLANES, turn_of
from fedmpi.runtime.mpi.comm import Communicator
from fedmpi.runtime.plan.reduction import Array, Layout, LeafPlace, Reduction
from fedmpi.runtime.stage.combined import reduce
from fedmpi.runtime.stage.nonfinite import NotFinite

Words = np.ndarray[Any, np.dtype[np.int64]]
Members = Sequence[tuple[Any, Any]]  # of one client: for each reduction its value and its weight (None without)


class Accumulator:
    """The sums of a `Layout`, on one rank.

    One block of memory: the planes of the exact sums, the halves of the secure ones, then the plain sums if they are
    float64 too, so that what travels is one piece of it.  ``ordered`` and ``secure`` are uint64; ``limits`` uint64 are
    the greatest numbers that a client may add to each leaf of a secure sum.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._one_block = layout.plain_dtype == np.float64
        size = PLANES * layout.exact
        halves = 2 * layout.secure
        self._memory = np.zeros(size + halves + (layout.plain if self._one_block else 0))
        self.planes = self._memory[:size].reshape(PLANES, layout.exact)
        self._halves = self._memory[size : size + halves].reshape(2, layout.secure)
        self.plain = self._memory[size + halves :] if self._one_block else np.zeros(layout.plain, layout.plain_dtype)
        self.ordered, self.secure = np.zeros(layout.ordered, np.uint64), np.zeros(layout.secure, np.uint64)
        self.limits = np.zeros(layout.limits, np.uint64)
        self.slots = np.zeros(layout.exact, np.int32)  # memory that nothing touches before it is needed
        self.room = np.zeros(bins.BLOCK)
        self.notes = bins.new_notes()
        self.keys, self.digits = bins.new_wide()
        self._clients = 0

    def reset(self) -> None:
        """Forget all that was added; only what was touched is cleared."""
        for numbers in (self.plain, self.ordered, self.secure):
            if numbers.size:
                numbers.fill(0)
        self.planes[self.notes[bins.FIRST] : self.notes[bins.LAST] + 1].fill(0)
        if self.notes[bins.ROWS]:
            # Not by the keys: of those that a compiled loop added before it failed nobody knows.
            self.slots.fill(0)
            self.keys, self.digits = bins.new_wide()
        self.notes[:] = bins.EMPTY
        self._clients = 0

    @property
    def _exact(self) -> tuple[Any, Any, Any, Any, Any, Any]:
        return self.planes, self.slots, self.keys, self.digits, self.notes, self.room

    @property
    def state(self) -> tuple[Any, ...]:
        """What compiled code adds to: see `bins`; then the other numbers and the limits."""
        return (*self._exact, self.plain, self.ordered, self.secure, self.limits)

    def grown(self, wide: tuple[Any, Any]) -> None:
        """Take the wide store that compiled code returned."""
        self.keys, self.digits = wide

    def add(self, members: Members, position: int) -> None:
        """Add one client, number ``position`` of the rank's, whose weights and limits are checked: it cannot fail."""
        layout = self.layout
        for reduction, blocks, (value, weight) in zip(layout.reductions, layout.blocks, members, strict=True):
            w = 1.0 if weight is None else float(weight)
            parts = (flat if reduction.secure else slots_of)(value, reduction.member)
            for leaf, part in zip(blocks, [*parts, weight], strict=False):
                if leaf.store == "ordered":
                    keys = extremes.keys_of(part, turn_of(leaf.dtype, least=reduction.least))
                    place = slice(leaf.at, leaf.at + leaf.slots)
                    np.maximum(self.ordered[place], keys, out=self.ordered[place])
                elif leaf.store == "secure":
                    self._add_inside(leaf, np.asarray(part), modular=reduction.modular)
                else:
                    self._add(leaf, np.asarray(part), 1.0 if leaf.is_weight else w, position)
        self._clients += 1
        if self._clients % CLIENTS == 0:
            self._carry()

    def check(self, members: Members) -> None:
        """Raise `ValueError` if a client has a number that a secure sum does not take; its reduction is noted on it."""
        for index, (reduction, leaves) in enumerate(zip(self.layout.reductions, self.layout.leaves, strict=True)):
            if reduction.modular or not leaves or leaves[0].store != "secure":
                continue
            for leaf, part in zip(leaves, flat(members[index][0], reduction.member), strict=True):
                try:
                    masks.check_inside(part, int(self.limits[leaf.limit]))
                except ValueError as error:
                    attributes_of(error)["fedmpi_reduction"] = index  # for who knows what it is called
                    raise

    def _add_inside(self, leaf: LeafPlace, array: Array, *, modular: bool) -> None:
        limit, flat = self.limits[leaf.limit], _read_only(array.reshape(-1))
        masks.add_inside(self.secure, np.int64(leaf.at), flat, limit, modular)

    def mask(self, key: Array, number: int, pairs: Array) -> None:
        """Add the masks of the clients whose numbers are sent (see `fedmpi.local.sums.masks`)."""
        for reduction, leaves in zip(self.layout.reductions, self.layout.leaves, strict=True):
            for leaf in leaves:
                if leaf.store == "secure":
                    at, count, limit = np.int64(leaf.at), np.int64(leaf.slots), self.limits[leaf.limit]
                    masks.add_masks(self.secure, at, count, limit, reduction.modular, key, np.int64(number), pairs)

    def _add(self, leaf: LeafPlace, array: Array, weight: float, position: int) -> None:
        if leaf.dtype.kind not in "iuc" and leaf.dtype.itemsize == 2:
            array = array.astype(np.float64)  # float16 and bfloat16 have no compiled form
        flat = np.ascontiguousarray(array).reshape(-1)
        if leaf.dtype.kind == "c":
            # Its two parts: as a complex product, (inf + 1j) * 2 would be inf + nan j.
            flat = flat.view(flat.real.dtype)
        flat = _read_only(flat)
        if not leaf.exact:
            bins.add_plain(self.plain, self.notes, leaf.at, flat, weight, position)
        elif leaf.is_integer:
            self.grown(bins.add_integers(*self._exact, leaf.at, flat, position))
        else:
            self.grown(bins.add_floats(*self._exact, leaf.at, flat, weight, position))

    def _carry(self) -> None:
        self.grown(bins.carry(self.planes, self.slots, self.keys, self.digits, self.notes))

    @property
    def planes_in_use(self) -> int:
        """How many planes hold something."""
        return max(0, int(self.notes[bins.LAST]) - int(self.notes[bins.FIRST]) + 1)

    @property
    def specials(self) -> int:
        """The number of terms that were infinite or NaN."""
        return int(self.notes[bins.SPECIALS])

    # --- together with the other ranks ---

    def words(self, clients: int) -> Words:
        """Return what the ranks have to agree on, as numbers of which the least counts; ``clients`` of all ranks.

        The planes in use, and whether there are wide sums or terms that are not finite.
        """
        if clients > CLIENTS:
            self._carry()  # the sums over ranks must be exact too
        first, last, rows, specials = self.notes[:4].tolist()
        return np.array([first, -last, -int(rows > 0 or specials > 0)], dtype=np.int64)

    def reduce(self, comm: Communicator, words: Words) -> None:
        """Add the ranks' sums on rank 0; ``words`` are those that all agreed on."""
        first, last = int(words[0]), -int(words[1])
        self.notes[bins.FIRST], self.notes[bins.LAST] = first, last
        n, secure = self.layout.exact, self.secure
        if secure.size:
            # As halves, whose sums over the ranks float64 holds exactly, integers modulo 2^64 travel with other sums.
            self._halves[0], self._halves[1] = secure & np.uint64(0xFFFFFFFF), secure >> np.uint64(32)
        ends_at = len(self._memory) if len(self._memory) > PLANES * n else (last + 1) * n
        message = self._memory[first * n : ends_at]
        reduce(comm, message, self.ordered)
        if not self._one_block and self.layout.plain:
            comm.reduce(self.plain)

    def wide(self, clients: Words) -> Array:
        """Return notes and wide store as bytes; ``clients`` are the indices of the rank's clients."""
        rows = int(self.notes[bins.ROWS])
        notes = self.notes.copy()
        if notes[bins.SPECIALS]:
            notes[bins.CLIENT] = clients[int(notes[bins.CLIENT])]
        return np.concatenate([notes, self.keys[:rows], self.digits[:rows].reshape(-1)]).view(np.uint8)

    def merge(self, parts: Sequence[Array]) -> NotFinite | None:
        """Take the wide stores of all ranks (see `wide`) in place of this one's; return what was not finite."""
        head = len(self.notes)
        pieces = [part.view(np.int64) for part in parts]
        rows = [int(piece[bins.ROWS]) for piece in pieces]
        keys = np.concatenate([piece[head : head + n] for piece, n in zip(pieces, rows, strict=True)])
        digits = np.concatenate([p[head + n :].reshape(n, bins.WIDE) for p, n in zip(pieces, rows, strict=True)])
        self.keys, place = np.unique(keys, return_inverse=True)
        self.digits = np.zeros((len(self.keys), bins.WIDE), np.int64)
        np.add.at(self.digits, place.reshape(-1), digits)
        self.notes[bins.ROWS] = len(self.keys)
        found = [self.not_finite(piece) for piece in pieces if piece[bins.SPECIALS]]
        if not found:
            return None
        first = min(found, key=lambda f: f.client)
        return NotFinite(sum(f.count for f in found), first.client, first.reduction, first.leaf, first.kind)

    def not_finite(self, notes: Words) -> NotFinite:
        """Return what notes say of terms that are not finite (there are some)."""
        count, client, element, kind = (int(n) for n in notes[bins.SPECIALS : bins.KIND + 1])
        reduction, leaf = self.layout.place_of(element)
        return NotFinite(count, client, reduction, leaf.name, ("nan", "inf", "-inf")[kind])

    # --- the results, on rank 0 ---

    def result(self, index: int, clients: int) -> Any:
        """Return the sum or mean of reduction ``index`` over all ``clients``, normalised.

        Raises `OverflowError` for an integer sum that does not fit its type.
        """
        reduction, blocks = self.layout.reductions[index], self.layout.blocks[index]
        divisor = 1.0
        if reduction.mean:
            weighted = reduction.weight is not None
            divisor = float(self._sums(blocks[-1], odd=False)[0]) if weighted else float(clients)
        parts = (self._leaf(leaf, reduction, divisor) for leaf in blocks if not leaf.is_weight)
        return (nested if reduction.secure else value_of)(reduction.member, parts)

    def _leaf(self, leaf: LeafPlace, reduction: Reduction, divisor: float) -> Any:
        place = slice(leaf.at, leaf.at + leaf.slots)
        if leaf.store == "ordered":
            turn = turn_of(leaf.dtype, least=reduction.least)
            return extremes.numbers_of(self.ordered[place], turn, leaf.dtype).reshape(leaf.shape)[()]
        if leaf.store == "secure":
            low, high = self._halves[:, place].astype(np.uint64)
            sums = low + (high << np.uint64(32))
            if reduction.modular:
                sums = sums % (self.limits[leaf.limit] + np.uint64(1))
            _check_fit(leaf.dtype, int(sums.max(initial=0)))
            return sums.astype(leaf.dtype).reshape(leaf.shape)[()]
        if leaf.is_integer:
            return self._integers(leaf).reshape(leaf.shape)[()]
        mean = reduction.mean
        dtype = np.dtype(leaf.dtype.char.lower()) if leaf.dtype.kind == "c" else leaf.dtype
        sums = self._sums(leaf, odd=not mean and dtype != np.float64)
        if dtype.itemsize == 2:
            out = _shortened(sums, divisor, dtype)
        else:
            out = np.empty(leaf.slots, dtype)
            rounding.divided(sums, divisor, out)
        return out.view(leaf.dtype).reshape(leaf.shape)[()]

    def _sums(self, leaf: LeafPlace, *, odd: bool) -> Array:
        """Return the sums of a leaf, rounded to float64; see `rounding.round_planes` for ``odd``."""
        place = slice(leaf.at, leaf.at + leaf.slots)
        if not leaf.exact:
            return self.plain[place]
        first, last = int(self.notes[bins.FIRST]), int(self.notes[bins.LAST])
        if first > last and not len(self.keys):
            return np.zeros(leaf.slots)
        sums, hard, count = np.zeros(leaf.slots), np.empty(leaf.slots, np.int64), 0
        if first <= last:
            count = rounding.round_planes(self.planes, first, last, leaf.at, sums, odd, hard)
        if count or len(self.keys):
            wide = (self.keys >= place.start) & (self.keys < place.stop)
            elements = np.union1d(hard[:count] + leaf.at, self.keys[wide])
            digits = np.zeros((len(elements), bins.WIDE), np.int64)
            digits[np.searchsorted(elements, self.keys[wide])] = self.digits[wide]
            rounded = np.empty(len(elements))
            rounding.round_wide(self.planes, first, last, elements, digits, rounded, odd)
            sums[elements - leaf.at] = rounded
        return sums

    def _integers(self, leaf: LeafPlace) -> Array:
        """Return the exact sums of an integer leaf in its dtype."""
        sums = self._sums(leaf, odd=False)
        large = np.flatnonzero(np.abs(sums) >= 2.0**53)  # no integer below that is lost
        small = sums.copy()
        small[large] = 0.0
        rows = self.planes[:, leaf.at : leaf.at + leaf.slots]
        exact = [sum(int(part) for part in rows[:, i]) for i in large]
        for value in (*exact, int(small.min(initial=0.0)), int(small.max(initial=0.0))):
            _check_fit(leaf.dtype, value)
        out: Array = small.astype(leaf.dtype)
        out[large] = np.array(exact, dtype=object)  # as integers: NumPy makes floats of a list with some above 2^63
        return out


def _read_only(array: Array) -> Array:
    """Return a view that cannot be written to: one compiled form for all."""
    view = array.view()
    view.flags.writeable = False
    return view


def _check_fit(dtype: np.dtype[Any], value: int) -> None:
    info = np.iinfo(dtype)
    if not info.min <= value <= info.max:
        raise OverflowError(f"the sum does not fit {dtype.name}: it is {value}")


def _shortened(sums: Array, divisor: float, dtype: np.dtype[Any]) -> Array:
    """Return sums / divisor in a dtype of two bytes, rounded once more; as `rounding.divided`."""
    with np.errstate(all="ignore"):
        values = sums.astype(np.float64) / divisor
        if dtype.kind != "f":
            # bfloat16 casts by way of float32.  Rounded to odd on the way, as the sums were, that does no harm.
            near = values.astype(np.float32)
            rest = (values - near).astype(np.float32)
            inexact = (values != near) & (near.view(np.int32) & 1 == 0) & np.isfinite(near)
            values = np.where(inexact, np.nextafter(near, np.copysign(np.float32(np.inf), rest)), near)
        out: Array = values.astype(dtype) + dtype.type(0)
    out[np.isnan(out)] = np.nan
    return out


__all__ = ["Accumulator", "Members", "Reduction", "Words"]
