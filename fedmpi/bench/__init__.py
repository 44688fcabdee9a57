"""The benchmark suite behind ``fedmpi bench``: every figure next to a yardstick that is measured in the same run.

``suite`` times both sides in turn and collects the rows; ``by_hand`` holds what users would write without fedmpi, in
NumPy and mpi4py; ``programs`` the federated computations; each other module one group of rows.
"""
