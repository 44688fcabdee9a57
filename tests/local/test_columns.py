"""Columns: what goes in comes out, through bytes, selections and views, for every type of a value."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedmpi as fm
from fedmpi.language.types import SequenceType, StructType, TensorType
from fedmpi.local.columns.column import (
    Column,
    PackedSequence,
    arity,
    offsets_of,
    pack,
    slot_formats,
)
from fedmpi.local.columns.comparing import difference, to_the_bit
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.columns.taking import joined, take
from fedmpi.local.columns.values import normalise

F32 = np.float32
DTYPES = [np.bool_, np.int8, np.uint8, np.int32, np.uint64, np.float16, F32, np.float64, np.complex64, np.complex128]
tensors = st.builds(
    TensorType, st.sampled_from([*DTYPES, np.str_]), st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=3)
)
flat = st.recursive(
    tensors,
    lambda inner: st.lists(inner, max_size=3).map(
        lambda parts: StructType([(f"n{i}" if i % 2 else None, p) for i, p in enumerate(parts)])
    ),
    max_leaves=4,
)
element_types = flat | flat.map(SequenceType) | st.tuples(flat, flat.map(SequenceType)).map(StructType)


@st.composite
def values_of(draw, type_):
    match type_:
        case TensorType(dtype, shape):
            if dtype.kind == "U" and not shape:
                return draw(st.text(max_size=5))
            sizes = tuple(draw(st.integers(0, 3)) if d is None else d for d in shape)
            if dtype.kind == "U":
                texts = draw(st.lists(st.text(max_size=3), min_size=int(np.prod(sizes)), max_size=int(np.prod(sizes))))
                array = np.empty(len(texts), dtype=object)
                array[:] = texts
                return array.reshape(sizes)
            array = draw(hnp.arrays(dtype, sizes))
            return array if shape else array[()]
        case StructType():
            return tuple(draw(values_of(part)) for part in type_)
        case SequenceType(element):
            members = draw(st.lists(values_of(element), max_size=3))
            return PackedSequence(pack(element, members), 0, len(members))


@st.composite
def columns(draw):
    type_ = draw(element_types)
    return type_, draw(st.lists(values_of(type_), max_size=4))


def same(got, want):
    assert difference(got, want, to_the_bit) == ""


many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(columns())
def test_round_trip_through_arrays_and_bytes(drawn):
    type_, values = drawn
    column = pack(type_, values)
    assert len(column.arrays) == arity(type_) == len(slot_formats(type_))
    for array, (dtype, inner) in zip(column.arrays, slot_formats(type_), strict=True):
        assert array.dtype == dtype
        assert array.shape[1:] == inner
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    message = to_bytes(column)
    received = from_bytes(type_, message.copy())
    assert to_bytes(received).tobytes() == message.tobytes()
    for made in (column, received):
        assert len(made) == len(values)
        for got, want in zip(made, values, strict=True):
            same(got, want)


@many
@given(columns(), st.data())
def test_selections(drawn, data):
    type_, values = drawn
    column = pack(type_, values)
    indices = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=5)) if values else []
    taken = take(column, indices)
    assert len(taken) == len(indices)
    for got, index in zip(taken, indices, strict=True):
        same(got, values[index])


@many
@given(columns())
def test_sequences_are_views(drawn):
    type_, values = drawn
    sequence = PackedSequence(pack(type_, values), 0, len(values))
    assert len(sequence) == len(values)
    for i, value in enumerate(values):
        same(sequence[i], value)
        same(sequence[i - len(values)], value)
    for outside in (len(values), -len(values) - 1):
        with pytest.raises(IndexError, match=f"element {outside} of a sequence of {len(values)}"):
            sequence[outside]


def test_batches_are_views_of_one_array():
    type_ = SequenceType(fm.to_type(OrderedDict(x=fm.TensorType(F32, [None, 4]), y=fm.TensorType(np.int32, [None]))))
    clients = [
        [{"x": np.full((n, 4), n, F32), "y": np.full(n + 1, n, np.int32)} for n in sizes] for sizes in ([2, 1], [], [3])
    ]
    column = pack(type_, [normalise(client, type_) for client in clients])
    outer, x, x_offsets, y, y_offsets = column.arrays
    assert outer.tolist() == [0, 2, 2, 3]
    assert x.shape == (6, 4)
    assert x_offsets.tolist() == [0, 2, 3, 6]
    assert y_offsets.tolist() == [0, 3, 5, 9]
    assert np.shares_memory(column[2][0][0], x)
    assert not column[2][0][1].flags.writeable
    assert y[0] == 2


def test_arrays_of_messages_are_aligned():
    type_ = fm.to_type((np.uint8, F32, np.complex128, fm.TensorType(np.uint8, [None])))
    column = pack(type_, [(np.uint8(1), F32(2), np.complex128(3), np.arange(3, dtype=np.uint8))])
    storage = np.zeros(len(to_bytes(column)) + 64, np.uint8)
    start = -storage.ctypes.data % 64
    message = storage[start : start + len(to_bytes(column))]
    message[:] = to_bytes(column)
    for array in from_bytes(type_, message).arrays:
        assert array.ctypes.data % 64 == 0
        assert np.shares_memory(array, storage)


def test_a_large_column():
    type_ = fm.TensorType(np.uint8, [None, 784])
    values = [np.full((n, 784), n % 251, np.uint8) for n in range(0, 2000, 40)]
    received = from_bytes(type_, to_bytes(pack(type_, values)))
    assert received.nbytes > 30_000_000
    for got, want in zip(received, values, strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_a_column_cannot_hold():
    with pytest.raises(TypeError, match="a tensor of unknown rank cannot be stored in a sequence or sent"):
        pack(fm.TensorType(F32, None), [np.ones(2, F32)])
    with pytest.raises(TypeError, match="a column cannot hold values of type"):
        arity(fm.type_at_clients(F32))


def test_packing_copies():
    value = np.ones(3, F32)
    column = pack(fm.TensorType(F32, [None]), [value])
    value[:] = 0
    assert np.all(column[0] == 1)
    assert offsets_of([]).tolist() == [0]
    assert isinstance(column, Column)


@many
@given(columns(), st.data())
def test_columns_come_together(drawn, data):
    type_, values = drawn
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=3)))
    bounds = list(zip([0, *cuts], [*cuts, len(values)], strict=True))
    whole = joined(type_, [pack(type_, values[a:b]) for a, b in bounds])
    assert to_bytes(whole).tobytes() == to_bytes(pack(type_, values)).tobytes()
