"""Random numbers as functions of a key, the same in Python, in bodies and in programs, on any rank.

For example ``fm.random.normal(fm.random.fold_in(fm.random.key(7), client), (784, 10))``.
"""

from fedmpi.local.decorators import numba_computation
from fedmpi.local.draws.random_functions import MAKER as _MAKER
from fedmpi.local.draws.random_functions import bernoulli as bernoulli
from fedmpi.local.draws.random_functions import choice as choice
from fedmpi.local.draws.random_functions import dirichlet as dirichlet
from fedmpi.local.draws.random_functions import fold_in as fold_in
from fedmpi.local.draws.random_functions import gamma as gamma
from fedmpi.local.draws.random_functions import integers as integers
from fedmpi.local.draws.random_functions import key as key
from fedmpi.local.draws.random_functions import normal as normal
from fedmpi.local.draws.random_functions import permutation as permutation
from fedmpi.local.draws.random_functions import split as split
from fedmpi.local.draws.random_functions import uniform as uniform

_MAKER["local"] = numba_computation
del numba_computation
