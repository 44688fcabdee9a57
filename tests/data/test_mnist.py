"""MNIST: the embedded subset, IDX files good and bad, downloads, and the tutorial's partition.

FEDMPI_MNIST, if set, names a folder with the four original files: the subset is then compared with them.
"""

import gzip
import hashlib
import os
import shutil
import struct
import sys
import timeit

import numpy as np
import pytest

from fedmpi import data
from fedmpi.data import DataError, Split
from fedmpi.data.download import MIRRORS, SHA256
from fedmpi.data.mnist import SUBSET, _embedded, make_subset

FILES = {
    "train-images-idx3-ubyte": (3, "train", "images"),
    "train-labels-idx1-ubyte": (1, "train", "labels"),
    "t10k-images-idx3-ubyte": (3, "test", "images"),
    "t10k-labels-idx1-ubyte": (1, "test", "labels"),
}


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def arrays(counts=(30, 20)):
    rng = np.random.default_rng(7)
    for part, n in zip(("train", "t10k"), counts, strict=True):
        yield f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), np.uint8)
        yield f"{part}-labels-idx1-ubyte", rng.integers(0, 10, n, np.uint8)


def write(folder, name=lambda name: name, pack=lambda data: data):
    folder.mkdir(exist_ok=True)
    content = dict(arrays())
    for file, array in content.items():
        (folder / name(file)).write_bytes(pack(idx(array)))
    return content


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "mnist")
    return tmp_path / "mnist"


# --- the embedded subset


def sha256(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def test_subset_is_the_one_made_from_the_original_files():
    assert sha256(data.mnist().train.images) == "f83ddfb6346264b52ed4a5c96f7891bb59b5b151c2cb216648d82f22e3c85195"
    assert sha256(data.mnist().train.labels) == "81018dafcfe18151c97046f4634773cc19464ce01f34c11a89a445656fa5599c"
    assert sha256(data.mnist().test.images) == "3b9049b9a238e022f4a66feb948b42a850ad979ef142848d657ffb04aab4c255"
    assert sha256(data.mnist().test.labels) == "77b0358cc6bb821894f8dffbbf2696a8ad6bdf6c89a726c0cd3f83a0e5cff538"


def test_subset_equals_the_original_files_where_they_are_at_hand(tmp_path):
    if "FEDMPI_MNIST" not in os.environ:
        pytest.skip("FEDMPI_MNIST does not name a folder with the original MNIST files")
    whole, part = data.mnist(os.environ["FEDMPI_MNIST"]), data.mnist()
    assert (len(whole.train), len(whole.test)) == (60_000, 10_000)
    for original, kept in ((whole.train, part.train), (whole.test, part.test)):
        seen, rows = [0] * 10, []
        for row, label in enumerate(original.labels):
            seen[label] += 1
            if seen[label] <= 1000:
                rows.append(row)
        np.testing.assert_array_equal(original.images[rows], kept.images)
        np.testing.assert_array_equal(original.labels[rows], kept.labels)
    make_subset(os.environ["FEDMPI_MNIST"], tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz", allow_pickle=False) as again:
        np.testing.assert_array_equal(again["train_images"], part.train.images)


def test_subset_is_small_quick_and_read_only():
    assert SUBSET.stat().st_size < 3.5e6
    assert min(timeit.repeat(_embedded.__wrapped__, number=1, repeat=3)) < 0.5  # 0.05 s on an idle machine
    train = data.mnist().train
    assert train.images.dtype == train.labels.dtype == np.uint8
    assert (train.images.shape, train.labels.shape) == ((10_000, 28, 28), (10_000,))
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        train.labels[0] = 0


def test_repr_says_what_is_there():
    assert repr(data.mnist()) == (
        "Mnist from the tutorial's subset, inside the package\n"
        "  train: Split(10000 images of 28 x 28; of each digit: "
        "1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000)\n"
        "  test:  Split(9786 images of 28 x 28; of each digit: 980, 1000, 1000, 1000, 982, 892, 958, 1000, 974, 1000)"
    )


def test_damaged_subset_is_told(tmp_path, monkeypatch):
    for content in (b"", b"nonsense", SUBSET.read_bytes()[:100_000]):
        (tmp_path / "bad.npz").write_bytes(content)
        monkeypatch.setattr(sys.modules["fedmpi.data.mnist"], "SUBSET", tmp_path / "bad.npz")
        with pytest.raises(DataError, match=r"bad\.npz: the package's own data is damaged .*; install fedmpi again"):
            _embedded.__wrapped__()


def test_make_subset_of_small_files(folder, tmp_path):
    make_subset(folder, tmp_path / "subset.npz")
    whole = data.mnist(folder)
    with np.load(tmp_path / "subset.npz", allow_pickle=False) as made:
        np.testing.assert_array_equal(made["test_images"], whole.test.images)
        np.testing.assert_array_equal(made["train_labels"], whole.train.labels)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mnist", "subset.npz"]
    with pytest.raises(FileNotFoundError):
        make_subset(folder, tmp_path / "missing" / "subset.npz")


# --- IDX files


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("gz", [False, True])
def test_four_files_gzipped_or_not_by_either_name(tmp_path, dot, gz):
    content = write(
        tmp_path / "m",
        lambda name: name.replace("-idx", dot + "idx") + (".gz" if gz else ""),
        gzip.compress if gz else bytes,
    )
    got = data.mnist(tmp_path / "m")
    for name, (_, part, kind) in FILES.items():
        array = getattr(getattr(got, part), kind)
        np.testing.assert_array_equal(array, content[name])
        assert not array.flags.writeable
    assert repr(got).startswith(f"Mnist from {tmp_path / 'm'}\n")


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    write(tmp_path / "m", lambda name: name + ".gz")
    assert len(data.mnist(str(tmp_path / "m")).train) == 30


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
GOOD = {name: idx(array) for name, array in arrays()}


def header(*sizes):
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes)


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (IMAGES, b"", "expected an IDX file that begins with 00 00 08 03, found an empty file"),
        (IMAGES, b"hello, world", "begins with 00 00 08 03, found 68 65 6c 6c"),
        (IMAGES, GOOD[LABELS], "begins with 00 00 08 03, found 00 00 08 01"),
        (LABELS, GOOD[IMAGES], "begins with 00 00 08 01, found 00 00 08 03"),
        (IMAGES, header(30, 28, 28)[:11], "expected a header of 16 bytes, found a file of 11 bytes"),
        (
            IMAGES,
            header(30, 32, 32) + bytes(30 * 1024),
            r"expected an array of shape \[\?, 28, 28\], found \[30, 32, 32\]",
        ),
        (IMAGES, GOOD[IMAGES][:-1], r"expected 23536 bytes for shape \[30, 28, 28\], found 23535 bytes"),
        (IMAGES, GOOD[IMAGES] + b"!", r"expected 23536 bytes for shape \[30, 28, 28\], found 23537 bytes"),
        (IMAGES, header(2**32 - 1, 28, 28), r"expected 3367254359\d+ bytes for shape .*, found 16 bytes"),
        (LABELS, header(30)[:6], "expected a header of 8 bytes, found a file of 6 bytes"),
        (LABELS, idx(np.zeros(29, np.uint8)), "expected 30 labels, one for each image, found 29"),
        (LABELS, idx(np.arange(30, dtype=np.uint8)), r"expected labels in 0\.\.9, found 10 at index 10"),
    ],
)
def test_damaged_file_is_named_with_expected_and_found(folder, file, content, text):
    (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=text) as raised:
        data.mnist(folder)
    assert str(raised.value).startswith(str(folder / file))


def flip(packed, at):
    return packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]


def packed(data):
    """Return bytes gzipped without the time: the names of tests have them, and are the same in each process."""
    return gzip.compress(data, mtime=0)


PACKED = packed(GOOD[IMAGES])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PACKED[:5], "expected a complete gzip file"),
        (PACKED[:5000], "expected a complete gzip file"),
        (PACKED[:-4], "expected a complete gzip file"),
        (flip(PACKED, -8 % len(PACKED)), "CRC check failed"),
        (flip(PACKED, 3000), "gzip file, found a damaged one|found"),
        (PACKED + b"trailing", "expected a complete gzip file"),
        (packed(GOOD[IMAGES] + b"!"), r"expected 23536 bytes for shape \[30, 28, 28\], found more"),
        (packed(GOOD[IMAGES][:-2]), r"expected 23536 bytes for shape \[30, 28, 28\], found 23534"),
        (packed(header(2**32 - 1, 28, 28)), "found a gzip file that holds at most"),
        (packed(b""), "found an empty file"),
    ],
)
def test_damaged_gzip_file_is_named(folder, content, text):
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(content)
    with pytest.raises(DataError, match=text) as raised:
        data.mnist(folder)
    assert str(raised.value).startswith(str(folder / f"{IMAGES}.gz"))


def test_missing_file_and_missing_folder(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected t10k-labels-idx1-ubyte .*; download=True"):
        data.mnist(folder)
    with pytest.raises(FileNotFoundError, match=r"expected a folder .*nowhere, found nothing"):
        data.mnist(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"expected a folder .*{IMAGES}, found a file"):
        data.mnist(folder / IMAGES)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (
            np.zeros((3, 28, 28)),
            np.zeros(3, np.uint8),
            r"images must be uint8\[n, 28, 28\], found float64\[3, 28, 28\]",
        ),
        (np.zeros((3, 784), np.uint8), np.zeros(3, np.uint8), r"found uint8\[3, 784\]"),
        (np.zeros((3, 28, 28), np.uint8), [0, 1, 2], r"labels must be uint8\[n\], found list"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8), "expected 3 labels, one for each image, found 2"),
        (np.zeros((1, 28, 28), np.uint8), np.full(1, 10, np.uint8), r"expected labels in 0\.\.9, found 10"),
    ],
)
def test_split_checks_its_arrays(images, labels, text):
    with pytest.raises(DataError, match=text):
        Split(images, labels)


def test_split_leaves_the_callers_arrays_writable():
    images, labels = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8)
    split = Split(images, labels)
    images[0], labels[0] = 1, 1
    assert len(split) == 2
    assert not split.images.flags.writeable


# --- downloads: pooch's place is taken by a copy of local files


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Serve gzipped files instead of the network; returns the list of what was asked for."""
    pooch = pytest.importorskip("pooch")
    served = tmp_path / "served"
    write(served, lambda name: name + ".gz", gzip.compress)
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append(url)
        assert known_hash == "sha256:" + SHA256[fname]
        if not (served / fname).exists():
            raise OSError("404 Not Found")
        if url.startswith(MIRRORS[0]) and (served / "mirror 0 is damaged").exists():
            raise ValueError("SHA256 hash of downloaded file does not match the known hash")
        return str(shutil.copy(served / fname, path))

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return asked, served


def test_download_fetches_what_is_missing_into_the_folder(mirror, folder):
    asked, _ = mirror
    (folder / IMAGES).unlink()
    assert len(data.mnist(folder, download=True).train) == 30
    assert asked == [f"https://ossci-datasets.s3.amazonaws.com/mnist/{IMAGES}.gz"]
    data.mnist(folder, download=True)
    assert len(asked) == 1


def test_download_without_a_folder_goes_to_the_cache(mirror, tmp_path):
    asked, _ = mirror
    got = data.mnist(download=True)
    assert (len(got.train), len(got.test), len(asked)) == (30, 20, 4)
    assert sorted(p.name for p in (tmp_path / "cache" / "fedmpi" / "mnist").iterdir()) == sorted(SHA256)


def test_download_makes_the_folder_and_falls_back_to_the_second_mirror(mirror, tmp_path):
    asked, served = mirror
    (served / "mirror 0 is damaged").touch()
    data.mnist(tmp_path / "new" / "folder", download=True)
    assert asked[1] == f"https://storage.googleapis.com/cvdf-datasets/mnist/{IMAGES}.gz"
    assert len(asked) == 8


def test_download_that_fails_names_every_mirror(mirror, tmp_path):
    _, served = mirror
    (served / f"{LABELS}.gz").unlink()
    with pytest.raises(ConnectionError) as raised:
        data.mnist(tmp_path / "new", download=True)
    text = str(raised.value)
    assert text.startswith(f"cannot download {LABELS}.gz into {tmp_path / 'new'}:\n")
    assert all(f"{mirror}{LABELS}.gz: 404 Not Found" in text for mirror in MIRRORS)


def test_download_without_pooch_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    for place in (None, tmp_path):
        with pytest.raises(ModuleNotFoundError, match=r'pip install "fedmpi\[data\]"'):
            data.mnist(place, download=True)


# --- the tutorial's clients


def test_by_digit_gives_the_tutorials_ten_clients():
    clients = data.by_digit(data.mnist().train)
    assert [len(batches) for batches in clients] == [10] * 10
    last = clients[5][-1]
    assert list(last) == ["x", "y"]
    assert last["y"].dtype == np.int32
    assert last["y"].tolist() == [5] * 100
    assert (last["x"].dtype, last["x"].shape) == (np.float32, (100, 784))
    assert clients[5][0]["x"].base is clients[5][9]["x"].base


def test_by_digit_of_the_test_split_has_short_last_batches():
    clients = data.by_digit(data.mnist().test)
    assert [sum(len(b["y"]) for b in client) for client in clients] == [
        980, 1000, 1000, 1000, 982, 892, 958, 1000, 974, 1000,
    ]  # fmt: skip
    assert len(clients[5]) == 9
    assert len(clients[5][-1]["y"]) == 92


def test_pixels_are_the_tutorials_to_the_bit():
    train = data.mnist().train
    rows = np.flatnonzero(train.labels == 3)[:100]
    theirs = np.array([image.flatten() / 255.0 for image in train.images[rows]], dtype=np.float32)
    np.testing.assert_array_equal(data.by_digit(train)[3][0]["x"], theirs)
    every = Split(np.arange(784, dtype=np.uint8).reshape(1, 28, 28), np.zeros(1, np.uint8))
    np.testing.assert_array_equal(data.by_digit(every)[0][0]["x"][0, :256], np.float32(np.arange(256) / 255.0))


@pytest.mark.parametrize(
    ("clients", "examples"), [(10, None), (11, 7), (19, 0), (20, 1000), (37, None), (100, 7), (12_345, None)]
)
def test_more_clients_share_each_digit_contiguously_and_evenly(clients, examples):
    test = data.mnist().test
    got = data.by_digit(test, examples, 30, clients)
    assert len(got) == clients
    for digit in range(10):
        holders = got[digit::10]
        sizes = [sum(len(b["y"]) for b in batches) for batches in holders]
        chosen = test.images[test.labels == digit][:examples]
        assert sum(sizes) == len(chosen)
        assert max(sizes) - min(sizes) <= 1
        batches = [b for client in holders for b in client]
        assert all(0 < len(b["y"]) <= 30 for b in batches)
        assert all((b["y"] == digit).all() for b in batches)
        if batches:
            pixels = np.concatenate([b["x"] for b in batches])
            np.testing.assert_array_equal(pixels, np.float32(chosen.reshape(-1, 784) / 255.0))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"split": [1]}, TypeError, r"split must be a Split such as mnist\(\)\.train, found list"),
        ({"examples": -1}, ValueError, "examples must be at least 0, found -1"),
        ({"examples": 1.5}, TypeError, "examples must be a whole number, found 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, found 0"),
        ({"batch_size": True}, TypeError, "batch_size must be a whole number, found True"),
        ({"batch_size": "100"}, TypeError, "batch_size must be a whole number, found '100'"),
        ({"clients": 9}, ValueError, "clients must be at least 10, found 9"),
        ({"clients": None}, TypeError, "clients must be a whole number, found None"),
    ],
)
def test_by_digit_refuses_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=f"by_digit: {text}"):
        data.by_digit(**({"split": data.mnist().test} | arguments))


def test_by_digit_takes_numpy_integers():
    assert len(data.by_digit(data.mnist().test, np.int64(5), np.int32(2), np.uint8(12))) == 12
