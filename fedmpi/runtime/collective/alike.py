"""What every rank gives alike: hashed for the header of a call, and looked into where ranks differ.

A hash of all arguments goes with the header, whatever they are.  Only where it is another one on some rank do the
ranks compare part by part, and then all of them raise what the first one finds that differs from rank 0.
"""

from __future__ import annotations

import json
import reprlib
import textwrap
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.source import user_location
from fedmpi.language.types import Type
from fedmpi.local.columns.client_data import ClientData, Ranks
from fedmpi.local.columns.column import leaves, pack
from fedmpi.local.columns.messages import to_bytes
from fedmpi.local.columns.samples import looked_at, sample_hash, spread
from fedmpi.local.columns.storage import is_mapped
from fedmpi.local.columns.values import describe, normalise
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.runtime.collective.header import UNKNOWN

_HINT = (
    "every rank must give the same: seed random numbers alike on all ranks, or make the value on rank 0 and bring it "
    "to all by fm.replicate"
)
_ROWS = 64  # of an array that are looked at
Part = tuple[str, str, int | None, str]  # of what, which part of it, its hash if there is one, and what it is in words


class Alike(NamedTuple):
    """Something that every rank gives alike.

    ``hash`` must be the same on all ranks, ``sample`` too where no rank has `UNKNOWN`; ``parts`` are compared to find
    the first difference, in this order.
    """

    hash: int
    parts: Callable[[], Iterator[Part]]
    sample: int = 0


def combined(given: Sequence[Alike]) -> tuple[int, int]:
    """Return one hash and one sample of all that is given."""
    if len(given) == 1:
        return given[0].hash, given[0].sample
    samples = [each.sample for each in given]
    hash_ = zlib.crc32(array("q", [each.hash for each in given]))
    return hash_, UNKNOWN if UNKNOWN in samples else zlib.crc32(array("q", samples))


# --- what is given ---


def parameter(path: Sequence[str]) -> str:
    """Return what texts call an argument."""
    return f"parameter {'.'.join(path)}"


def of_hosts(hosts: Sequence[int], owner: Ranks) -> Alike:
    """Return who owns which client."""

    def parts() -> Iterator[Part]:
        yield "the number of clients (num_clients)", "", None, str(len(owner))
        yield "server_trains", "", None, f"clients on {', '.join(f'rank {rank}' for rank in hosts)}"

    return Alike(zlib.crc32(owner.tobytes()), parts)


def of_value(path: Sequence[str], value: Any, type_: Type) -> Alike:
    """Return a normalised value that all ranks have."""
    hash_ = zlib.crc32(to_bytes(pack(type_, [value])).data)
    return Alike(hash_, lambda: iter([(parameter(path), "", hash_, shown(value))]))


def of_list(path: Sequence[str], values: Sequence[Any], type_: Type, sizes: Any, *, everything: bool = False) -> Alike:
    """Return a list of all clients' values, of ``sizes`` int64[clients]; a sample of it, or ``everything``."""
    chosen = range(len(values)) if everything else looked_at(len(values), type_)
    hashed = _whole_hash if everything else sample_hash
    # What opens a client's value where it is asked for it is not asked.
    found = hashed([values[i] for i in chosen], type_) if isinstance(values, list | tuple) else None

    def parts() -> Iterator[Part]:
        name = parameter(path)
        yield name, "", None, f"a list of {_clients(len(values))}"
        for client, size in enumerate(sizes.tolist()):
            yield name, f"the size of client {client}", None, f"{size} example{'s' * (size != 1)}"
        for client in chosen:
            yield name, f"client {client}", hashed([values[client]], type_), shown(values[client])

    return Alike(zlib.crc32(sizes.data, len(values)), parts, UNKNOWN if found is None else found)


def _whole_hash(values: Sequence[Any], type_: Type) -> int | None:
    """Return a hash of all that values are; None if one of them is not of the type, or cannot be read."""
    try:
        return zlib.crc32(to_bytes(pack(type_, [normalise(value, type_) for value in values])).data)
    except Exception as error:  # its owner refuses it, in words
        if is_of_handler(error):
            raise
        return None


def of_client_data(path: Sequence[str], data: ClientData) -> Alike:
    """Return a `ClientData`: which clients, where they are and where they come from."""

    def parts() -> Iterator[Part]:
        name = parameter(path)
        yield name, "", None, f"a ClientData of {_clients(len(data))}"
        for number, index in enumerate(data.indices.tolist()):
            yield name, f"number {number} of the cohort", None, f"client {index}"
        yield name, "what it was made of", data.homes, "a ClientData"

    return Alike(data.homes, parts)


def of_arrays(data: ClientData) -> list[Alike]:
    """Return the offsets and arrays that `fm.client_data_from_arrays` was given."""
    shared = data.shared
    assert shared is not None
    offsets = shared.offsets

    def sizes() -> Iterator[Part]:
        yield "parameter offsets", "", None, _clients(len(data))
        for client, size in enumerate(np.diff(offsets).tolist()):
            yield "parameter offsets", f"the size of client {client}", None, f"{size} row{'s' * (size != 1)}"

    element = getattr(shared.type, "element", shared.type)
    named = zip((", ".join(["arrays", *leaf.path]) for leaf in leaves(element)), shared.data, strict=True)
    return [Alike(zlib.crc32(offsets.data), sizes), *(_of_rows(f"parameter {n}", rows, offsets) for n, rows in named)]


def _of_rows(name: str, data: Any, offsets: Any) -> Alike:
    if is_mapped(data):
        return Alike(0, lambda: iter(()), UNKNOWN)
    rows = np.array(spread(len(data), _ROWS), np.int64)

    def parts() -> Iterator[Part]:
        owners = np.searchsorted(offsets, rows, "right") - 1
        for row, client in zip(rows.tolist(), owners.tolist(), strict=True):
            yield name, f"row {row} (client {client})", zlib.crc32(data[row].tobytes()), shown(data[row])

    return Alike(0, parts, zlib.crc32(data[rows].tobytes()))


def _clients(count: int) -> str:
    return f"{count} client{'s' * (count != 1)}"


# --- the first difference ---


def encoded(given: Sequence[Alike]) -> np.ndarray[Any, Any]:
    """Return what this rank gives, part by part, as bytes."""
    parts = [part for each in given for part in each.parts()]
    return np.frombuffer(json.dumps([user_location(), parts]).encode(), dtype=np.uint8)


def difference(given: Sequence[Alike], servers: np.ndarray[Any, Any], rank: int) -> str:
    """Return how this rank differs from rank 0, whose parts are ``servers``; "" if it does not, as far as one sees."""
    where, parts = json.loads(servers.tobytes())
    theirs = {(name, part): (hash_, text) for name, part, hash_, text in parts}
    for name, part, hash_, text in (part for each in given for part in each.parts()):
        their_hash, their_text = theirs.get((name, part), (hash_, text))
        if hash_ == their_hash if None not in (hash_, their_hash) else their_text == text or hash_ != their_hash:
            continue
        found = f"{their_text} on rank 0, {text} on rank {rank}"
        if their_text == text:
            found = f"{text}, and other numbers, on rank {rank} than on rank 0"
        what = f"the ranks differ in {', '.join(filter(None, [name, part]))}"
        return str(Report(found, what, _places(where, rank), _HINT))
    return ""


def unknown_difference(rank: int) -> str:
    """Return the text where the hashes differ and no part was found that does."""
    text = f"the ranks differ in what they pass: rank {rank} passes other values than rank 0"
    return str(Report.here(text, _HINT))


def _places(servers: str, rank: int) -> str:
    here = user_location()
    return here if here == servers else f"{servers} on rank 0, {here} on rank {rank}"


def shown(value: Any) -> str:
    """Return a value in a few characters."""
    try:
        return textwrap.shorten(reprlib.repr(value) if isinstance(value, str) else repr(value), 60, placeholder="…")
    except Exception:
        return describe(value)
