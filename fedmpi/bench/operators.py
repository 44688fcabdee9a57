"""What the operators cost: in one compiled loop over a rank's clients, next to the same clients run one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

import fedmpi as fm
from fedmpi.bench.rows import Row
from fedmpi.bench.suite import Suite, difference, running

GROUP = "operators"
WIDTH, KEYS, TABLE = 100, 4, 50
TOLERANCE = 0.0  # the bits are the same
VECTOR = fm.to_type((np.float32, [WIDTH]))
STATE = fm.to_type([("total", VECTOR), ("count", np.int32)])


@fm.numba_computation(VECTOR)
def squared(x: Any) -> Any:
    """Square a vector."""
    return x * x


@fm.numba_computation(STATE, VECTOR)
def accumulate(state: Any, x: Any) -> Any:
    """Add a vector to a state."""
    return {"total": state.total + x, "count": state.count + 1}


@fm.numba_computation(STATE, STATE)
def merge(left: Any, right: Any) -> Any:
    """Merge two states."""
    return {"total": left.total + right.total, "count": left.count + right.count}


@fm.numba_computation(STATE)
def report(state: Any) -> Any:
    """Return the total of a state."""
    return state.total


@fm.numba_computation(fm.to_type((np.float32, [TABLE, WIDTH])), np.int32)
def row_of(table: Any, key: Any) -> Any:
    """Return the row of a key."""
    return table[key]


@fm.numba_computation(fm.SequenceType(VECTOR))
def summed(rows: Any) -> Any:
    """Add rows."""
    total = np.zeros(WIDTH, np.float32)
    for row in rows:
        total += row
    return total


@fm.numba_computation(VECTOR)
def counted(x: Any) -> Any:
    """Return a vector as numbers of four digits."""
    return np.floor(x * 1000).astype(np.int32)


@fm.numba_computation()
def ones() -> Any:
    """Return a vector of ones."""
    return np.ones(WIDTH, np.float32)


def _programs() -> dict[str, Any]:
    at_clients, at_server = fm.type_at_clients, fm.type_at_server
    zero = {"total": np.zeros(WIDTH, np.float32), "count": 0}
    one = {
        "federated_sum": lambda x: fm.federated_sum(fm.federated_map(squared, x)),
        "federated_max": lambda x: fm.federated_max(fm.federated_map(squared, x)),
        "federated_aggregate": lambda x: fm.federated_aggregate(
            fm.federated_map(squared, x), zero, accumulate, merge, report
        ),
        "federated_eval": lambda x: fm.federated_sum((fm.federated_eval(ones, fm.CLIENTS), x))[0],
        "federated_sum of integers": lambda x: fm.federated_sum(fm.federated_map(counted, x)),
        "federated_secure_sum": lambda x: fm.federated_secure_sum(fm.federated_map(counted, x), 1000),
    }
    made = {name: fm.federated_computation(body, at_clients(VECTOR)) for name, body in one.items()}

    def selected(keys: Any, max_key: Any, table: Any) -> Any:
        return fm.federated_sum(fm.federated_map(summed, fm.federated_select(keys, max_key, table, row_of)))

    types = at_clients((np.int32, [KEYS])), at_server(np.int32), at_server((np.float32, [TABLE, WIDTH]))
    made["federated_select"] = fm.federated_computation(selected, *types)
    return made


def measure(suite: Suite) -> None:
    """Add the rows of this group (collective)."""
    clients = suite.pick(4_000, 300) * suite.hosts
    rng = np.random.default_rng(3)
    vectors = fm.client_data(list(rng.random((clients, WIDTH), np.float32)), VECTOR)
    keys = fm.client_data(list(rng.integers(0, TABLE, (clients, KEYS), np.int32)), (np.int32, [KEYS]))
    table = rng.random((TABLE, WIDTH), np.float32)
    contexts = {fuse: fm.MpiContext(fuse=fuse) for fuse in (True, False)}
    setting = f"{clients:,} clients, {WIDTH} numbers each, {suite.where()}"
    fused = {}
    for name, program in _programs().items():
        arguments = (keys, TABLE - 1, table) if name == "federated_select" else (vectors,)
        loop, each = (running(contexts[fuse], program, *arguments) for fuse in (True, False))
        gap = difference([loop()], [each()]) if suite.server else (loop(), each(), None)[2]
        times = suite.time({"loop": loop, "each": each})
        fused[name] = loop
        against = "the clients run one by one"
        suite.add(Row(GROUP, name, setting, times["loop"], against, times["each"], difference=gap), TOLERANCE)
    for name, base in (
        ("federated_max", "federated_sum"),
        ("federated_aggregate", "federated_sum"),
        ("federated_secure_sum", "federated_sum of integers"),
    ):
        times = suite.time({"figure": fused[name], "base": fused[base]})
        suite.add(Row(GROUP, f"{name}, as a loop", setting, times["figure"], f"{base}, as a loop", times["base"]))
