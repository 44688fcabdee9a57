"""Programs of ``federated_language`` on these ranks."""

from __future__ import annotations

import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import federated_language as fl

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop import federated_programs  # noqa: F401  # adds its cases
from tests.interop.programs import CASES
from tests.programs import assert_same

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("name", CASES)
def test_on_the_ranks(comm, name):
    case = CASES[name]
    with fl.framework.get_context_stack().install(bridge.context()):
        got = case.computation(*case.arguments, **case.keywords)
    if fm.is_server():
        assert_same(got, case.expected)
