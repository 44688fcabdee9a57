"""`fm.client_data_from_arrays` in one process: views, batches, forms, errors."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.column import form, leaves
from tests.local.test_columns import same

F32 = np.float32
BATCH = fm.to_type(OrderedDict(x=(F32, [None, 3]), y=(np.int32, [None])))
CLIENTS = fm.type_at_clients(fm.SequenceType(BATCH))
REFERENCE = fm.ReferenceContext()
OFFSETS = [0, 4, 4, 10]
X, Y = np.arange(30, dtype=F32).reshape(10, 3), np.arange(10, dtype=np.int32)
CLIENT_ROWS = [[0, 1, 2, 3], [], [4, 5, 6, 7, 8, 9]]


def make(arrays=None, offsets=OFFSETS, type_=CLIENTS, batch_size=3, **keywords):
    arrays = OrderedDict(x=X, y=Y) if arrays is None else arrays
    return REFERENCE.client_data_from_arrays(arrays, offsets, type_, batch_size, **keywords)


def forms(data):
    return [form(data.column.arrays[leaf.at], leaf.type) for leaf in leaves(data.type)]


def test_batches_are_views_of_the_arrays():
    data = make()
    assert [[len(y) for _, y in client] for client in data.members()] == [[3, 1], [], [3, 3]]
    rows = [0, 3, 4, 7, 10]
    for k, (first, count) in enumerate([(0, 2), (2, 0), (2, 2)]):
        for j, (x, y) in enumerate(data.column[k]):
            assert np.shares_memory(x, X)
            assert np.shares_memory(y, Y)
            same(x, X[rows[first + j] : rows[first + j + 1]])
            same(y, Y[rows[first + j] : rows[first + j + 1]])
        assert len(data.column[k]) == count
    assert data.column.arrays[2] is data.column.arrays[4]  # one array of offsets
    assert X.flags.writeable
    assert not data.column.arrays[1].flags.writeable


def test_one_value_for_each_client():
    offsets = np.array(OFFSETS)
    data = make(type_=BATCH, batch_size=None, offsets=offsets)
    assert [y.tolist() for _, y in data.members()] == CLIENT_ROWS
    offsets[:] = 1 << 40
    assert [y.tolist() for _, y in data.members()] == CLIENT_ROWS, "what may change is copied"
    offsets = np.array(OFFSETS)
    offsets.flags.writeable = False
    data = make(type_=BATCH, batch_size=None, offsets=offsets)
    assert np.shares_memory(data.column.arrays[1], offsets)
    plain = make(Y, type_=(np.int32, [None]), batch_size=None)
    assert [y.tolist() for y in plain.members()] == CLIENT_ROWS
    pair = make((X, Y), type_=fm.to_type([(F32, [None, 3]), (np.int32, [None])]), batch_size=None)
    assert [y.tolist() for _, y in pair.members()] == CLIENT_ROWS


@pytest.mark.parametrize("size", [2**63 - 1, 10**30])
def test_a_batch_may_be_larger_than_any_client(size):
    data = make(batch_size=size)
    assert [[y.tolist() for _, y in batches] for batches in data.members()] == [
        [[0, 1, 2, 3]],
        [],
        [[4, 5, 6, 7, 8, 9]],
    ]


def test_memory_maps_stay_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 3), F32))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = make({"x": x, "y": np.memmap(tmp_path / "y", np.int32, "w+", shape=10)})
    assert np.shares_memory(data.column.arrays[1], x)
    assert forms(data) == ["dense", "dense"]  # "auto" does not read a map
    assert type(data.column.arrays[1]) is np.ndarray
    assert forms(make({"x": x, "y": Y}, storage="sparse")) == ["sparse", "dense"]
    assert forms(make({"x": np.zeros((10, 3), F32), "y": Y})) == ["bytes", "dense"]
    fortran = np.memmap(tmp_path / "f", F32, "w+", shape=(10, 3), order="F")
    with pytest.raises(TypeError, match=r"arrays, x: expected a memory map float32\[\?,3\] in C order"):
        make({"x": fortran[:, :], "y": Y})
    same(make({"x": np.asfortranarray(X), "y": Y}).column[0][0][0], X[0:3])


def test_bytes_stand_for_fractions():
    u = np.arange(30, dtype=np.uint8).reshape(10, 3)
    data = make({"x": u, "y": Y}, storage="bytes")
    assert np.shares_memory(data.column.arrays[1], u)
    same(data.column[0][0][0], (u[0:3] / 255.0).astype(F32))
    with pytest.raises(
        TypeError, match=r'found uint8\[10,3\]\n.*\n  hint: bytes stand for u / 255.0 with storage="bytes"'
    ):
        make({"x": u, "y": Y})
    fractions = (u / 255.0).astype(F32)
    assert forms(make({"x": fractions, "y": Y}, storage="bytes")) == ["bytes", "dense"]
    fractions[5, 1] = 0.5
    text = r"arrays, client 2, x: expected float32\[\?,3\] of numbers u / 255.0 .*, found float32 0.5"
    with pytest.raises(TypeError, match=text):
        make({"x": fractions, "y": Y}, storage="bytes")


STRUCT = fm.to_type([fm.SequenceType(BATCH)])
FLOAT64, WIDE = X.astype(np.float64), np.concatenate([X, X], axis=1)
REFUSED = [
    ({"offsets": [0, 5, 4]}, "parameter offsets: expected ascending numbers, found 5 before 4 at client 1"),
    ({"offsets": [0, 11]}, "parameter offsets: expected offsets from 0 to 10, the number of rows, found 0 to 11\n"),
    ({"offsets": [-1, 10]}, "offsets from 0 to 10, the number of rows, found -1 to 10\n"),
    ({"offsets": np.array([0, 2**63 + 5], np.uint64)}, f"offsets: .* found 0 to {2**63 + 5}\n"),
    ({"offsets": [4, 4, 10]}, r"which leaves out 4 of 10 rows\n.*hint: .* np.concatenate\(\[\[0\], offsets\]\)"),
    ({"offsets": [0, 4, 7]}, r"found 0 to 7, which leaves out 3 of 10 rows\n.*hint: .* np.append\(offsets, 10\)"),
    ({"offsets": [1, 4, 7]}, r"found 1 to 7, which leaves out 4 of 10 rows\n.*hint: .*array\[start:stop\]"),
    ({"offsets": [1, 3, 6]}, r"which leaves out 5 of 10 rows\n.*hint: these look like .*np.cumsum\(\[0, \*sizes\]\)"),
    ({"offsets": [4, 0, 6]}, r"found 4 before 0 at client 0\n.*hint: these look like the clients' sizes"),
    ({"offsets": np.array(OFFSETS, float)}, r"found float64\[4\]\n.*hint: write offsets.astype\(np.int64\)"),
    ({"offsets": [False, True]}, r"offsets: expected int64\[clients \+ 1\], .*, found bool\[2\]"),
    ({"offsets": []}, r"offsets: expected int64\[clients \+ 1\], .*, found float64\[0\]"),
    ({"offsets": [0.0, 1.0]}, r"offsets: expected int64\[clients \+ 1\], .*, found float64\[2\]"),
    ({"offsets": [0, [1]]}, r"offsets: expected int64\[clients \+ 1\], .*, found a list of 2"),
    ({"offsets": None}, r"offsets: expected int64\[clients \+ 1\], .*, found None"),
    ({"batch_size": None}, r"batch_size must be a whole number from 1 for <x=.*>\*, found None"),
    ({"batch_size": 0}, "batch_size must be a whole number from 1 for .*, found 0"),
    ({"batch_size": 2.0}, "batch_size must be a whole number from 1 for .*, found 2.0"),
    ({"type_": BATCH}, "batch_size is for sequences of batches, found 3 for <x="),
    ({"type_": fm.type_at_server(BATCH)}, r"type must be \{T\}@CLIENTS or T, found <.*>@SERVER"),
    ({"arrays": {"x": X}}, "arrays: expected <x=.*>, found a dict with the keys 'x': no 'y'"),
    ({"arrays": {"x": X, "y": Y[1:]}}, "arrays, y: expected as many rows as arrays, x has, 10, found 9"),
    ({"arrays": {"x": FLOAT64, "y": Y}}, r"arrays, x: expected an array float32\[\?,3\], found float64\[10,3\]"),
    ({"arrays": {"x": FLOAT64, "y": Y}}, r"write array.astype\(np.float32\) where that is meant"),
    ({"arrays": {"x": X.astype(">f4"), "y": Y}}, "arrays, x: expected an array float32"),
    ({"arrays": {"x": WIDE, "y": Y}}, r"arrays, x: expected an array float32\[\?,3\], found float32\[10,6\]"),
    ({"arrays": {"x": X.tolist(), "y": Y}}, "arrays, x: expected an array .*, found a list of 10"),
    ({"type_": fm.SequenceType(F32), "arrays": X}, "whose first dimension alone is .*, found float32 at arrays"),
    ({"type_": fm.SequenceType((F32, [None, None])), "arrays": X}, r"found float32\[\?,\?\] at arrays"),
    ({"type_": STRUCT, "arrays": [X], "batch_size": None}, r"found <.*>\* at arrays, element 0"),
    ({"type_": fm.to_type([]), "arrays": [], "batch_size": None}, "expected a type with at least one tensor"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
def test_what_is_refused(changes, text):
    with pytest.raises(TypeError, match=f"(?s)client_data_from_arrays: .*{text}"):
        make(**changes)
    with pytest.raises(ValueError, match=r"storage must be 'auto', .* or 'density', found 'small'"):
        make(storage="small")
