"""Flat structs in compiled code: a few vectors, of which elements are views (see `fedmpi.local.columns.flat`).

To a body a `FlatStruct` is the record that every struct is: ``model.weights``, ``model["weights"]``, ``model[0]``,
``weights, bias = model``, and where all its elements are of one kind of array ``for leaf in model``.  To the compiler
it is as many arrays as there are dtypes, however many leaves the type has: what is passed on, kept or copied as a whole
costs the same time to compile for two leaves and for five hundred.  A view is made where an element is read.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, lower_builtin, models, overload, register_model

from fedmpi.language.types import StructType, TensorType, Type
from fedmpi.local.columns.flat import FlatLayout, Inner, Place, flat_layout
from fedmpi.local.jit.array_kinds import LentArray
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import code_of
from fedmpi.local.numba_parts.lowering import (
    RefType,
    cgutils,
    from_dtype,
    impl_ret_borrowed,
    impl_ret_new_ref,
    iternext_impl,
    lower_cast,
    lower_getattr_generic,
)
from fedmpi.local.records import element_names, record_of


class FlatStruct(types.NamedTuple):
    """The value of a flat struct; ``vectors`` are the types of its arrays."""

    def __init__(self, struct: StructType, vectors: tuple[Any, ...]) -> None:
        self.struct, self.vectors = struct, vectors
        self.instance_class = record_of(struct)
        self.types = _part_types(struct, vectors)
        self.count = len(self.types)
        self.fields = tuple(self.instance_class._fields)  # type: ignore[attr-defined]
        digest = hashlib.sha256(str(struct).encode()).hexdigest()[:16]
        # A short name: Numba compares types by it, and writes it into the names of functions.
        types.Type.__init__(self, f"{type(self).__name__}<{digest}>({', '.join(map(str, vectors))})")

    @property
    def key(self) -> str:
        return self.name  # type: ignore[no-any-return]

    @property
    def layout(self) -> FlatLayout:
        """Where the elements stand."""
        return layout_of(self.struct)

    @property
    def mutable(self) -> bool:
        """Whether all of it can be written to."""
        return all(vector.mutable for vector in self.vectors)


class UniformStruct(FlatStruct, types.IterableType):
    """A flat struct whose elements are all of one type, so that a loop can go over them."""

    @property
    def iterator_type(self) -> Any:
        return UniformIterator(self)


class UniformIterator(types.SimpleIteratorType):
    """An iterator over the elements of a flat struct."""

    def __init__(self, struct: UniformStruct) -> None:
        self.struct = struct
        super().__init__(f"iterator({struct.name})", struct.types[0])


def layout_of(struct: Type) -> FlatLayout:
    """Return the layout of a type that is flat."""
    layout = flat_layout(struct)
    assert layout is not None
    return layout


def same_places(one: FlatStruct, other: FlatStruct) -> bool:
    """Tell whether elements of the same names, with those within, stand in the same places of two structs' vectors."""
    if one.struct is other.struct:
        return True
    return one.layout.leaves == other.layout.leaves and names_within(one.struct) == names_within(other.struct)


def names_within(type_: Type) -> Any:
    """Return the names of a struct's elements, with those of theirs; None for what is no struct."""
    return [(name, names_within(part)) for name, part in type_.items()] if isinstance(type_, StructType) else None


def flat_type(struct: StructType, vectors: Any) -> FlatStruct:
    """Return the type of a flat struct whose vectors have these types."""
    vectors = tuple(vectors)
    uniform = len(set(_part_types(struct, vectors))) == 1
    return (UniformStruct if uniform else FlatStruct)(struct, vectors)


@functools.lru_cache(maxsize=1024)
def _part_types(struct: StructType, vectors: tuple[Any, ...]) -> tuple[Any, ...]:
    by_dtype = {vector.dtype: vector for vector in vectors}
    return tuple(_part_type(part, by_dtype) for part in struct)


def _part_type(part: Type, by_dtype: dict[Any, Any]) -> Any:
    if isinstance(part, TensorType):
        scalar = from_dtype(part.dtype)
        if not part.shape:
            return scalar
        if isinstance(by_dtype[scalar], LentArray):
            return LentArray(scalar, len(part.shape), "C")
        return types.Array(scalar, len(part.shape), "C", readonly=not by_dtype[scalar].mutable)
    assert isinstance(part, StructType)
    inner = flat_layout(part)
    if inner is not None:
        return flat_type(part, [by_dtype[from_dtype(dtype)] for dtype, _ in inner.formats])
    return types.BaseTuple.from_types([_part_type(each, by_dtype) for each in part], pyclass=record_of(part))


class _FlatModel(models.StructModel):
    def __init__(self, manager: Any, value: FlatStruct) -> None:
        super().__init__(manager, value, [(f"vector{i}", vector) for i, vector in enumerate(value.vectors)])


register_model(FlatStruct)(_FlatModel)
register_model(UniformStruct)(_FlatModel)


@register_model(UniformIterator)
class _UniformIteratorModel(models.StructModel):
    def __init__(self, manager: Any, value: UniformIterator) -> None:
        super().__init__(manager, value, [("struct", value.struct), ("index", types.EphemeralPointer(types.int64))])


def _vectors(context: Any, builder: Any, type_: FlatStruct, value: Any) -> list[Any]:
    proxy = cgutils.create_struct_proxy(type_)(context, builder, value=value)
    return [getattr(proxy, f"vector{i}") for i in range(len(type_.vectors))]


def _made(context: Any, builder: Any, type_: FlatStruct, vectors: Any) -> Any:
    proxy = cgutils.create_struct_proxy(type_)(context, builder)
    for i, vector in enumerate(vectors):
        setattr(proxy, f"vector{i}", vector)
    return proxy._getvalue()


# --- elements --------------------------------------------------------------------------------------------------------


def _view(
    context: Any, builder: Any, vector: Any, start: int, shape: tuple[int, ...], vector_type: Any, type_: Any
) -> Any:
    """Return a part of a vector as an array: a reference to its memory that is borrowed."""
    source = context.make_array(vector_type)(context, builder, vector)
    made = context.make_array(type_)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(type_.dtype))
    strides = [size * int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]

    def word(value: int) -> Any:
        return context.get_constant(types.intp, value)

    made.meminfo, made.parent = source.meminfo, source.parent
    made.nitems, made.itemsize = word(int(np.prod(shape, dtype=np.int64))), word(size)
    made.data = builder.gep(source.data, [word(start)])
    made.shape = cgutils.pack_array(builder, [word(n) for n in shape])
    made.strides = cgutils.pack_array(builder, [word(n) for n in strides])
    return made._getvalue()


def _element(context: Any, builder: Any, type_: FlatStruct, vectors: list[Any], index: int) -> Any:
    """Return an element of a flat struct; references to memory are borrowed."""
    part_type = type_.types[index]
    return _part(context, builder, type_.layout.parts[index], part_type, vectors, type_.vectors)


def _elements(context: Any, builder: Any, type_: FlatStruct, value: Any) -> list[Any]:
    vectors = _vectors(context, builder, type_, value)
    return [_element(context, builder, type_, vectors, index) for index in range(len(type_))]


def _part(context: Any, builder: Any, part: Place | Inner, type_: Any, vectors: Any, vector_types: Any) -> Any:
    if isinstance(part, Place):
        vector, vector_type = vectors[part.group], vector_types[part.group]
        if part.shape:
            return _view(context, builder, vector, part.start, part.shape, vector_type, type_)
        source = context.make_array(vector_type)(context, builder, vector)
        where = builder.gep(source.data, [context.get_constant(types.intp, part.start)])
        return context.unpack_value(builder, type_, where)
    inner = [
        _view(context, builder, vectors[group], start, (stop - start,), vector_types[group], vector_types[group])
        for group, start, stop in part.ranges
    ]
    inner_types = [vector_types[group] for group, _, _ in part.ranges]
    if isinstance(type_, FlatStruct):
        return _made(context, builder, type_, inner)
    parts = zip(part.layout.parts, type_, strict=True)
    return context.make_tuple(
        builder, type_, [_part(context, builder, each, t, inner, inner_types) for each, t in parts]
    )


@lower_builtin("static_getitem", FlatStruct, types.IntegerLiteral)
@lower_builtin("static_getitem", FlatStruct, types.StringLiteral)
def _static_getitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    struct, key = sig.args
    key = getattr(key, "literal_value", getattr(key, "value", key))
    if isinstance(key, str):
        key = (element_names(struct.instance_class) or ()).index(key)
    item = _element(context, builder, struct, _vectors(context, builder, struct, args[0]), key % len(struct))
    return impl_ret_borrowed(context, builder, sig.return_type, item)


@lower_builtin("static_getitem", FlatStruct, types.SliceLiteral)
def _static_slice(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    parts = _elements(context, builder, sig.args[0], args[0])[args[1]]
    return impl_ret_borrowed(context, builder, sig.return_type, context.make_tuple(builder, sig.return_type, parts))


@lower_builtin("typed_getitem", FlatStruct, types.Any)
def _typed_getitem(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Return an element in a loop that `numba.literal_unroll` writes out."""
    struct, index = sig.args
    record = types.BaseTuple.from_types(struct.types, pyclass=struct.instance_class)
    value = context.cast(builder, args[0], struct, record)
    return context.get_function("typed_getitem", sig.return_type(record, index))(builder, [value, args[1]])


@lower_getattr_generic(FlatStruct)
def _getattr(context: Any, builder: Any, type_: Any, value: Any, name: str) -> Any:
    index = type_.fields.index(name)
    item = _element(context, builder, type_, _vectors(context, builder, type_, value), index)
    return impl_ret_borrowed(context, builder, type_.types[index], item)


@lower_cast(FlatStruct, types.BaseNamedTuple)
def _cast_struct(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    if isinstance(target, FlatStruct):  # a read-only one
        return _made(context, builder, target, _vectors(context, builder, source, value))
    parts = zip(_elements(context, builder, source, value), source, target, strict=True)
    return context.make_tuple(builder, target, [context.cast(builder, *part) for part in parts])


# --- one element after the other, where all are of one type ----------------------------------------------------------


@overload(operator.getitem, strict=False, jit_options=OPTIONS)
def _getitem(struct: Any, index: Any) -> Any:
    if not isinstance(struct, UniformStruct) or not isinstance(index, types.Integer):
        return None
    scope: dict[str, Any] = {"vectors_of": vectors_of, "element": _uniform_element(struct), "__name__": __name__}
    text = (
        "def implementation(struct, index):\n"
        f"    at = index + {len(struct)} if index < 0 else index\n"
        f"    if at < 0 or at >= {len(struct)}:\n"
        f"        raise IndexError('index outside of the {len(struct)} elements of a struct')\n"
        "    return element(struct, at)\n"
    )
    exec(code_of(text, "an element of a struct"), scope)
    return scope["implementation"]


@functools.cache
def _uniform_element(struct: UniformStruct) -> Any:
    """Return a compiled function that gives the element at an index that is in range."""

    @intrinsic
    def element(typing: Any, value: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return impl_ret_borrowed(context, builder, sig.return_type, _at(context, builder, struct, *args))

        return struct.types[0](struct, types.int64), generate

    return element


def _at(context: Any, builder: Any, struct: UniformStruct, value: Any, index: Any) -> Any:
    """Return the element at an index that is known when the code runs; references to memory are borrowed."""
    vectors = _vectors(context, builder, struct, value)
    type_ = struct.types[0]
    here, after = builder.block, builder.append_basic_block("element.end")
    found = []
    switch = builder.switch(index, after)
    for number in range(len(struct)):
        block = builder.append_basic_block(f"element.{number}")
        switch.add_case(context.get_constant(types.int64, number), block)
        with builder.goto_block(block):
            found.append((_element(context, builder, struct, vectors, number), builder.block))
            builder.branch(after)
    builder.position_at_end(after)
    result = builder.phi(context.get_value_type(type_))
    for item, block in found:
        result.add_incoming(item, block)
    result.add_incoming(cgutils.get_null_value(result.type), here)
    return result


@lower_builtin("getiter", UniformStruct)
def _getiter(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    iterator = cgutils.create_struct_proxy(sig.return_type)(context, builder)
    iterator.struct = args[0]
    iterator.index = cgutils.alloca_once_value(builder, context.get_constant(types.int64, 0))
    context.nrt.incref(builder, sig.args[0], args[0])
    return impl_ret_new_ref(context, builder, sig.return_type, iterator._getvalue())


@lower_builtin("iternext", UniformIterator)
@iternext_impl(RefType.BORROWED)
def _iternext(context: Any, builder: Any, sig: Any, args: Any, result: Any) -> None:
    struct = sig.args[0].struct
    iterator = cgutils.create_struct_proxy(sig.args[0])(context, builder, value=args[0])
    index = builder.load(iterator.index)
    valid = builder.icmp_signed("<", index, context.get_constant(types.int64, len(struct)))
    result.set_valid(valid)
    with builder.if_then(valid):
        result.yield_(_at(context, builder, struct, iterator.struct, index))
        builder.store(builder.add(index, context.get_constant(types.int64, 1)), iterator.index)


# --- what generated code says ----------------------------------------------------------------------------------------


@intrinsic
def flat_struct(typing: Any, token: Any, vectors: Any) -> Any:
    """Return the flat struct of the token's type in these vectors, a tuple of arrays."""
    made = flat_type(token.type, list(vectors))

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = cgutils.unpack_tuple(builder, args[1], len(made.vectors))
        return impl_ret_borrowed(context, builder, sig.return_type, _made(context, builder, made, parts))

    return made(token, vectors), generate


@intrinsic
def vectors_of(typing: Any, struct: Any) -> Any:
    """Return the vectors of a flat struct as a tuple of arrays."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        made = context.make_tuple(builder, sig.return_type, _vectors(context, builder, struct, args[0]))
        return impl_ret_borrowed(context, builder, sig.return_type, made)

    return types.Tuple(struct.vectors)(struct), generate


@intrinsic
def whole_of(typing: Any, array: Any, size: Any) -> Any:
    """Return the vector of ``size`` numbers that begins where an array does (see `follows_at`)."""
    vector = types.Array(array.dtype, 1, "C", readonly=not array.mutable)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, made = (
            context.make_array(array)(context, builder, args[0]),
            context.make_array(vector)(context, builder),
        )
        made.meminfo, made.parent, made.data, made.itemsize = (
            source.meminfo,
            source.parent,
            source.data,
            source.itemsize,
        )
        made.nitems = args[1]
        made.shape, made.strides = (
            cgutils.pack_array(builder, [args[1]]),
            cgutils.pack_array(builder, [source.itemsize]),
        )
        return impl_ret_borrowed(context, builder, sig.return_type, made._getvalue())

    return vector(array, types.int64), generate


@intrinsic
def follows_at(typing: Any, first: Any, other: Any, start: Any) -> Any:
    """Tell whether an array stands ``start`` numbers after the beginning of another, in the same piece of memory."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one, two = (context.make_array(t)(context, builder, a) for t, a in zip(sig.args, args[:2], strict=False))
        word = cgutils.intp_t
        distance = builder.sub(builder.ptrtoint(two.data, word), builder.ptrtoint(one.data, word))
        here = builder.icmp_signed("==", distance, builder.mul(args[2], one.itemsize))
        owners = [builder.ptrtoint(array.meminfo, word) for array in (one, two)]
        owned = builder.icmp_signed("!=", owners[0], context.get_constant(types.intp, 0))
        return builder.and_(here, builder.and_(owned, builder.icmp_signed("==", *owners)))

    return types.boolean(first, other, types.int64), generate
