"""The commonest slips: each function makes one, and its docstring is the whole text that its user gets."""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm

fc, C, S = fm.federated_computation, fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
CLIENTS, SERVER = fm.type_at_clients(f32), fm.type_at_server(f32)
MODEL = OrderedDict(weights=(f32, [784, 10]), bias=(f32, [10]))
DEEP = fm.to_type({f"layer{i}": OrderedDict(w=(f32, [128, 128]), b=(f32, [128])) for i in range(9)})
WRONG = fm.to_type(
    {f"layer{i}": OrderedDict(w=(f32, [128, 128]), b=(np.float64 if i == 7 else f32, [128])) for i in range(9)}
)


@fc(f32)
def half(x):
    return x / 2.0


@fc(f32, f32)
def add(x, y):
    return x + y


@fc(CLIENTS)
def mean(readings):
    return fm.federated_mean(readings)


@fc(f32, fm.SequenceType(f32))
def reduced(start, data):
    return fm.sequence_reduce(data, start, add)


deep = fc(lambda model: model, DEEP)


def float64_for_float32():
    """federated_map: fn must take float64, found (float32 -> float32)
    at HERE
    hint: NumPy's numbers are float64 by default: declare np.float32, or convert with np.float32(…) or .astype
    """
    fc(lambda x: fm.federated_map(half, x), fm.type_at_clients(np.float64))


def a_float64_argument():
    """half: parameter x: expected float32, found float64 1.0
    at HERE
    hint: write np.float32(…) where that is meant
    """
    half(np.float64(1))


def float64_deep_in_a_model():
    """federated_map: fn must take <…,layer7=<…,b=float64[128]>,…>, found (<…,layer7=<…,b=float32[128]>,…> -> RESULT)
    at HERE
    hint: layer7.b must be float32[128], found float64[128]; NumPy's numbers are float64 by default: CUT
    """
    fc(lambda x: fm.federated_map(deep, x), fm.type_at_clients(WRONG))


def a_bare_lambda():
    """federated_map: fn must be a computation, found the Python function '<lambda>'
    at HERE
    hint: make it one: fm.federated_computation(function, T), or decorate it with @fm.numba_computation(T)
    """
    fc(lambda x: fm.federated_map(lambda v: v + 1.0, x), CLIENTS)


def a_function_of_placed_values():
    """federated_map: fn must take float32, found ({float32}@CLIENTS -> float32@SERVER)
    at HERE
    hint: fn works at one place: let it take the member, or call it with the placed value yourself
    """
    fc(lambda x: fm.federated_map(mean, x), CLIENTS)


def a_fold_of_placed_values():
    """federated_aggregate: accumulate must take <float32,float32>, found (<s=float32,x={float32}@CLIENTS> -> float32)
    at HERE
    hint: accumulate works at one place: let it take the member, or call it with the placed value yourself
    """
    step = fc(lambda s, x: s, f32, CLIENTS)
    fc(lambda x: fm.federated_aggregate(x, 0.0, step, add, half), CLIENTS)


def a_called_function():
    """federated_map: fn must be a computation, found a value of type float32
    at HERE
    hint: give the function itself, without calling it
    """
    fc(lambda x: fm.federated_map(half(1.0), x), CLIENTS)


def swapped_arguments_of_sequence_map():
    """sequence_map: fn must be a computation, found a value of type float32*
    at HERE
    hint: the order is sequence_map(fn, arg)
    """
    fc(lambda x: fm.sequence_map(x, half), fm.SequenceType(f32))


def swapped_arguments_of_sequence_reduce():
    """sequence_reduce: op must be a computation, found float
    at HERE
    hint: the order is sequence_reduce(value, zero, op)
    """
    fc(lambda x: fm.sequence_reduce(x, add, 0.0), fm.SequenceType(f32))


def zero_before_the_sequence():
    """sequence_reduce: value must be a sequence T*, found float32
    at HERE
    hint: the order is sequence_reduce(value, zero, op)
    """
    fc(lambda x: fm.sequence_reduce(0.0, x, add), fm.SequenceType(f32))


def a_servers_value_beside_the_clients():
    """federated_map: arg must be {T}@CLIENTS or T@SERVER, found <float32@SERVER,{float32}@CLIENTS>
    at HERE
    hint: a server's value stands beside the clients': send it to them with fm.federated_broadcast first
    """
    fc(lambda rate, x: fm.federated_map(add, (rate, x)), SERVER, CLIENTS)


def a_missing_broadcast():
    """mean: the argument must be {float32}@CLIENTS, found float32@SERVER
    at HERE
    hint: send the server's value to the clients with fm.federated_broadcast
    """
    fc(lambda x: mean(x), SERVER)


def an_integer_mean():
    """federated_mean: value must be floats or complex numbers at the clients, found {int32}@CLIENTS
    at HERE
    hint: convert integers first: fm.federated_map of a numba_computation that returns np.float32(x)
    """
    fc(lambda x: fm.federated_mean(x), fm.type_at_clients(i32))


def an_integer_in_a_mean():
    """federated_mean: value must be floats or complex numbers at the clients, found {<loss=float32,n=int32>}@CLIENTS
    at HERE
    hint: n is int32; convert integers first: fm.federated_map of a numba_computation that returns np.float32(x)
    """
    fc(lambda x: fm.federated_mean(x), fm.type_at_clients(OrderedDict(loss=f32, n=i32)))


def a_weight_that_is_not_placed():
    """federated_mean: weight must be {T}@CLIENTS, found float32
    at HERE
    hint: place it with fm.federated_value(weight, fm.CLIENTS)
    """
    fc(lambda x: fm.federated_mean(x, 1.0), CLIENTS)


def a_list_for_a_federated_value():
    """federated_sum: value must be {T}@CLIENTS, found <float32,float32>
    at HERE
    hint: a list in a body is a struct; for one value at each client declare a parameter of type fm.type_at_clients(T)
    """
    fc(lambda: fm.federated_sum([1.0, 2.0]))


def a_number_for_a_list_of_clients():
    """mean: parameter readings: expected a list with one value for each client for {float32}@CLIENTS, found float 1.0
    at HERE
    hint: for one client it is a list of one value; a value at the server has the type fm.type_at_server(T)
    """
    mean(1.0)


def an_array_for_a_list_of_clients():
    """mean: parameter readings: expected a list with one value for each client for {float32}@CLIENTS, found float64[3]
    at HERE
    hint: list(array) has one value for each row
    """
    mean(np.ones(3))


def an_int_for_a_float():
    """add: right side must be float32, found 1
    at HERE
    hint: write 1.0
    """
    fc(lambda x: x + 1, f32)


def an_int_at_a_client():
    """mean: parameter readings, client 1: expected float32, found int 2
    at HERE
    hint: write 2.0
    """
    mean([1.0, 2])


def an_int_for_a_float_zero():
    """sequence_reduce: zero must be float32, found 0
    at HERE
    hint: write 0.0
    """
    fc(lambda x: fm.sequence_reduce(x, 0, add), fm.SequenceType(f32))


def a_captured_servers_value():
    """federated_map: fn must use no placed value from around it, found rate of type float32@SERVER
    at HERE
    hint: make it an argument of the function: give (value, fm.federated_broadcast(rate)) to the operator
    """
    fc(lambda rate, x: fm.federated_map(fc(lambda v: (v, rate), f32), x), SERVER, CLIENTS)


def an_operator_outside():
    """federated_sum can be used only inside a federated computation
    at HERE
    hint: put it into a function decorated with @fm.federated_computation
    """
    fm.federated_sum([1.0, 2.0])


def a_plain_max_key():
    """federated_select: max_key must be int32@SERVER, found int32
    at HERE
    hint: place it with fm.federated_value(max_key, fm.SERVER)
    """
    keys = fm.type_at_clients((i32, [3]))
    fc(lambda k, v: fm.federated_select(k, 10, v, fc(lambda value, key: value)), keys, SERVER)


def a_leaked_value():
    """x belongs to the computation keep (test_slips.py:LINE) and cannot be used outside of it
    at HERE
    hint: return it from keep, or make it a parameter of the computation that uses it
    """
    kept = []

    def keep(x):
        kept.append(x)
        return x

    fc(keep, f32)
    fc(lambda y: (y, kept[0]), f32)


def arithmetic_on_placed_values():
    """add: both sides must be unplaced, found {float32}@CLIENTS and float32
    at HERE
    hint: compute at the places: give the placed value to fm.federated_map as an argument of a function
    """
    fc(lambda x: x + 1.0, CLIENTS)


def numpy_in_a_body():
    """np.exp: there is no such operation on values, found float32
    at HERE
    hint: + - * / and comparisons work on tensors; put anything else into a numba_computation
    """
    fc(lambda x: np.exp(x), f32)


def a_branch():
    """bool: a value of type bool has no truth value while a computation is traced
    at HERE
    hint: `if`, `while`, `and`, `or` and `in` cannot depend on it; put the choice into a numba_computation
    """
    fc(lambda x: x if x > 0.0 else 1.0, f32)


def one_argument_for_two():
    """reduced: the argument must be <start=float32,data=float32*>, found float32*
    at HERE
    hint: one positional argument by itself is the whole struct
    """
    fc(lambda data: reduced(data), fm.SequenceType(f32))


def a_misspelt_element():
    """element: <weights=float32[784,10],bias=float32[10]> has no element named 'wieghts'; it has weights, bias
    at HERE
    """
    fc(lambda model: model.wieghts, MODEL)


def a_python_type():
    """federated_computation: a type must be given, found the class float
    at HERE
    hint: give np.int32, np.float32, …, or a pair of dtype and shape such as (np.float32, [784, 10])
    """
    fc(lambda x: x, float)


def a_zero_of_another_type():
    """sequence_reduce: op must return the state, int32, found float32
    at HERE
    hint: zero has the type of what the function returns
    """
    fc(lambda x: fm.sequence_reduce(x, 0, fc(lambda n, e: e, i32, f32)), fm.SequenceType(f32))


SLIPS = [f for f in list(globals().values()) if inspect.isfunction(f) and f.__module__ == __name__ and f.__doc__]


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.__name__)
def test_the_text_says_what_to_do(slip):
    with pytest.raises((TypeError, RuntimeError)) as caught:
        slip()
    text = str(caught.value)
    (line,) = re.findall(r"^  at test_slips\.py:(\d+)$", text, re.MULTILINE)
    assert line in {str(number) for *_, number in slip.__code__.co_lines()}
    text = text.replace(f"at test_slips.py:{line}", "at HERE")
    text = re.sub(r"test_slips.py:\d+", "test_slips.py:LINE", text)
    text = re.sub(r"-> <layer0=.*>\)", "-> RESULT)", text)
    text = (
        text.replace("declare np.float32, or convert with np.float32(…) or .astype", "CUT")
        if "layer7" in text
        else text
    )
    assert [line.strip() for line in text.splitlines()] == inspect.cleandoc(slip.__doc__).splitlines()
