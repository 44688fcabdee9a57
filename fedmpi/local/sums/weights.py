"""The weights of a mean: finite, and not negative.

They are checked before anything of their client is added.  A client of weight 0 takes no part, whatever its value.
"""

from __future__ import annotations

import math
from typing import Any


class WeightError(ValueError):
    """Makes the ValueError in Python: to put the weight into its text would take Numba a second to compile."""

    def __new__(cls, weight: Any) -> Any:
        found = weight if isinstance(weight, int) else f"{weight:g}"
        return ValueError(f"weight must be finite and not negative, found {found}")


def check_weight(weight: Any) -> None:
    """Raise `ValueError` for a weight, a NumPy scalar of any integer or float type, that is none."""
    number = weight.item()
    if not 0 <= number < math.inf:
        raise WeightError(number)
