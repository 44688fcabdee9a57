"""IDX, the file format of MNIST: two zero bytes, a type code, the number of dimensions, the sizes, the data.

Sizes are big-endian uint32; only unsigned bytes (type code 8) are read here.  Source: the description of the files in
Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GZIP_MAGIC = b"\x1f\x8b"
MAX_DEFLATE_RATIO = 1032  # one deflate bit pair can stand for at most 258 bytes


class DataError(ValueError):
    """A data file is damaged or is not what it should be; the text names the file, what was expected and found."""


def read_idx(path: str | os.PathLike[str], shape: tuple[int | None, ...]) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not (told by its first bytes, not by its name).

    `shape` is what the file must hold, None where any size will do.  The size that the header announces is compared
    with that of the file before anything of that size is allocated.  Returns a writable array that owns its memory.
    Raises DataError for a damaged file and OSError (FileNotFoundError, PermissionError) for one that cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as raw:
        compressed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        stored = os.fstat(raw.fileno()).st_size
        try:
            if compressed:
                with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                    return _read(stream, path, shape, most=stored * MAX_DEFLATE_RATIO, exact=False)
            return _read(raw, path, shape, most=stored, exact=True)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: expected a complete gzip file, found a damaged one ({error})") from error


def _read(
    stream: io.BufferedIOBase, path: Path, shape: tuple[int | None, ...], *, most: int, exact: bool
) -> NDArray[np.uint8]:
    """Read header, data and end of `stream`, which can hold at most (uncompressed: exactly) `most` bytes."""
    size = 4 + 4 * len(shape)
    header = stream.read(size)
    magic = bytes((0, 0, 8, len(shape)))
    if header[:4] != magic:
        raise DataError(f"{path}: expected an IDX file that begins with {magic.hex(' ')}, found {_hex(header[:4])}")
    if len(header) < size:
        raise DataError(f"{path}: expected a header of {size} bytes, found a file of {len(header)} bytes")
    found = tuple(int(n) for n in np.frombuffer(header, dtype=">u4", offset=4))
    if any(want not in (None, got) for want, got in zip(shape, found, strict=True)):
        raise DataError(f"{path}: expected an array of shape {_text(shape)}, found {_text(found)} in the header")
    promised = math.prod(found)
    if size + promised > most or (exact and size + promised < most):
        of_file = f"{most} bytes" if exact else f"a gzip file that holds at most {most} bytes"
        raise DataError(f"{path}: expected {size + promised} bytes for shape {_text(found)}, found {of_file}")
    data = np.empty(promised, dtype=np.uint8)
    view, filled = data.data, 0
    while filled < promised and (count := stream.readinto(view[filled:])):
        filled += count
    # Reading past the end is also what makes gzip compare its checksum.
    more = bool(stream.read(1))
    if filled < promised or more:
        held = "more" if more else f"{size + filled}"
        raise DataError(f"{path}: expected {size + promised} bytes for shape {_text(found)}, found {held}")
    return data.reshape(found)


def _hex(data: bytes) -> str:
    return data.hex(" ") or "an empty file"


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
