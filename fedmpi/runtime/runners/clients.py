"""The clients' part of a stage on one rank."""

from __future__ import annotations

from fedmpi.local.status import NO_CLIENT, NOW
from fedmpi.runtime.runners.each import Each
from fedmpi.runtime.runners.fused import Fused
from fedmpi.runtime.runners.one_by_one import explain
from fedmpi.runtime.runners.work import Runner, Work
from fedmpi.runtime.stage.call import CallState
from fedmpi.runtime.stage.program import WHOLE

# The first that takes a stage's clients runs them; the last takes all.
RUNNERS: tuple[Runner, ...] = (Fused(), Each())


def run_clients(call: CallState, number: int, part: int = WHOLE) -> Work:
    """Run this rank's clients of a stage; a client that fails raises `ClientError`."""
    call.clock.to("local")
    work = Work(call, number, part)
    for node in work.stage.shared:
        call.values[node] = call.program.checked(node, call.server_value(node))  # the same for all clients
    if work.sums is not None and work.stage.secure:
        work.sums.limits[:] = call.limits(work.stage)
    for runner in RUNNERS:
        if runner.run(work):
            break
    if work.unexplained:
        explain(work)
    if work.sums is not None:
        work.check_finite(work.sums)
    NOW.client = NO_CLIENT
    return work
