"""Where compiled code is kept: the user's folder, and files in it that are whole and the user's own.

Reading compiled code means unpickling, and `read` is the one place where fedmpi takes such bytes from a disk.  So a
folder that others may write to gets one inside of it that they may not, a file counts only if nobody else can have
written it, and what is cut or overwritten is taken for missing.  No disk stops a run that can compile: what goes wrong
here is a file that is not there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from fedmpi.local.jit.announcing import waiting

try:
    import fcntl
except ImportError:  # not on this system: every process compiles for itself
    fcntl = None  # type: ignore[assignment]

PATIENCE = 300.0  # seconds; a process that is stopped while it compiles must not keep others waiting for ever
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_DIGEST = hashlib.sha256().digest_size


@functools.cache
def folder() -> Path | None:
    """Return the user's cache folder, or None where no safe one can be had.

    ``FEDMPI_CACHE_DIR`` names it, and a `RuntimeWarning` says why it cannot be used; otherwise it is ``fedmpi`` in
    ``XDG_CACHE_HOME`` or ``~/.cache``, or else ``fedmpi-<uid>`` among the temporary files.
    """
    named = os.environ.get("FEDMPI_CACHE_DIR")
    if named:
        try:
            return _usable(named)
        except OSError as error:
            warnings.warn(f"FEDMPI_CACHE_DIR: compiled code is not kept: {error}", RuntimeWarning, stacklevel=2)
            return None
    for place in _default_places():
        with contextlib.suppress(OSError):
            return _usable(place)
    return None


def _default_places() -> Iterator[str]:
    base, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    if os.path.isabs(base):
        yield os.path.join(base, "fedmpi")
    elif os.path.isabs(home) and os.path.isdir(home) and home != os.sep:  # a container's user may have none
        yield os.path.join(home, ".cache", "fedmpi")
    with contextlib.suppress(OSError):
        if tempfile.gettempdir() != os.getcwd():  # what Python takes where nothing else can be written
            yield os.path.join(tempfile.gettempdir(), f"fedmpi-{_user()}")


def _usable(place: str) -> Path:
    """Return the folder, made if it is missing, or the user's own inside it if others may write there.

    The rights of what is there already stay as they are.  Raises OSError for what cannot be used.
    """
    place = os.path.expanduser(place)
    if place.startswith("~"):
        raise NotADirectoryError(f"{place}: no such home is known")
    path = Path(os.path.abspath(place))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (_own(path.stat()) and _own(path.lstat(), link=True)):
        path = path / f"fedmpi-{_user()}"
        path.mkdir(mode=0o700, exist_ok=True)
        if not _own(path.lstat()):
            raise PermissionError(f"{path}: others can write to it")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: it cannot be written")
    return path


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _own(info: os.stat_result, *, link: bool = False) -> bool:
    """Tell whether a file or folder is this user's and nobody else can write to it; a link has no rights of its own."""
    if not hasattr(os, "getuid"):
        return True
    return info.st_uid == os.getuid() and (not info.st_mode & _OTHERS_WRITE or (link and stat.S_ISLNK(info.st_mode)))


def read(path: Path) -> bytes | None:
    """Return what `write` put there; None if it is missing, damaged, or somebody else may have written it."""
    try:
        with path.open("rb") as file:
            if not _own(os.fstat(file.fileno())):
                return None
            found = file.read()
    except OSError:
        return None
    digest, data = found[:_DIGEST], found[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def write(path: Path, data: bytes) -> bool:
    """Write a file whole or not at all; tell whether it could be written."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the one process that is in the ``with`` block for this lock, if the file system has locks."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # without a lock several may compile, and each result is good
                file = stack.enter_context(path.open("a"))
                with waiting():
                    _wait_for(file.fileno())
                # A child forked meanwhile has the file open too, so that closing it alone would not free the lock.
                stack.callback(_free, file.fileno())
        yield


def _wait_for(file: int) -> None:
    assert fcntl is not None
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.01)


def _free(file: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)
