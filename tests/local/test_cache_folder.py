"""Which folder keeps compiled code, its rights, and that its files are whole and the user's own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from fedmpi.local.jit import cache_folder
from fedmpi.local.jit.cache_folder import folder, locked, read, write

UID = os.getuid()


@pytest.fixture
def find(monkeypatch):
    """Return `folder` for given variables of the environment (None: not set)."""

    def found(**environment):
        for name in ("FEDMPI_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, str(value))
        folder.cache_clear()
        try:
            return folder()
        finally:
            folder.cache_clear()

    return found


def rights(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mode", "own"), [(0o700, True), (0o755, True), (0o775, False), (0o777, False), (0o2770, False)]
)
def test_a_named_folder_keeps_its_rights(find, tmp_path, mode, own):
    """Where others may write there is one inside that is the user's alone."""
    place = tmp_path / "named folder"
    place.mkdir()
    place.chmod(mode)
    expected = place if own else place / f"fedmpi-{UID}"
    for _ in range(2):
        assert find(FEDMPI_CACHE_DIR=place) == expected
    assert rights(place) == mode
    assert rights(expected) & 0o022 == 0
    link = tmp_path / "link"
    link.symlink_to(place)
    assert find(FEDMPI_CACHE_DIR=link) == (link if own else link / f"fedmpi-{UID}")


def test_a_new_folder_is_private(find, tmp_path):
    assert find(FEDMPI_CACHE_DIR=tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert rights(tmp_path / "new" / "deep") == 0o700


def test_default_folders_keep_their_rights_too(find, tmp_path):
    place = tmp_path / ".cache" / "fedmpi"
    place.mkdir(parents=True)
    place.chmod(0o770)
    assert find(HOME=tmp_path) == place / f"fedmpi-{UID}"
    assert rights(place) == 0o770


def test_what_cannot_be_safe_is_refused_with_a_word(find, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    inside = place / f"fedmpi-{UID}"
    inside.mkdir()
    inside.chmod(0o777)
    for named, text in [("file", "File exists"), ("file/below", "Not a directory"), ("open", "others can write to it")]:
        with pytest.warns(RuntimeWarning, match=f"FEDMPI_CACHE_DIR: compiled code is not kept: .*{text}"):
            assert find(FEDMPI_CACHE_DIR=tmp_path / named) is None
    inside.chmod(0o700)
    assert find(FEDMPI_CACHE_DIR=place) == inside
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: UID + 12345)  # everything is somebody else's
        with pytest.warns(RuntimeWarning, match="others can write to it"):
            assert find(FEDMPI_CACHE_DIR=other) is None
        assert read(tmp_path / "file") is None


def test_a_relative_name_is_taken_from_the_working_folder_of_its_first_use(find, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(FEDMPI_CACHE_DIR="here") == tmp_path / "here"
    assert find(FEDMPI_CACHE_DIR="~/there", HOME=tmp_path) == tmp_path / "there"


@pytest.mark.parametrize("home", [None, "", "relative", "/nonexistent", "/", "file"])
def test_without_a_home_nothing_is_left_in_the_working_folder(find, tmp_path, monkeypatch, home):
    def unknown(who):
        raise KeyError(f"uid not found: {who}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "file").write_text("")
    value = str(tmp_path / "file") if home == "file" else home
    for base in ("", "relative", None):
        assert find(HOME=value, XDG_CACHE_HOME=base) == tmp_path / f"fedmpi-{UID}"
    assert not os.path.exists("/nonexistent")
    monkeypatch.setattr(tempfile, "gettempdir", os.getcwd)  # where nothing else can be written
    assert find(HOME=value) is None
    if home is None:
        with pytest.warns(RuntimeWarning, match="~/mine: no such home is known"):
            assert find(HOME=None, FEDMPI_CACHE_DIR="~/mine") is None
    assert not list(work.iterdir())


def test_a_base_that_is_absolute_is_used(find, tmp_path):
    assert find(XDG_CACHE_HOME=tmp_path / "base", HOME=tmp_path) == tmp_path / "base" / "fedmpi"
    assert find(XDG_CACHE_HOME="base", HOME=tmp_path) == tmp_path / ".cache" / "fedmpi"


def test_files_are_whole_or_not_there(tmp_path):
    path = tmp_path / "code"
    assert read(path) is None
    assert write(path, b"some code" * 100)
    assert read(path) == b"some code" * 100
    assert rights(path) == 0o600
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole + b"x", whole[:50] + b"?" + whole[51:], os.urandom(3000)):
        path.write_bytes(damaged)
        assert read(path) is None
    assert write(path, b"")
    assert read(path) == b""
    path.unlink()
    path.mkdir()
    assert read(path) is None
    assert not write(path, b"x")
    assert not write(tmp_path / "missing" / "code", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["code"]


def test_systems_without_users_and_locks(find, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setattr(cache_folder, "fcntl", None)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    assert find(FEDMPI_CACHE_DIR=place) == place
    assert write(place / "code", b"x")
    assert read(place / "code") == b"x"
    with locked(place / "lock"):
        assert not (place / "lock").exists()


def test_one_at_a_time_holds_a_lock(tmp_path):
    inside = []

    def work():
        with locked(tmp_path / "lock"):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside


def test_no_lock_is_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "PATIENCE", 0.1)
    with locked(tmp_path / "lock"), locked(tmp_path / "lock"):
        pass
    with locked(tmp_path / "missing" / "lock"):
        pass

    def unlockable(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(cache_folder.fcntl, "flock", unlockable)
    with locked(tmp_path / "lock"):
        pass


CHILD = """
import os, sys
from pathlib import Path
from fedmpi.local.jit.cache_folder import locked
read, write = os.pipe()
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
with locked(Path(sys.argv[1])):
    print("locked again")
os.close(write)
os.waitpid(child, 0)
"""


def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "lock")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "locked again\n", done.stderr
