"""Arithmetic of whole models in traced programs: the same on these ranks, compiled and not, as in the reference."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
F32, F64, I32 = np.float32, np.float64, np.int32
fc = fm.federated_computation


@fm.numba_computation(F32, F32)
def decayed(x, y):
    return x * F32(0.9) + y


positive = fc(lambda x: x > 0.0, F32)
MODELS = {
    "flat": fm.to_type(OrderedDict(w=(F32, [2, 3]), part=OrderedDict(b=F32, e=(F32, [0])))),
    "few scalars": fm.to_type([F32, F32]),
    "matrix": fm.to_type((F32, [4, 5])),
    "scalar": fm.to_type(F32),
}


def everything(start, trained):
    """All that can be done with models of floats, in one program."""
    update = trained - start
    norm, dot = fm.model.norm(update), fm.model.dot(start, update)
    vector = fm.model.flatten(update)
    return OrderedDict(
        clipped=update * (1.0 / (norm + 1.0)), turned=-update, other=1.0 - start * 0.5 / 3.0 + update / norm,
        product=start * trained, norm=norm, dot=dot, zeros=fm.model.zeros_like(start) + start, vector=vector,
        back=fm.model.unflatten(vector * 2.0, start), wide=fm.model.cast(update, F64),
        decayed=fm.model.map(decayed, update, start), signs=fm.model.map(positive, update),
        norms=fm.model.norm(fm.model.cast(update, F64)),
    )  # fmt: skip


def values(type_, clients, seed):
    random = np.random.default_rng(seed)

    def made(part):
        if isinstance(part, fm.TensorType):
            return (random.standard_normal(part.shape) * 3).astype(part.dtype)[()]
        parts = [made(inner) for inner in part]
        return OrderedDict(zip(part.fields(), parts, strict=True)) if part.fields() else parts

    return [made(type_) for _ in range(clients)]


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_everywhere(comm, name, fuse):
    type_ = MODELS[name]
    step = fc(everything, type_, type_)
    program = fc(
        lambda m, c: (fm.federated_map(step, (fm.federated_broadcast(m), c)), fm.federated_map(step, (m, m))),
        fm.type_at_server(type_), fm.type_at_clients(type_),
    )  # fmt: skip
    (server,), clients = values(type_, 1, 0), values(type_, 5, 1)
    with np.errstate(all="ignore"):
        wanted = fm.ReferenceContext().invoke(program, (server, clients))
    found = fm.replicate(fm.MpiContext(fuse=fuse).invoke(program, (server, clients)))
    assert_same(found, wanted)


@pytest.mark.parametrize("fuse", [False, True])
def test_integers(comm, fuse):
    type_ = fm.to_type(OrderedDict(w=(I32, [2]), b=np.uint8))
    step = fc(lambda m: (m + m, m - m, m * m, fm.model.zeros_like(m), fm.model.cast(m, np.int64)), type_)
    program = fc(lambda c: fm.federated_sum(fm.federated_map(step, c)), fm.type_at_clients(type_))
    context = fm.MpiContext(fuse=fuse)
    good = [{"w": [i, -i], "b": i} for i in range(4)]
    assert_same(fm.replicate(context.invoke(program, good)), fm.ReferenceContext().invoke(program, good))
    for bad in ({"w": [0, 2**30], "b": 0}, {"w": [0, 0], "b": 130}):
        with pytest.raises(OverflowError, match=r"client 2 of c .*: add: \d+ \+ \d+ is \d+, which does not fit"):
            context.invoke(program, [*good[:2], bad, good[3]])


def test_five_hundred_tensors(comm):
    """As long a text as for two; the numbers are those of each leaf by itself."""
    names = [f"w{i}" for i in range(500)]
    type_ = fm.to_type(OrderedDict((name, (F32, [2])) for name in names))
    step = fc(lambda start, x: (start - x) * 0.5 + x / (1.0 + fm.model.norm(x)), type_, type_)
    program = fc(
        lambda m, c: fm.federated_mean(fm.federated_map(step, (fm.federated_broadcast(m), c))),
        fm.type_at_server(type_), fm.type_at_clients(type_),
    )  # fmt: skip
    (server,), clients = values(type_, 1, 0), values(type_, 3, 1)
    wanted = fm.ReferenceContext().invoke(program, (server, clients))
    for fuse in (False, True):
        assert_same(fm.replicate(fm.MpiContext(fuse=fuse).invoke(program, (server, clients))), wanted)
