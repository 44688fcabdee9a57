"""Arithmetic of whole models: an array, or a struct of arrays however deep, in programs, in bodies and in Python.

For example ``fm.model.norm(update)``; ``a + b``, ``a - b``, ``-a``, ``a * s`` and ``a / s`` need no function.
"""

from fedmpi.local.whole.model_functions import cast as cast
from fedmpi.local.whole.model_functions import dot as dot
from fedmpi.local.whole.model_functions import flatten as flatten
from fedmpi.local.whole.model_functions import leaves as leaves
from fedmpi.local.whole.model_functions import map as map
from fedmpi.local.whole.model_functions import norm as norm
from fedmpi.local.whole.model_functions import unflatten as unflatten
from fedmpi.local.whole.model_functions import zeros_like as zeros_like
