"""The comparison of the ranks' machines."""

from __future__ import annotations

from fedmpi.runtime.collective.machines import differences, here


def test_what_is_compared():
    assert {"fedmpi", "Python", "numpy", "numba", "llvmlite", "CPU"} <= set(here())


def test_equal_machines():
    assert differences([here()] * 3) == []


def test_differences_name_the_ranks():
    machines = [{"numpy": "2.0", "CPU": "A"}, {"numpy": "2.1", "CPU": "A"}, {"numpy": "2.0", "CPU": "A"}, {"CPU": "A"}]
    assert differences(machines) == ["numpy: 2.0 on ranks 0, 2, 2.1 on rank 1, none on rank 3"]
