"""Options and arguments of contexts that are no choices are refused, with what was found."""

import numpy as np
import pytest

import fedmpi as fm

REFUSED = [
    ({"reduction": "exakt"}, "reduction must be 'exact', 'float64' or 'fast', found 'exakt'"),
    ({"nonfinite": True}, "nonfinite must be 'propagate' or 'raise', found True"),
    ({"num_clients": -1}, "num_clients must be a number of clients or None, found -1"),
    ({"num_clients": True}, "num_clients must be a number of clients or None, found True"),
    ({"fuse": "no"}, "fuse must be None, True or False, found 'no'"),
    ({"fuse": 0}, "fuse must be None, True or False, found 0"),
    ({"server_trains": "no"}, "server_trains must be False or True, found 'no'"),
]


@pytest.mark.parametrize(("options", "text"), REFUSED)
def test_options(options, text):
    with pytest.raises(ValueError, match=f"MpiContext: {text}"):
        fm.MpiContext(**options)


def test_numbers_of_numpy_count_clients():
    assert fm.MpiContext(num_clients=np.int64(3)).num_clients == 3


def test_plan_of_no_computation():
    with pytest.raises(TypeError, match="plan: computation must be a computation, found int 3"):
        fm.plan(3)


def test_client_data_of_no_value():
    with pytest.raises(TypeError, match=r"client_data: type must be made of tensors, .*, found \(float32 -> float32\)"):
        fm.client_data([1.0], fm.FunctionType(np.float32, np.float32))
