"""The command `fedmpi`: one file for each of its commands, none of which loads Numba or MPI before it runs."""
