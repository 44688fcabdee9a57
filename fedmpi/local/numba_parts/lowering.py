"""How a type of our own is typed and becomes machine code, where `numba.extending` does not reach."""

from numba.core import cgutils as cgutils
from numba.core.dispatcher import Dispatcher as Dispatcher
from numba.core.imputils import RefType as RefType
from numba.core.imputils import impl_ret_borrowed as impl_ret_borrowed
from numba.core.imputils import impl_ret_new_ref as impl_ret_new_ref
from numba.core.imputils import iternext_impl as iternext_impl
from numba.core.imputils import lower_builtin as lower_builtin
from numba.core.imputils import lower_cast as lower_cast
from numba.core.imputils import lower_constant as lower_constant
from numba.core.imputils import lower_getattr_generic as lower_getattr_generic
from numba.core.registry import cpu_target as cpu_target
from numba.core.typing.templates import AbstractTemplate as AbstractTemplate
from numba.core.typing.templates import infer as infer
from numba.core.typing.templates import signature as signature
from numba.np.numpy_support import from_dtype as from_dtype

# Numba's documentation shows `cgutils` and the decorators of `imputils` in its examples, without a promise.  The two
# contexts of `cpu_target` say which functions Numba types, and give the code of one for types that are known.
RELIED_ON = (
    "numba.core.cgutils.alloca_once",
    "numba.core.cgutils.alloca_once_value",
    "numba.core.cgutils.create_struct_proxy",
    "numba.core.cgutils.for_range",
    "numba.core.cgutils.for_range_slice",
    "numba.core.cgutils.get_null_value",
    "numba.core.cgutils.get_or_insert_function",
    "numba.core.cgutils.intp_t",
    "numba.core.cgutils.pack_array",
    "numba.core.cgutils.unpack_tuple",
    "numba.core.dispatcher.Dispatcher.compile",
    "numba.core.dispatcher.Dispatcher.disable_compile",
    "numba.core.dispatcher.Dispatcher.get_call_template",
    "numba.core.imputils.RefType.BORROWED",
    "numba.core.imputils.RefType.NEW",
    "numba.core.imputils.impl_ret_borrowed",
    "numba.core.imputils.impl_ret_new_ref",
    "numba.core.imputils.iternext_impl",
    "numba.core.imputils.lower_builtin",
    "numba.core.imputils.lower_cast",
    "numba.core.imputils.lower_constant",
    "numba.core.imputils.lower_getattr_generic",
    "numba.core.registry.cpu_target.target_context",
    "numba.core.registry.cpu_target.typing_context",
    "numba.core.typing.templates.AbstractTemplate",
    "numba.core.typing.templates.infer",
    "numba.core.typing.templates.signature",
    "numba.np.numpy_support.from_dtype",
)
