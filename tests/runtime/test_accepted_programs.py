"""What the language accepts runs: random programs over all operators and kinds of types, in both contexts."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmpi as fm
from tests.language.written import write
from tests.nightly import examples
from tests.programs import assert_same

CLIENTS = 3


def value(type_, draw):
    """Return a small value of the type: no sum overflows, no limit of a secure sum is exceeded."""
    match type_:
        case fm.FederatedType(member, fm.CLIENTS, False):
            return [value(member, draw) for _ in range(CLIENTS)]
        case fm.FederatedType(member):
            return value(member, draw)
        case fm.SequenceType(element):
            return [value(element, draw) for _ in range(draw.randrange(3))]
        case fm.StructType():
            parts = [value(part, draw) for part in type_]
            return dict(zip(type_.fields(), parts, strict=True)) if type_.fields() else parts
    if type_.dtype.kind == "U":
        return draw.choice(["", "a", "ß"])
    shape = [2 if size is None else size for size in type_.shape]
    return np.array([draw.randrange(4) for _ in range(int(np.prod(shape)))], type_.dtype).reshape(shape)[()]


@settings(deadline=None, max_examples=examples(40, 1500), suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, 2**32))
def test_what_is_accepted_runs(data, seed):
    program = write(data.draw, steps=5)
    argument = value(program.type_signature.parameter, random.Random(seed))
    want = fm.ReferenceContext(num_clients=CLIENTS).invoke(program, argument)
    # Not fused: compiled loops of random programs take seconds each; tests/mpi has some.
    assert_same(fm.MpiContext(num_clients=CLIENTS, fuse=False).invoke(program, argument), want)
