"""Random well-typed programs give on these ranks what the reference evaluator gives.

Hypothesis works on rank 0: it draws bytes, from which every rank makes the same program and arguments.  (Ranks that
draw on their own can differ: Hypothesis also takes constants from the source files that are loaded.)  The environment
variable ``FEDMPI_TEST_PROGRAMS`` says how many.  One in ``FEDMPI_TEST_FUSED`` of them runs its clients in compiled
loops, which take seconds to compile: ``FEDMPI_TEST_PROGRAMS=1000 FEDMPI_TEST_FUSED=1`` is for a night.
"""

from __future__ import annotations

import json
import os
import traceback
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmpi as fm
from tests.programs import assert_same
from tests.random_programs import program_of

pytestmark = pytest.mark.mpi
PROGRAMS = int(os.environ.get("FEDMPI_TEST_PROGRAMS", "60"))
FUSED = int(os.environ.get("FEDMPI_TEST_FUSED", "6"))


def outcome(context, program, argument):
    """Return the result, and how many clients were left out in which stage; or that it was refused.

    Which of several errors comes first is not laid down.
    """
    fm.set_default_context(context)
    try:
        result = fm.replicate(program(argument))
    except (ValueError, OverflowError):
        return "refused"
    return result, [each.stage for each in fm.last_report().dropped]


def as_data(program, argument, clients, choice):
    """Return the argument, with its lists of clients packed by two choices in three, and the lists that it stands for.

    Packed lists live where the context of their own puts them, one choice is a cohort of them in another order.
    """
    order = np.arange(clients)
    if choice % 3 == 2:
        order = np.random.default_rng(choice).permutation(clients)[: clients - clients // 3]
    given, listed = [], []
    for i, (type_, value) in enumerate(zip(program.type_signature.parameter, argument, strict=True)):
        if choice % 3 and isinstance(type_, fm.FederatedType) and type_.placement is fm.CLIENTS and not type_.all_equal:
            packing = fm.MpiContext(server_trains=bool(choice >> (2 + i) & 1))
            packed = packing.client_data(value, type_.member)
            given.append(packed.select(order).renumbered() if choice % 3 == 2 else packed)
            listed.append([value[client] for client in order])
        else:
            given.append(value)
            listed.append(value)
    return given, listed


def trouble_with(comm, data):
    """Return in which way one program fails on any of the ranks, "" if in none."""
    mine, program, argument = "", None, None
    try:
        program, argument, clients = program_of(data)
        fuse = True if zlib.crc32(data) % FUSED == 0 else None
        errors = "drop" if zlib.crc32(data) % 4 < 3 else "raise"
        context = fm.MpiContext(
            server_trains=len(data) % 2 == 1, num_clients=clients, fuse=fuse, on_client_error=errors
        )
        given, argument = as_data(program, argument, clients, zlib.crc32(data) >> 8)
        got = outcome(context, program, given)
        want = outcome(fm.ReferenceContext(num_clients=clients, on_client_error=errors), program, argument)
        mine = f"{got}\n{want}\n"
        assert_same(got, want, bits=True)
        mine = ""
    except Exception:
        mine += f"{program!r}\n{program}\n{argument}\n{traceback.format_exc()}"
    parts = comm.allgather_bytes(np.frombuffer(json.dumps(mine).encode(), np.uint8))
    return next(filter(None, (json.loads(part.tobytes()) for part in parts)), "")


def test_equals_the_reference(comm):
    @given(st.binary(min_size=150, max_size=700))
    @settings(
        max_examples=PROGRAMS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def on_the_server(data):
        comm.bcast_bytes(np.frombuffer(data, np.uint8), root=0)
        trouble = trouble_with(comm, data)
        assert not trouble, trouble

    if comm.rank == 0:
        on_the_server()
        comm.bcast_bytes(np.empty(0, np.uint8), root=0)
        return
    while len(data := comm.bcast_bytes(None, root=0)):
        trouble_with(comm, data.tobytes())
