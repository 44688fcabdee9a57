"""MNIST: the tutorial's subset, which the package carries, and the whole of it from the four IDX files.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; CC BY-SA 3.0, see MNIST-LICENSE.txt.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.data.download import cache_folder, fetch
from fedmpi.data.idx import DataError, read_idx

DIGITS = 10
SUBSET_EXAMPLES = 1000
SUBSET = Path(__file__).with_name("mnist-subset.npz")


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Labelled images: `images` uint8[n, 28, 28] and `labels` uint8[n] in 0..9, both read-only."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Refuse arrays of other shapes or dtypes, and freeze them (views: the caller's arrays stay as they are)."""
        for name, tail in (("images", (28, 28)), ("labels", ())):
            array = getattr(self, name)
            if (
                not isinstance(array, np.ndarray)
                or array.dtype != np.uint8
                or array.shape[1:] != tail
                or not array.ndim
            ):
                wanted = "uint8[n, 28, 28]" if tail else "uint8[n]"
                raise DataError(f"Split: {name} must be {wanted}, found {_describe(array)}")
            view = array.view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)
        if wrong := _disagreement(self.images, self.labels):
            raise DataError(f"Split: {wrong}")

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.labels)

    def __repr__(self) -> str:
        counts = np.bincount(self.labels, minlength=DIGITS)
        return f"Split({len(self)} images of 28 x 28; of each digit: {', '.join(map(str, counts))})"


@dataclass(frozen=True, eq=False)
class Mnist:
    """A training and a test split, and where they were read."""

    train: Split
    test: Split
    source: str

    def __repr__(self) -> str:
        return f"Mnist from {self.source}\n  train: {self.train!r}\n  test:  {self.test!r}"


def mnist(folder: str | os.PathLike[str] | None = None, *, download: bool = False) -> Mnist:
    """MNIST as `.train` and `.test`, each with `.images` uint8[n, 28, 28] and `.labels` uint8[n], read-only.

    Without a folder: the subset that the package carries, the first 1,000 training and the first 1,000 test examples of
    each digit (10,000 and 9,786: some digits have fewer), in the order of the files.  With a folder: all of MNIST, from
    its four IDX files, gzipped or not, named ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte`` and so on.
    `download=True` first fetches those that the folder (default: the user's cache) lacks; it needs the extra ``data``.

    Raises DataError (a ValueError) for a damaged file, FileNotFoundError for a missing one, ConnectionError when no
    mirror answers with the right file; each names the file.
    """
    if folder is None and not download:
        return _embedded()
    place = cache_folder() if folder is None else Path(folder)
    if download:
        place.mkdir(parents=True, exist_ok=True)
    elif not place.is_dir():
        found = "a file" if place.exists() else "nothing"
        raise FileNotFoundError(f"mnist: expected a folder with the four MNIST files at {place}, found {found}")
    train, test = (_read_split(place, part, download) for part in ("train", "t10k"))
    return Mnist(train, test, str(place))


def _read_split(folder: Path, part: str, download: bool) -> Split:
    image_file, label_file = (_file(folder, part, kind, download) for kind in ("images", "labels"))
    images, labels = read_idx(image_file, (None, 28, 28)), read_idx(label_file, (None,))
    if wrong := _disagreement(images, labels):
        raise DataError(f"{label_file} (with {image_file.name}): {wrong}")
    return Split(images, labels)


def _disagreement(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> str:
    """What is wrong with these labels for these images; empty when nothing is."""
    if len(images) != len(labels):
        return f"expected {len(images)} labels, one for each image, found {len(labels)}"
    if (labels >= DIGITS).any():
        row = int(np.argmax(labels >= DIGITS))
        return f"expected labels in 0..9, found {labels[row]} at index {row}"
    return ""


def _file(folder: Path, part: str, kind: str, download: bool) -> Path:
    """The file in `folder` that holds the images or labels of `part`, fetched if it is wanted and missing."""
    dims = {"images": 3, "labels": 1}[kind]
    stem, ending = f"{part}-{kind}", f"idx{dims}-ubyte"
    names = [f"{stem}{dot}{ending}{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if download:
        return fetch(f"{stem}-{ending}.gz", folder)
    raise FileNotFoundError(
        f"mnist: expected {names[0]} (or {', '.join(names[1:])}) in {folder}, found no such file; "
        "download=True fetches what is missing"
    )


@cache
def _embedded() -> Mnist:
    try:
        with SUBSET.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train, test = (Split(arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{SUBSET}: the package's own data is missing; install fedmpi again") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{SUBSET}: the package's own data is damaged ({error}); install fedmpi again") from error
    return Mnist(train, test, "the tutorial's subset, inside the package")


def make_subset(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the file that the package carries: of the MNIST in `folder`, the first 1,000 examples of each digit.

    Deflate on the plain pixels: differences between neighbours compress worse (3.8 MB instead of 3.3), LZMA is smaller
    (2.7 MB) but takes three times as long to read.
    """
    data = mnist(folder)
    train, test = _first_of_each_digit(data.train), _first_of_each_digit(data.test)
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez_compressed(
                stream,
                train_images=train.images,
                train_labels=train.labels,
                test_images=test.images,
                test_labels=test.labels,
            )
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _first_of_each_digit(split: Split) -> Split:
    rows = [np.flatnonzero(split.labels == digit)[:SUBSET_EXAMPLES] for digit in range(DIGITS)]
    kept = np.sort(np.concatenate(rows))
    return Split(split.images[kept], split.labels[kept])


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return type(value).__name__
