"""Rows of the table of operators: what is done with a model as a whole, a tensor or a struct of tensors.

Users call them `fm.model.dot` and so on; in the table, and in a program's text, they are ``model_dot``.
"""

import math

import numpy as np

from fedmpi.language.errors import TypingError
from fedmpi.language.operators.arithmetic import check_leaves, one_dtype
from fedmpi.language.operators.hints import contrast
from fedmpi.language.operators.table import Function, Lowering, Plain, operator
from fedmpi.language.types import FunctionType, StructType, TensorType, Type
from fedmpi.language.types.dtypes import kind
from fedmpi.language.types.walking import leaves_of, transform_type_postorder

_NUMBERS = ("int", "float", "complex")
_RUNS = "compiled with the code around it"


def with_dtype(model: Type, dtype: np.dtype[np.generic]) -> Type:
    """Return the type of the same model whose leaves have another dtype."""

    def cast(part: Type) -> tuple[Type, bool]:
        return (TensorType(dtype, part.shape), True) if isinstance(part, TensorType) else (part, False)

    return transform_type_postorder(model, cast)[0]


def numbers_of(model: Type, name: str) -> int:
    """Return how many numbers a model has, all of whose shapes must be known."""
    count = 0
    for leaf in leaves_of(model):
        if not isinstance(leaf, TensorType) or leaf.shape is None or None in leaf.shape:
            raise TypingError(f"{name} must be tensors of known shapes, found {leaf} in {model}")
        count += math.prod(d or 0 for d in leaf.shape)
    return count


@operator("T -> T", Lowering.INSIDE, runs=_RUNS)
def negative(arg: Plain) -> Type:
    """``-arg``, elementwise, leaf by leaf of a struct.  An integer whose negative does not fit is an error."""
    check_leaves(arg, "arg", _NUMBERS)
    return arg


@operator("<T,T> -> float", Lowering.INSIDE, runs=_RUNS)
def model_dot(left: Plain, right: Plain) -> Type:
    """The sum of the products of the numbers of two models, in the dtype of their leaves (float32 or float64).

    Products are float64, and so are their sums, in one order: number k of the leaves, one leaf after the other, each in
    C order, goes to running sum k mod 16; the 16 sums are then added pairwise, sum j and sum j + 8, then 4, 2 and 1
    apart.  The result is rounded once.
    """
    _check_floats(left, "left")
    if not left.is_equivalent_to(right):
        one, two = contrast(left, right)
        raise TypingError(f"both sides must be models of one type, found {one} and {two}")
    return TensorType(one_dtype(left, "left"))


@operator("T -> float", Lowering.INSIDE, runs=_RUNS)
def model_norm(arg: Plain) -> Type:
    """The Euclidean norm of all numbers of a model: the root of its dot product with itself, rounded once."""
    _check_floats(arg, "arg")
    return TensorType(one_dtype(arg, "arg"))


def _check_floats(model: Type, name: str) -> None:
    check_leaves(model, name, ("float",))
    if one_dtype(model, name).itemsize not in (4, 8):
        raise TypingError(f"{name} must be float32 or float64, found {model}", "fm.model.cast(model, np.float32)")
    numbers_of(model, name)


@operator("T -> T", Lowering.INSIDE, runs=_RUNS)
def model_zeros_like(arg: Plain) -> Type:
    """A model of zeros of the type of ``arg``, whose shapes must be known."""
    check_leaves(arg, "arg", ("bool", *_NUMBERS))
    numbers_of(arg, "arg")
    return arg


@operator(
    "<(<A,…> -> R),<A-model,…>> -> R-model",
    Lowering.INSIDE,
    runs=_RUNS,
    hints={"fn": lambda types: _numbers_taken(types.get("models"))},
)
def model_map(fn: Function, models: Plain) -> Type:
    """Apply a function of scalars to each number of a model, or of several models of the same shapes.

    ``fn`` takes a scalar of each model and returns a scalar, whose dtype all leaves of the result have.
    """
    if not isinstance(models, StructType) or not len(models):
        raise TypingError(f"models must be one model or several, found {models}")
    for i, model in enumerate(models):
        check_leaves(model, f"model {i}", ("bool", *_NUMBERS))
        numbers_of(model, f"model {i}")
    wanted, first = scalars(list(models)), models[0]
    for model in models:
        one, other = (with_dtype(each, np.dtype(np.float32)) for each in (first, model))
        if not one.is_equivalent_to(other):
            found = " and ".join(contrast(first, model))
            raise TypingError(f"models must have the same elements of the same shapes, found {found}")
    if not isinstance(fn, FunctionType) or fn.parameter is None or not fn.parameter.is_assignable_from(wanted):
        raise TypingError(f"fn must take {wanted}, a number of each model, found {fn}")
    result = fn.result
    if not isinstance(result, TensorType) or result.shape != () or kind(result.dtype) not in ("bool", *_NUMBERS):
        raise TypingError(f"fn must return one number, found {fn}")
    return with_dtype(first, result.dtype)


def _numbers_taken(models: Type | None) -> Type | None:
    return scalars(list(models)) if isinstance(models, StructType) and len(models) else None


def scalars(models: list[Type]) -> Type:
    """Return what a function that is mapped over models takes: a scalar, or a struct of one of each model."""
    types = [TensorType(one_dtype(model, f"model {i}")) for i, model in enumerate(models)]
    return types[0] if len(types) == 1 else StructType(list(types))


@operator("<T,dtype> -> T", Lowering.INSIDE, runs=_RUNS)
def model_cast(arg: Plain, like: Plain) -> Type:
    """The same model with leaves of another dtype, that of the scalar ``like``, as NumPy casts them.

    Numbers become those of a dtype of their kind or of a richer one: integers floats, floats complex numbers.  An
    integer that does not fit is an error; a float that is too large is infinite.
    """
    order = ("bool", *_NUMBERS)
    check_leaves(arg, "arg", order)
    if not isinstance(like, TensorType) or like.shape != () or kind(like.dtype) not in order:
        raise TypingError(f"dtype must be one of numbers, found {like}")
    for leaf in leaves_of(arg):
        if isinstance(leaf, TensorType) and order.index(kind(leaf.dtype)) > order.index(kind(like.dtype)):
            hint = "round and check in a numba_computation what is to lose its kind"
            raise TypingError(f"a cast must lose no kind of number, found {leaf} to {like.dtype.name}", hint)
    return with_dtype(arg, like.dtype)


@operator("T -> dtype[N]", Lowering.INSIDE, runs=_RUNS)
def model_flatten(arg: Plain) -> Type:
    """All numbers of a model, whose leaves have one dtype, as one vector: leaf after leaf, each in C order."""
    check_leaves(arg, "arg", ("bool", *_NUMBERS))
    return TensorType(one_dtype(arg, "arg"), [numbers_of(arg, "arg")])


@operator("<dtype[N],T> -> T", Lowering.INSIDE, runs=_RUNS)
def model_unflatten(vector: Plain, like: Plain) -> Type:
    """The model of the type of ``like`` whose numbers a vector holds: what `model_flatten` makes one of."""
    flat = model_flatten(like)
    if not flat.is_assignable_from(vector):
        raise TypingError(f"vector must be {flat}, the numbers of {like}, found {vector}")
    return like
