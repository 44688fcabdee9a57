"""Random programs give by way of ``federated_language`` what they give in fedmpi; ``FEDMPI_TEST_PROGRAMS`` of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop.replay import replayed
from tests.random_programs import program_of

PROGRAMS = int(os.environ.get("FEDMPI_TEST_PROGRAMS", "100"))


def plain(value):
    """Return a result as a nest of tuples and bits: texts are bytes there, and structs of a tree have no containers."""
    match value:
        case bytes():
            return value.decode()
        case Mapping():
            return tuple(map(plain, value.values()))
        case list() | tuple():
            return tuple(map(plain, value))
        case np.ndarray() | np.generic():
            return value.dtype, value.shape, value.tobytes()
    return value


def outcome(call, *arguments):
    try:
        return plain(call(*arguments))
    except (ValueError, OverflowError) as error:
        return type(error)


@pytest.mark.filterwarnings(
    "ignore:Deprecation warning.*federated_value:DeprecationWarning"
)  # of values, not constants
@given(st.binary(min_size=20, max_size=400))
@settings(
    max_examples=PROGRAMS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_random_programs(data):
    program, argument, clients = program_of(data)
    context = fm.ReferenceContext(num_clients=clients)
    want = outcome(context.invoke, program, argument)
    assert outcome(bridge.context(context).invoke, replayed(program), argument) == want
