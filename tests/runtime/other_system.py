"""Run `fedmpi WORDS` or a program as on a system that has nothing of what only Linux has."""

import builtins
import os
import pathlib
import runpy
import sys

import numba  # noqa: F401
import numpy  # noqa: F401 - what is not fedmpi's may ask for what it likes
import scipy  # noqa: F401

for name in ("sched_getaffinity", "sched_setaffinity", "sched_yield", "getuid", "geteuid", "posix_fadvise", "eventfd"):
    if hasattr(os, name):
        delattr(os, name)


def without_folders(original):
    def opening(path, *arguments, **keywords):
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if name.startswith(("/proc", "/sys", "/dev/shm")) and name != "/proc/self/maps":  # threadpoolctl's
            raise FileNotFoundError(2, "No such file or directory", name)
        return original(path, *arguments, **keywords)

    return opening


builtins.open = without_folders(builtins.open)
pathlib.io.open = builtins.open
os.listdir, os.scandir = without_folders(os.listdir), without_folders(os.scandir)
sys.argv = sys.argv[1:]
if sys.argv[0] == "fedmpi":
    from fedmpi.cli.main import main

    sys.exit(main(sys.argv[1:]))
runpy.run_path(sys.argv[0], run_name="__main__")
