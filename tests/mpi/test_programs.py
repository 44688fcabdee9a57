"""Every program gives on these ranks what the single-process reference evaluator gives, and what arithmetic says."""

from __future__ import annotations

import pytest

import fedmpi as fm
from tests.programs import CASES, assert_same

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("server_trains", [False, True])
def test_equals_the_reference(comm, name, server_trains):
    case = CASES[name]
    fm.set_default_context(fm.MpiContext(server_trains=server_trains))
    got = fm.replicate(case.computation(*case.arguments))
    want = fm.ReferenceContext().invoke(
        case.computation, case.arguments[0] if len(case.arguments) == 1 else case.arguments
    )
    assert_same(got, want, bits=True)
    if case.expected is not None:
        assert_same(got, case.expected)
