"""A runner: all clients of a rank by one compiled loop."""

from __future__ import annotations

import numpy as np

from fedmpi.local.columns.taking import take
from fedmpi.local.computations.bodies import CLIENT, STEP, note_progress
from fedmpi.runtime.plan.decision import is_compiled
from fedmpi.runtime.plan.folding import numbered
from fedmpi.runtime.runners.work import Work


class Fused:
    """By one compiled loop (`loop`), where the stage's plan says so and Numba takes it."""

    def run(self, work: Work) -> bool:
        """Run all clients."""
        call, stage = work.call, work.stage
        if stage.reductions and work.sums is None:
            return False
        if not len(call.mine):
            return not stage.kept and not stage.folds
        if not stage.has_clients:
            return True
        sparse = stage.may_be_sparse and any("sparse" in call.values[node].forms for node in stage.columns)
        if not is_compiled(call.program.stages[work.number].compiled, call.num_clients or 0, sparse=sparse):
            return False
        forms = tuple(call.values[node].forms for node in stage.columns)
        loop = call.program.loop(work.number, forms, work.part, speaks=call.comm.rank == call.hosts[0])
        if loop is None:
            return False
        progress = work.progress
        state = work.sums.state if work.sums is not None else call.program.no_sums.state
        blocks = numbered(call.blocks[call.mine]) if stage.folds else np.zeros(len(call.mine), np.int64)
        data = [(call.values[node], call.positions[node]) for node in stage.columns]
        failed = np.zeros(len(call.mine) if stage.drops else 0, np.uint8)
        try:
            wide, kept, states = loop.run(progress, state, blocks, data, call.values.__getitem__, failed)
        except Exception as error:
            if progress[CLIENT] < 0:
                raise  # before the first client
            note_progress(error, progress, loop.bodies)
            nodes = (*stage.steps, *stage.reductions, *stage.folds)
            raise work.failed(error, nodes[progress[STEP]], int(progress[CLIENT])) from error
        if work.sums is not None:
            work.sums.grown(wide)
        for node, column in zip(loop.kept, kept, strict=True):
            call.values[node], call.positions[node] = column, np.arange(column.count)
        if stage.drops and failed.any():
            work.unexplained = np.flatnonzero(failed).tolist()
            lasting = np.unique(blocks[failed == 0])
            states = [take(column, lasting) for column in states]  # of blocks that have clients left
        work.states.update(zip(work.folds, states, strict=True))
        return True
