"""What a Python body is given: copies, for what other libraries do with memory (PyTorch shares it) no flag prevents.

Arguments are shared, between clients and with the program, so nothing that a body does to its own may reach them.  The
copies are made anew for each call, and read-only: a body that writes to one by NumPy is told.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.records import names_of, python_record_class


def as_given(value: Any, type_: Type, *, writable: bool = False) -> Any:
    """Return a normalised value as a Python body sees it, in its own arrays: structs as records, sequences as lists.

    They are read-only, but for a parameter that is ``writable``.
    """
    match type_:
        case StructType():
            record = python_record_class(names_of(type_), type_.python_container)
            return record(*[as_given(v, t, writable=writable) for v, t in zip(value, type_, strict=True)])
        case SequenceType(element):
            return [as_given(v, element) for v in value]
        case TensorType() if isinstance(value, np.ndarray):
            own = np.array(value, order="C")
            own.flags.writeable = writable
            return own
    return value
