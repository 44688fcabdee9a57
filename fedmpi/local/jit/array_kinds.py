"""Who may write to an array, as a type: read-only arrays, and such that are lent.

Numba compiles a function once more for arguments that differ in nothing else, so that what is shared is made read-only
first.  Lent arrays: a body may write into them, and whoever lent them does not read them again.

In compiled code a lent array has a type of its own, which only the array itself has: a slice of it, or what arithmetic
makes of it, is an ordinary array.  So a kernel that has an in-place form knows while it is compiled whether it may use
it.  `lending` is the same for bodies that run as Python.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, models, overload, register_model

from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.numba_parts.lowering import impl_ret_borrowed, lower_cast


class LentArray(types.Array):
    """An array that its holder may write into, and whose numbers nobody else reads again."""

    def __init__(self, dtype: Any, ndim: int, layout: str) -> None:
        super().__init__(dtype, ndim, layout, name=f"lent array({dtype}, {ndim}d, {layout})")


register_model(LentArray)(models.ArrayModel)


def lent_type(array: Any) -> Any:
    """Return the type of an array as one that is lent."""
    return LentArray(array.dtype, array.ndim, array.layout)


def owned_type(array: Any) -> Any:
    """Return the type of an array as an ordinary one."""
    return types.Array(array.dtype, array.ndim, array.layout, readonly=not array.mutable, aligned=array.aligned)


@lower_cast(LentArray, types.Array)
def _as_ordinary(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return value


@intrinsic
def as_lent(typing: Any, array: Any) -> Any:
    """Return an array as one that is lent."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return lent_type(array)(array), generate


@intrinsic
def as_owned(typing: Any, array: Any) -> Any:
    """Return an array as an ordinary one."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return owned_type(array)(array), generate


@intrinsic
def address(typing: Any, array: Any) -> Any:
    """Return where an array's memory begins."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), generate


@intrinsic
def read_only(typing: Any, array: Any) -> Any:
    """Return an array as a read-only one."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return array.copy(readonly=True)(array), generate


def reach(array: Any) -> tuple[int, int]:
    """Return where an array's memory begins, and where it ends."""
    raise NotImplementedError("for compiled code")


@overload(reach, strict=False, jit_options=OPTIONS)
def _reach(array: Any) -> Any:
    if array.layout in "CF":

        def contiguous(array: Any) -> Any:
            start = address(array)
            return start, start + array.size * array.itemsize

        return contiguous

    def strided(array: Any) -> Any:
        start = end = address(array)
        if array.size == 0:
            return start, end
        for size, stride in zip(array.shape, array.strides):  # noqa: B905  # Numba has no strict
            start, end = start + min((size - 1) * stride, 0), end + max((size - 1) * stride, 0)
        return start, end + array.itemsize

    return strided
