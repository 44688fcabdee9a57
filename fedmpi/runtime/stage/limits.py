"""What the limits of secure sums mean: the greatest number that a client may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedmpi.language.types import StructType, Type

MOST_BITS = 62  # of a number: the sums of all clients must stay below 2^63


def limits_of(op: str, given: Any, member: Type, clients: int) -> list[int]:
    """Return the greatest number that a client may have, for each tensor of a member.

    ``given`` is the operator's normalised limit: one integer, or one for each tensor.  Raises `ValueError` for a limit
    that none can be, and for one with which the sum over ``clients`` could exceed 63 bits.
    """
    return [_limit(op, value, clients) for value in _spread(given, member)]


def _spread(given: Any, member: Type) -> Iterator[int]:
    if isinstance(member, StructType):
        for i, part in enumerate(member):
            yield from _spread(given[i] if isinstance(given, tuple) else given, part)
    else:
        yield int(np.asarray(given).reshape(()))


def _limit(op: str, value: int, clients: int) -> int:
    if op == "federated_secure_sum_bitwidth":
        name, least, most, limit = "bitwidth", 0, MOST_BITS, (1 << min(max(value, 0), 64)) - 1
    elif op == "federated_secure_modular_sum":
        name, least, most, limit = "modulus", 1, (1 << 63) - 1, value - 1
    else:
        name, least, most, limit = "max_input", 0, (1 << 63) - 1, value
    if not least <= value <= most:
        raise ValueError(f"{op}: {name} must be in {least} … {most}, found {value}")
    greatest = max(value, limit) if name == "modulus" else limit
    if greatest * clients >= 1 << 63:
        raise ValueError(f"{op}: with {name} {value} the sum over {clients} clients could exceed 63 bits")
    return limit
