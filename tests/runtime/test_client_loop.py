"""A round whose client work can be compiled is one loop over the rank's clients: falling back is slow and silent."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.bench import programs

pytestmark = pytest.mark.slow  # it compiles


@pytest.mark.parametrize("name", ["train", "train_by_examples", "evaluate"])
def test_a_round_is_fused(name):
    program = programs.softmax(np.float32, 4, 2)
    context = fm.MpiContext()
    fm.set_default_context(context)
    try:
        clients = [[{"x": np.ones((2, 4), np.float32), "y": np.zeros(2, np.int32)}]] * 3
        data = fm.client_data(clients, program.client)
        model = {"weights": np.zeros((4, 2), np.float32), "bias": np.zeros(2, np.float32)}
        computation = getattr(program, name)
        computation(*((model, data) if name == "evaluate" else (model, 0.1, data)))
        loops = context.program(computation)._loops
        assert len(loops) == 1
        assert None not in loops.values()
    finally:
        fm.set_default_context(None)
