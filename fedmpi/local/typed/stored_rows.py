"""Rows in another form than an array, as compiled code sees them: something that kernels take and nothing else does.

`Csr` and `Pixels` are named tuples; a user's body that took ``len(batch.x)`` of one would get a wrong number without a
word.  So they are wrapped in a type of their own, which has a ``shape`` and otherwise only the parts that kernels read:
a body that does anything else with it does not compile, and gets arrays (see `compiled.compile_entry`).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic, make_attribute_wrapper, models, overload_attribute, register_model

from fedmpi.local.columns.sparse import Csr, Pixels
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.numba_parts.lowering import cgutils, impl_ret_borrowed


class StoredRows(types.Type):
    """Wrapped rows; ``form`` is their named tuple, ``parts`` the types of its elements."""

    form: Any

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        super().__init__(name=f"stored {self.form.__name__}{parts}")


class StoredCsr(StoredRows):
    """A wrapped `Csr`."""

    form = Csr


class StoredPixels(StoredRows):
    """Wrapped `Pixels`."""

    form = Pixels


_WRAPPERS = {Csr: StoredCsr, Pixels: StoredPixels}


class _Model(models.StructModel):
    def __init__(self, manager: Any, value: StoredRows) -> None:
        super().__init__(manager, value, list(zip(value.form._fields, value.parts, strict=True)))


for _wrapper in (StoredCsr, StoredPixels):
    register_model(_wrapper)(_Model)
    for _name in _wrapper.form._fields:
        make_attribute_wrapper(_wrapper, _name, _name)


@overload_attribute(StoredCsr, "shape", jit_options=OPTIONS)
def _csr_shape(rows: Any) -> Any:
    return lambda rows: (rows.offsets.shape[0] - 1, rows.width)


@overload_attribute(StoredPixels, "shape", jit_options=OPTIONS)
def _pixels_shape(rows: Any) -> Any:
    return lambda rows: rows.data.shape


@intrinsic
def stored(typing: Any, rows: Any) -> Any:
    """Wrap a `Csr` or `Pixels`."""
    wrapper = _WRAPPERS[rows.instance_class](tuple(rows))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = cgutils.create_struct_proxy(sig.return_type)(context, builder)
        for name, part in zip(wrapper.form._fields, cgutils.unpack_tuple(builder, args[0]), strict=True):
            setattr(value, name, part)
        return impl_ret_borrowed(context, builder, sig.return_type, value._getvalue())

    return wrapper(rows), generate
