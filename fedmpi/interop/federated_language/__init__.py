"""fedmpi as the runtime of the public package ``federated_language``, which ships none of its own.

    import federated_language
    from fedmpi.interop import federated_language as bridge

    bridge.install()  # from here on, computations of federated_language run on fedmpi

Types, operators and tracing are that package's; a call translates the computation's tree to fedmpi's, once, and runs it
in a fedmpi context: on the ranks of the MPI job, or in this process.  Needs ``fedmpi[federated-language]``.
"""

from __future__ import annotations

try:
    import federated_language as _upstream
except ModuleNotFoundError as error:
    if error.name != "federated_language":
        raise
    raise ModuleNotFoundError(
        "fedmpi.interop.federated_language needs the package federated_language: "
        "pip install 'fedmpi[federated-language]'",
        name=error.name,
    ) from None

import asyncio as _asyncio
import os as _os

from fedmpi.interop.federated_language.contexts import AsyncContext, SyncContext, context, install
from fedmpi.interop.federated_language.kernels import numba_computation, python_computation, wrap
from fedmpi.interop.federated_language.translation import translate
from fedmpi.interop.federated_language.types import from_fedmpi, to_fedmpi
from fedmpi.language.source import leave_out as _leave_out

for _package in (_upstream, _asyncio):  # what stands between the user's line and fedmpi
    _leave_out(_os.path.dirname(_os.path.abspath(_package.__file__ or "")))

__all__ = [
    "AsyncContext",
    "SyncContext",
    "context",
    "from_fedmpi",
    "install",
    "numba_computation",
    "python_computation",
    "to_fedmpi",
    "translate",
    "wrap",
]
