"""Global random numbers are refused in compiled bodies, however they are reached."""

from __future__ import annotations

import random
import random as dice
from collections import OrderedDict
from random import gauss

import numba
import numpy as np
import numpy.random as nr
import pytest
from numpy.random import rand

import fedmpi as fm

F32 = np.float32


@numba.njit
def jitted_helper(x):
    return x + np.random.normal()


def helper(x):
    return x + random.random()


def in_a_helper(x):
    return helper(x)


def in_a_jitted_helper(x):
    return jitted_helper(x)


def in_an_inner_function(x):
    def inner(y):
        return y + np.random.rand()

    return inner(x)


def in_a_comprehension(x):
    return sum([np.random.rand() for _ in range(3)]) + x


def imported_inside(x):
    from numpy.random import rand as other

    return x + other()


RANDOM = [
    lambda x: x + np.random.rand(),
    lambda x: x + random.random(),
    lambda x: x + dice.random(),
    lambda x: x + nr.rand(),
    lambda x: x + rand(),
    lambda x: x + gauss(0.0, 1.0),
    in_a_helper,
    in_a_jitted_helper,
    in_an_inner_function,
    in_a_comprehension,
    imported_inside,
]


@pytest.mark.parametrize("function", RANDOM)
def test_global_random_numbers_are_refused(function):
    with pytest.raises(TypeError, match=r"pass a key and draw with fm.random"):
        fm.numba_computation(function, F32)


def test_random_numbers_by_closure_are_refused_and_other_names_are_not():
    draw = np.random.rand
    with pytest.raises(TypeError, match="draw from a state of the rank"):
        fm.numba_computation(lambda x: x + draw(), F32)
    assert fm.numba_computation(lambda s: s.random, OrderedDict(random=F32))((2.0,)) == 2
