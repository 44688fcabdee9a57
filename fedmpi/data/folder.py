"""Clients in files: a folder as a sequence of which each rank reads its own clients alone."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from fedmpi.data.idx import DataError


class Folder(Sequence[Any]):
    """The files of a folder whose names match a pattern, in the order of their names; an element is what is loaded."""

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Any], sizes: Sequence[int] | None) -> None:
        self.paths, self._load = list(paths), load
        if sizes is not None:
            self.sizes = list(sizes)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._load(path) for path in self.paths[index]]
        return self._load(self.paths[index])


def folder(
    path: str | os.PathLike[str], load: Callable[[Path], Any], pattern: str = "*", sizes: Sequence[int] | None = None
) -> Folder:
    """Return the clients of a folder, a file each, for `fm.client_data`: ``load(path)`` makes a client's value.

    Client k is file k in the order of the names that match ``pattern``; each rank loads those of its own clients alone.
    With ``sizes``, a number of examples for each file, clients are dealt to the ranks by them, else by their number.
    Raises `DataError` where there is no such folder or no file that matches.
    """
    place = Path(path)
    if not place.is_dir():
        raise DataError(f"folder: there is no folder {place}")
    paths = sorted(entry for entry in place.iterdir() if entry.is_file() and fnmatch.fnmatch(entry.name, pattern))
    if not paths:
        raise DataError(f"folder: no file in {place} matches {pattern!r}")
    if sizes is not None and len(sizes) != len(paths):
        raise DataError(f"folder: sizes must be a number for each of {len(paths)} files, found {len(sizes)}")
    return Folder(paths, load, sizes)
