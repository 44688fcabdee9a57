"""Arrays as read-only ones: Numba compiles a function once more for arguments that differ in nothing else."""

from __future__ import annotations

from typing import Any

from numba.extending import intrinsic

from fedmpi.local.numba_parts.lowering import impl_ret_borrowed


@intrinsic
def read_only(typing: Any, array: Any) -> Any:
    """Return an array as a read-only one."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return array.copy(readonly=True)(array), generate
