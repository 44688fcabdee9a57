"""Forms in which a column keeps floats: what is read is what was given, to the bit, and no form is taken wrongly."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedmpi as fm
from fedmpi.language.types import SequenceType
from fedmpi.local.columns import pixels, sparse
from fedmpi.local.columns.column import PackedSequence, form, leaves, pack
from fedmpi.local.columns.messages import from_bytes, to_bytes
from fedmpi.local.columns.sparse import Csr, compressed, expanded
from fedmpi.local.columns.storage import STORAGES, NotBytes, chooses, stored, survey
from fedmpi.local.columns.taking import joined, take
from tests.local.test_columns import same

F32, F64 = np.float32, np.float64
BATCH = fm.to_type(OrderedDict(x=(F32, [None, 3]), y=(np.int32, [None]), z=(F64, [2]), w=F32))
CLIENT = SequenceType(BATCH)
SPECIAL = [0.0, -0.0, 1.0, 1 / 255.0, 0.5, np.nan, np.inf, -np.inf, 1e-45, 2.0, -1 / 255.0]


def numbers(dtype, shape, pixels_only):
    if pixels_only:
        return hnp.arrays(np.uint8, shape).map(lambda u: (u / 255.0).astype(dtype))
    return hnp.arrays(dtype, shape, elements=st.sampled_from([dtype(v) for v in [0.0] * 10 + SPECIAL]))


@st.composite
def batches(draw, pixels_only):
    rows = draw(st.integers(0, 3))
    x, z = draw(numbers(F32, (rows, 3), pixels_only)), draw(numbers(F64, (2,), pixels_only))
    return x, np.arange(draw(st.integers(0, 3)), dtype=np.int32), z, F32(draw(st.sampled_from(SPECIAL)))


@st.composite
def clients(draw):
    each = batches(draw(st.booleans()))
    return [
        PackedSequence(pack(BATCH, members), 0, len(members))
        for members in draw(st.lists(st.lists(each, max_size=3), max_size=4))
    ]


def in_form(values, storage, type_=CLIENT):
    column = pack(type_, values)
    return stored(column, storage, survey(column, storage))


def forms(column):
    return [form(column.arrays[leaf.at], leaf.type) for leaf in leaves(column.type)]


def same_all(got, want):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        same(g, w)


@settings(max_examples=150, deadline=None)
@given(clients(), st.sampled_from(STORAGES), st.data())
def test_what_is_read_is_what_was_given(values, storage, data):
    try:
        column = in_form(values, storage)
    except NotBytes:
        assert storage == "bytes"
        return
    same_all(column, values)
    received = from_bytes(CLIENT, to_bytes(column).copy())
    assert forms(received) == forms(column)
    assert to_bytes(received).tobytes() == to_bytes(column).tobytes()
    same_all(received, values)
    indices = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=5)) if values else []
    taken = take(column, indices)
    assert forms(taken) == forms(column)
    same_all(taken, [values[i] for i in indices])
    # What was selected, sent and put together is as good as what was packed.
    both = joined(CLIENT, [from_bytes(CLIENT, to_bytes(taken)), column])
    assert forms(both) == forms(column)
    same_all(both, [*(values[i] for i in indices), *values])


@settings(max_examples=100, deadline=None)
@given(clients(), st.lists(st.sampled_from(["auto", "dense", "sparse"]), min_size=1, max_size=3))
def test_columns_of_different_forms_come_together(values, storages):
    columns = [in_form(values, storage) for storage in storages]
    same_all(joined(CLIENT, columns), values * len(columns))


@pytest.mark.parametrize("dtype", [F32, F64])
def test_every_pixel_value_is_kept_exactly(dtype):
    values = (np.arange(256) / 255.0).astype(dtype)
    assert pixels.first_other(values) == -1
    assert pixels.narrow(values).tolist() == list(range(256))
    wide = pixels.widen(np.arange(256, dtype=np.uint8), np.dtype(dtype))
    assert wide.tobytes() == values.tobytes()
    assert not wide.flags.writeable
    for u in range(256):
        for neighbour in (np.nextafter(values[u], dtype(-1)), np.nextafter(values[u], dtype(2))):
            assert pixels.first_other(np.array([neighbour])) == 0


@pytest.mark.parametrize("other", [-0.0, np.nan, np.inf, -np.inf, 2.0, -1 / 255.0, 1e-30, 0.3])
@pytest.mark.parametrize("at", [0, 5, 1023, 1024, 1_200_000, 2_299_999])
def test_the_first_other_number_is_found(other, at):
    values = np.full(2_300_000, 1 / 255.0, F32)
    values[at:] = F32(other)
    assert pixels.first_other(values.reshape(-1, 100)) == at


def test_forms_of_pixels_and_of_numbers():
    pixel, other = np.full((2, 3), 7 / 255.0, F32), np.full((2, 3), 0.3, F32)
    values = [[(x, np.array([1], np.int32), np.array([1.0, 0.0]), F32(1.0)) for x in xs] for xs in ([pixel], [other])]
    assert forms(in_form(values[:1], "auto")) == ["bytes", "dense", "bytes", "dense"]
    assert forms(in_form(values, "auto")) == ["dense", "dense", "bytes", "dense"]
    assert forms(in_form(values, "dense")) == ["dense"] * 4
    assert forms(in_form(values[:1], "bytes")) == ["bytes", "dense", "bytes", "dense"]
    assert forms(in_form(values, "sparse")) == ["sparse", "dense", "bytes", "dense"]
    assert in_form(values[:1], "auto").arrays[1].dtype == np.uint8
    assert in_form(values[:1], "auto").nbytes == in_form(values[:1], "dense").nbytes - 6 * 3 - 2 * 7
    assert not chooses(fm.to_type((np.int32, [None, 3])), "auto")
    assert not chooses(CLIENT, "dense")
    assert forms(in_form([], "auto")) == ["dense"] * 4  # nothing was seen


def test_density():
    def form_with(nonzero, of=np.nan):
        x = np.zeros((5, 20), F32)
        x.reshape(-1)[:nonzero] = 3.0
        if nonzero:
            x[0, 0] = 3.0 if np.isnan(of) else of
        column = in_form([x], "density", fm.TensorType(F32, [None, 20]))
        same(column[0], x)
        return forms(column)

    assert form_with(24) == ["sparse"]
    assert form_with(25) == ["dense"]
    assert form_with(24, of=np.inf) == ["dense"]
    assert form_with(0) == ["sparse"]
    type_ = fm.TensorType(F32, [None, 2])
    assert forms(in_form([np.ones((2, 2), F32)], "density", type_)) == ["bytes"]


def test_surveys_of_ranks_are_added():
    type_ = fm.TensorType(F32, [None, 2])
    parts = [pack(type_, [np.full((3, 2), v, F32)]) for v in (1.0, 0.3)]
    total = sum(survey(part, "auto") for part in parts)
    assert [forms(stored(part, "auto", total)) for part in parts] == [["dense"], ["dense"]]


def test_a_number_that_is_no_byte_is_found_in_its_client():
    good, bad = np.zeros((2, 3), F32), np.array([[0, 0, 0], [0, 0, 0.3]], F32)
    rest = (np.array([], np.int32), np.zeros(2), F32(0))
    values = [[(good, *rest)], [], [(good, *rest), (np.zeros((0, 3), F32), *rest), (bad, *rest)], [(bad, *rest)]]
    with pytest.raises(NotBytes) as caught:
        in_form(values, "bytes")
    assert (caught.value.position, caught.value.path, caught.value.value) == (2, ("x",), F32(0.3))
    with pytest.raises(NotBytes) as caught:
        in_form([np.zeros(2), np.array([0.0, -0.0])], "bytes", fm.TensorType(F64, [2]))
    assert (caught.value.position, caught.value.path) == (1, ())


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(F64, st.tuples(st.integers(0, 6), st.integers(0, 6)), elements=st.sampled_from([0.0] * 9 + SPECIAL)))
def test_compressed_rows(rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse, "_CHUNK", 10)  # in several pieces
        csr = compressed(rows)
    assert expanded(csr, 0, len(rows)).tobytes() == rows.tobytes()
    assert csr.columns.dtype == np.int32
    assert len(csr.values) == np.count_nonzero((rows != 0) | np.signbit(rows))
    for i, row in enumerate(rows):
        columns = csr.columns[csr.offsets[i] : csr.offsets[i + 1]]
        assert np.all(np.diff(columns) > 0)
        assert expanded(csr, i, i + 1).tobytes() == row.tobytes()
    assert all(not a.flags.writeable for a in (*csr[:3], expanded(csr, 0, len(rows))))


def test_a_slice_of_compressed_rows_goes_into_a_message():
    rows = np.diag(np.arange(1.0, 6.0))
    whole = compressed(rows)
    type_ = fm.TensorType(F64, [None, 5])
    part = pack(type_, [rows[2:4]])
    sliced = type(part)(type_, 1, (Csr(*whole[:2], whole.offsets[2:5], 5), part.arrays[1]))
    received = from_bytes(type_, to_bytes(sliced))
    same(received[0], rows[2:4])
    assert received.arrays[0].values.tolist() == [3.0, 4.0]
