"""Pixels: every byte to the bit, what is not a pixel, sizes around the vectors'."""

import numpy as np
import pytest

from fedmpi.local.columns.pixels import first_other, narrow
from fedmpi.local.kernels.widen import widen

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
@pytest.mark.parametrize("shape", [(256,), (0,), (1,), (7, 37), (3, 5, 17), (4, 784)])
def test_widened_bytes_are_quotients_to_the_bit(shape, dtype):
    data = np.resize(np.arange(256, dtype=np.uint8), shape)
    data.setflags(write=False)
    out = np.full(shape, np.nan, dtype)
    widen(data, out)
    np.testing.assert_array_equal(out, (data / 255.0).astype(dtype))
    out.setflags(write=False)
    assert first_other(out) == -1
    np.testing.assert_array_equal(narrow(out), data)


@DTYPES
@pytest.mark.parametrize("at", [0, 1023, 1024, 2500])
@pytest.mark.parametrize("number", [-0.0, np.nan, np.inf, -np.inf, 256 / 255, -1 / 255, 1e30, 0.5, 5e-39])
def test_one_number_that_is_no_pixel_is_found(number, at, dtype):
    x = np.resize((np.arange(256) / 255.0).astype(dtype), 2501)
    assert first_other(x) == -1
    x[at] = number
    assert first_other(x) == at


@DTYPES
def test_neighbours_of_pixels_are_none(dtype):
    pixels = (np.arange(1, 256) / 255.0).astype(dtype)
    for towards in (dtype(0), dtype(2)):
        for number in np.nextafter(pixels, towards):
            assert first_other(np.array([number])) == 0


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="widen: data and out must have one size"):
        widen(np.zeros(3, np.uint8), np.zeros(4))
