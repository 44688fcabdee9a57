"""What Numba has to learn: records with names in brackets, and sequences that can be iterated.

Importing this module registers the extensions; it is imported before anything is compiled and not earlier (Numba takes
0.6 s). Nothing is hashed at run time: a name in brackets is a constant and resolves to a position while compiling.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import arity, layout
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.columns.sparse import Csr, Pixels
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import code_of
from fedmpi.local.jit.kernel import jit
from fedmpi.local.kernels.widen import widen
from fedmpi.local.numba_parts.intermediate import errors
from fedmpi.local.numba_parts.intermediate import length_of_iterator as length_of_numba
from fedmpi.local.numba_parts.lowering import (
    AbstractTemplate,
    RefType,
    cgutils,
    cpu_target,
    impl_ret_borrowed,
    impl_ret_new_ref,
    infer,
    iternext_impl,
    lower_builtin,
    lower_cast,
    signature,
)
from fedmpi.local.records import element_names, record_class, record_of
from fedmpi.local.typed.flat_structs import FlatStruct, flat_struct, flat_type
from fedmpi.local.typed.stored_rows import stored
from fedmpi.local.typed.tokens import token_of

# --- record["name"] --------------------------------------------------------------------------------------------------


def _position(record: types.Type, name: str) -> int | None:
    names = element_names(record.instance_class)
    return names.index(name) if names is not None and name in names else None


@infer
class _RecordItem(AbstractTemplate):
    key = "static_getitem"

    def generic(self, args: Any, kws: Any) -> Any:
        record, name = args
        if isinstance(record, types.BaseNamedTuple) and isinstance(name, str):
            position = _position(record, name)
            if position is None:
                names = ", ".join(map(str, element_names(record.instance_class) or ()))
                raise errors.NumbaTypeError(f"no element {name!r}; there are {names}")
            return signature(list(record)[position], *args)
        return None


@lower_builtin("static_getitem", types.NamedTuple, types.StringLiteral)
@lower_builtin("static_getitem", types.NamedUniTuple, types.StringLiteral)
def _lower_record_item(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    record, name = sig.args
    position = _position(record, name if isinstance(name, str) else name.literal_value)
    item = builder.extract_value(args[0], position)
    return impl_ret_borrowed(context, builder, sig.return_type, item)


# --- one variable, two records: a read-only argument before a loop, what the loop made after it ----------------------


def _unify(self: Any, typing: Any, other: Any) -> Any:
    if not isinstance(other, types.BaseNamedTuple) or len(self) != len(other):
        return None
    names = element_names(self.instance_class)
    if names is None or names != element_names(other.instance_class):
        return None
    parts = [typing.unify_pairs(a, b) for a, b in zip(self, other, strict=True)]
    if None in parts:
        return None
    if isinstance(self, FlatStruct) and isinstance(other, FlatStruct) and self.struct is other.struct:
        return flat_type(self.struct, map(typing.unify_pairs, self.vectors, other.vectors))
    own = self.instance_class if self.instance_class is other.instance_class else record_class(names)
    return types.BaseTuple.from_types(parts, pyclass=own)


# Numba has this for plain tuples only.
types.BaseNamedTuple.unify = _unify


@lower_cast(types.BaseNamedTuple, types.BaseNamedTuple)
def _cast_record(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    parts = cgutils.unpack_tuple(builder, value, len(source))
    cast = [context.cast(builder, *each) for each in zip(parts, source, target, strict=True)]
    return context.make_tuple(builder, target, cast)


# --- for batch in batches --------------------------------------------------------------------------------------------


_PROGRESS = types.Array(types.int64, 1, "C")


class SequenceValue(types.IterableType):
    """A packed sequence: the arrays of a column of its elements, and where it starts and stops.

    A loop over it notes the position it has reached in ``progress[0]``, so that an error can name the batch.  Rows
    that are stored as pixels or sparse come as `StoredRows`, or, if the sequence is ``dense``, as arrays.
    """

    mutable = False

    def __init__(self, element: Type, arrays: Any, dense: bool = False) -> None:
        self.element, self.arrays, self.dense = element, arrays, dense
        super().__init__(name=f"{'dense ' * dense}sequence({element}, {arrays})")

    @property
    def iterator_type(self) -> Any:
        return SequenceIterator(self)


class SequenceIterator(types.SimpleIteratorType):
    """An iterator over a packed sequence."""

    def __init__(self, sequence: SequenceValue) -> None:
        self.sequence = sequence
        super().__init__(f"iterator({sequence.name})", _element_signature(sequence)[1].return_type)


def _element_signature(sequence: SequenceValue) -> Any:
    typing = cpu_target.typing_context
    function = typing.resolve_value_type(element_at)
    return function, typing.resolve_function_type(function, (sequence, types.int64), {})


@register_model(SequenceValue)
class _SequenceModel(models.StructModel):
    def __init__(self, manager: Any, value: Any) -> None:
        super().__init__(
            manager,
            value,
            [("arrays", value.arrays), ("progress", _PROGRESS), ("start", types.int64), ("stop", types.int64)],
        )


@register_model(SequenceIterator)
class _IteratorModel(models.StructModel):
    def __init__(self, manager: Any, value: Any) -> None:
        index = types.EphemeralPointer(types.int64)
        members = [("sequence", value.sequence), ("index", index), ("around", types.int64)]
        super().__init__(manager, value, members)


def _proxy(context: Any, builder: Any, type_: Any, value: Any = None) -> Any:
    return cgutils.create_struct_proxy(type_)(context, builder, value=value)


@intrinsic
def make_sequence(typing: Any, token: Any, arrays: Any, progress: Any, start: Any, stop: Any) -> Any:
    """Return the sequence ``start`` to ``stop`` of a column; ``token`` names the type of its elements.

    Its label is "dense" for a `SequenceValue` of that kind.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _proxy(context, builder, sig.return_type)
        _, value.arrays, value.progress, value.start, value.stop = args
        return impl_ret_borrowed(context, builder, sig.return_type, value._getvalue())

    value = SequenceValue(token.type, arrays, token.label == "dense")
    return value(token, arrays, _PROGRESS, types.int64, types.int64), generate


@intrinsic
def retyped(typing: Any, sequence: Any, token: Any) -> Any:
    """Return a sequence as one of the token's type, whose columns are laid out alike."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return SequenceValue(token.type, sequence.arrays, sequence.dense)(sequence, token), generate


@intrinsic
def _arrays_of(typing: Any, sequence: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _proxy(context, builder, sig.args[0], args[0])
        return impl_ret_borrowed(context, builder, sig.return_type, value.arrays)

    return sequence.arrays(sequence), generate


@intrinsic
def _progress_of(typing: Any, sequence: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _proxy(context, builder, sig.args[0], args[0])
        return impl_ret_borrowed(context, builder, sig.return_type, value.progress)

    return _PROGRESS(sequence), generate


@intrinsic
def _bounds_of(typing: Any, sequence: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = _proxy(context, builder, sig.args[0], args[0])
        return context.make_tuple(builder, sig.return_type, [value.start, value.stop])

    return types.UniTuple(types.int64, 2)(sequence), generate


def element_at(sequence: Any, index: int) -> Any:
    """Return value ``index`` of the sequence's column (compiled code only)."""
    raise NotImplementedError("element_at is for compiled code")


@overload(element_at, strict=False, jit_options=OPTIONS)
def _element_at(sequence: Any, index: int) -> Any:
    if not isinstance(sequence, SequenceValue):
        return None
    scope: dict[str, Any] = {"arrays_of": _arrays_of, "progress_of": _progress_of, "__name__": __name__}
    text = _element_text(sequence.element, 0, sequence, scope)
    source = f"def implementation(sequence, index):\n    arrays = arrays_of(sequence)\n    return {text}\n"
    exec(code_of(source, "an element of a sequence"), scope)
    return scope["implementation"]


def _element_text(type_: Type, at: int, sequence: SequenceValue, scope: dict[str, Any]) -> str:
    """Return the expression for one value of a column whose arrays begin at ``at`` (see `columns.Column`)."""
    match type_:
        case TensorType():
            return _tensor_text(type_, at, sequence, scope)
        case StructType() if (flat := flat_layout(type_)) is not None:
            scope["flat_struct"] = flat_struct
            rows = [_row_text(at + k, dtype, sequence, scope) for k, (dtype, _) in enumerate(flat.formats)]
            return f"flat_struct({_constant(scope, 'token', token_of(type_))}, ({', '.join(rows)},))"
        case StructType():
            parts = []
            for part in type_:
                parts.append(_element_text(part, at, sequence, scope))
                at += arity(part)
            return f"{_constant(scope, 'Record', record_of(type_))}({', '.join(parts)})"
        case SequenceType(element):
            token = _constant(scope, "token", token_of(element, "dense" if sequence.dense else ""))
            arrays = "".join(f"arrays[{at + 1 + i}], " for i in range(arity(element)))
            bounds = f"arrays[{at}][index], arrays[{at}][index + 1]"
            scope["make_sequence"] = make_sequence
            return f"make_sequence({token}, ({arrays}), progress_of(sequence), {bounds})"
    raise errors.TypingError(f"a sequence cannot hold {type_} in compiled code")


def _row_text(at: int, dtype: Any, sequence: SequenceValue, scope: dict[str, Any]) -> str:
    """Return the expression for a vector of a flat struct."""
    if sequence.arrays[at].dtype == types.uint8 and dtype.kind == "f":
        return f"{_constant(scope, 'widened', widened)}(arrays[{at}][index], {_constant(scope, 'dtype', dtype.type)})"
    return f"arrays[{at}][index]"


def _tensor_text(type_: TensorType, at: int, sequence: SequenceValue, scope: dict[str, Any]) -> str:
    kind = layout(type_)
    data = sequence.arrays[at]
    bounds = ("index", "index + 1") if kind == "fixed" else (f"arrays[{at + 1}][index]", f"arrays[{at + 1}][index + 1]")
    if isinstance(data, types.BaseNamedTuple):
        function = _constant(scope, "rows", dense_rows if sequence.dense else sparse_rows)
        return f"{function}(arrays[{at}], {', '.join(bounds)})"
    if data.dtype == types.uint8 and type_.dtype.kind == "f":
        chunk = f"arrays[{at}][{':'.join(bounds)}]"
        if not sequence.dense and kind == "rows" and len(type_.shape or ()) == 2:
            return f"{_constant(scope, 'pixels', pixels)}({chunk})"
        function, dtype = _constant(scope, "widened", widened), _constant(scope, "dtype", type_.dtype.type)
        wide = f"{function}({chunk}, {dtype})"
        return f"{wide}[0]" if kind == "fixed" else wide
    if kind == "fixed":
        return f"arrays[{at}][index]"
    chunk = f"arrays[{at}][{':'.join(bounds)}]"
    if kind == "rows":
        return chunk
    dimensions = ", ".join(f"arrays[{at + 2}][index, {d}]" for d in range(len(type_.shape or ())))
    return f"{chunk}.reshape(({dimensions},))"


def _constant(scope: dict[str, Any], prefix: str, value: Any) -> str:
    name = f"{prefix}{len(scope)}"
    scope[name] = value
    return name


@jit
def put(out: Any, index: Any, value: Any) -> None:
    """Write an array into row ``index`` of a larger one."""
    row, flat = out[index].reshape(-1), value.reshape(-1)
    for i in range(flat.size):  # assigning a slice would compile, and format, an error of unequal shapes: seconds
        row[i] = flat[i]


@jit
def widened(data: Any, dtype: Any) -> Any:
    """Return pixels as numbers (see `widen`)."""
    out = np.empty(data.shape, dtype)
    widen(data.reshape(-1), out.reshape(-1))
    return out


@jit
def sparse_rows(rows: Any, start: Any, stop: Any) -> Any:
    """Return the sparse rows ``start`` to ``stop`` for kernels, without a copy."""
    return stored(Csr(rows.values, rows.columns, rows.offsets[start : stop + 1], rows.width))


@jit
def pixels(data: Any) -> Any:
    """Return rows of pixels for kernels, without a copy."""
    return stored(Pixels(data))


@jit
def dense_rows(rows: Any, start: Any, stop: Any) -> Any:
    """Return the sparse rows ``start`` to ``stop`` as an array."""
    out = np.zeros((stop - start, rows.width), rows.values.dtype)
    for i in range(start, stop):
        for k in range(rows.offsets[i], rows.offsets[i + 1]):
            out[i - start, rows.columns[k]] = rows.values[k]
    return out


@overload(len, jit_options=OPTIONS)
def _sequence_len(sequence: Any) -> Any:
    if isinstance(sequence, SequenceValue):

        def implementation(sequence: Any) -> Any:
            start, stop = _bounds_of(sequence)
            return stop - start

        return implementation
    return None


@overload(operator.getitem, strict=False, jit_options=OPTIONS)
def _sequence_getitem(sequence: Any, index: Any) -> Any:
    if isinstance(sequence, SequenceValue) and isinstance(index, types.Integer):

        def implementation(sequence: Any, index: Any) -> Any:
            start, stop = _bounds_of(sequence)
            if index < 0:
                index += stop - start
            if index < 0 or index >= stop - start:
                raise IndexError("index outside the sequence")
            return element_at(sequence, start + index)

        return implementation
    return None


@lower_builtin("getiter", SequenceValue)
def _getiter(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    iterator = _proxy(context, builder, sig.return_type)
    sequence = _proxy(context, builder, sig.args[0], args[0])
    iterator.sequence = args[0]
    iterator.index = cgutils.alloca_once_value(builder, sequence.start)
    # What a loop around this one has noted, or -1: noted again when this one is through.
    iterator.around = builder.load(_proxy(context, builder, _PROGRESS, sequence.progress).data)
    context.nrt.incref(builder, sig.args[0], args[0])
    return impl_ret_new_ref(context, builder, sig.return_type, iterator._getvalue())


@lower_builtin("iternext", SequenceIterator)
@iternext_impl(RefType.NEW)
def _iternext(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    iterator = _proxy(context, builder, sig.args[0], args[0])
    sequence_type = sig.args[0].sequence
    index = builder.load(iterator.index)
    sequence = _proxy(context, builder, sequence_type, iterator.sequence)
    valid = builder.icmp_signed("<", index, sequence.stop)
    result.set_valid(valid)
    progress = _proxy(context, builder, _PROGRESS, sequence.progress).data
    with builder.if_else(valid) as (then, otherwise):
        with then:
            builder.store(builder.sub(index, sequence.start), progress)
            function, element_signature = _element_signature(sequence_type)
            result.yield_(context.get_function(function, element_signature)(builder, [iterator.sequence, index]))
            builder.store(builder.add(index, cgutils.intp_t(1)), iterator.index)
        with otherwise:
            builder.store(iterator.around, progress)


@intrinsic
def length_of_iterator(typing: Any, iterator: Any) -> Any:
    """Return how many values an iterator gives: what Numba asks for ``np.array([… for batch in batches])``."""
    if not isinstance(iterator, SequenceIterator):
        return length_of_numba._defn(typing, iterator)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        sequence = _proxy(context, builder, iterator.sequence, _proxy(context, builder, iterator, args[0]).sequence)
        return builder.sub(sequence.stop, sequence.start)

    return types.intp(iterator), generate
