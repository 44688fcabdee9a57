"""How many examples property-based tests draw: more with ``FEDMPI_HYPOTHESIS=nightly``."""

import os


def examples(ordinary, nightly=None):
    """Return how many; ten times as many, or ``nightly``, at night."""
    if os.environ.get("FEDMPI_HYPOTHESIS") != "nightly":
        return ordinary
    return 10 * ordinary if nightly is None else nightly
