"""`fm.explain`: programs as trees with types, and their plans."""

from __future__ import annotations

import collections
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi import tutorial
from fedmpi.language.tree.expressions import Apply, Local, walk
from tests.programs import AT_CLIENTS, AT_SERVER, CASES, F32, half, plus


def explained(computation, **options):
    """Return the lines of an explanation, without the numbers of lines in source files."""
    return [re.sub(r"\.py:\d+", ".py", line) for line in str(fm.explain(computation, **options)).splitlines()]


def program(computation, **options):
    lines = explained(computation, **options)
    return [line[2:] for line in lines[lines.index("program") + 1 : lines.index("plan")]]


TRAIN = """\
federated_train, at tutorial.py
  takes federated_train_arg of
    model : <weights=float32[784,10],bias=float32[10]>@SERVER
    learning_rate : float32@SERVER
    data : {<x=float32[?,784],y=int32[?]>*}@CLIENTS
  gives <weights=float32[784,10],bias=float32[10]>@SERVER
program
  federated_mean : <weights=float32[784,10],bias=float32[10]>@SERVER   tutorial.py
  └─ federated_map : {<weights=float32[784,10],bias=float32[10]>}@CLIENTS   tutorial.py
     ├─ fn = function of local_train_arg : (<…> -> <…>)
     │  └─ sequence_reduce : <weights=float32[784,10],bias=float32[10]>   tutorial.py
     │     ├─ value = local_train_arg.all_batches : <x=float32[?,784],y=int32[?]>*
     │     ├─ zero = local_train_arg.initial_model : <weights=float32[784,10],bias=float32[10]>
     │     └─ op = function of batch_fn_arg : (<…> -> <…>)
     │        └─ batch_train(batch_fn_arg.model, batch_fn_arg.batch, local_train_arg.learning_rate) : \
<weights=float32[784,10],bias=float32[10]>   tutorial.py
     └─ arg = federated_zip : {<<…>,float32,<…>*>}@CLIENTS   tutorial.py
        ├─ federated_broadcast(federated_train_arg.model) : <weights=float32[784,10],bias=float32[10]>@CLIENTS   \
tutorial.py
        ├─ federated_broadcast(federated_train_arg.learning_rate) : float32@CLIENTS   tutorial.py
        └─ federated_train_arg.data : {<x=float32[?,784],y=int32[?]>*}@CLIENTS
plan
"""


def test_the_tutorial():
    lines = explained(tutorial.federated_train)
    assert "\n".join(lines).startswith(TRAIN)
    assert lines[TRAIN.count("\n") :] == [
        re.sub(r"\.py:\d+", ".py", line) for line in str(fm.plan(tutorial.federated_train)).splitlines()[1:]
    ]
    made = fm.explain(tutorial.federated_train)
    assert repr(made) == str(made) == made.text
    assert made.computation is tutorial.federated_train


def test_types_in_full():
    text = str(fm.explain(tutorial.federated_train, full=True))
    model, batch = tutorial.MODEL_TYPE, tutorial.BATCH_TYPE
    assert "…" not in text
    assert f"op = function of batch_fn_arg : (<model={model},batch={batch}> -> {model})" in text


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ([(f"n{i}", F32) for i in range(20)], "<n0=float32,n1=float32,n2=float32,n3=float32,n4=float32,n5=…"),
        (fm.type_at_clients(20 * [F32]), "{<…>}@CLIENTS"),
        ([20 * [F32], {"a": F32}], "<<…>,<…>>"),
        ([("a" * 99, F32)], f"<{'a' * 58}…"),
    ],
)
def test_long_types(type_, text):
    made = fm.federated_computation(lambda x: x, type_)
    assert program(made) == [f"lambda_arg : {text}"]
    assert program(made, full=True) == [f"lambda_arg : {fm.to_type(type_)}"]


def test_a_value_used_several_times_is_shown_once():
    @fm.federated_computation(AT_SERVER(F32), AT_CLIENTS(F32))
    def twice(x, values):
        down = fm.federated_broadcast(x)
        return fm.federated_zip((down, values, down))

    assert program(twice) == [
        "%1 = federated_broadcast(twice_arg.x) : float32@CLIENTS   test_explain.py",
        "result = federated_zip(%1, twice_arg.values, %1) : {<float32,float32,float32>}@CLIENTS   test_explain.py",
    ]


def test_a_captured_value_stands_outside_of_the_function():
    """It is computed once, and not for each client."""

    @fm.federated_computation(F32, AT_CLIENTS(F32))
    def shifted(by, values):
        twice = half(by)
        return fm.federated_map(fm.federated_computation(lambda x: plus(x, twice), F32), values)

    assert program(shifted) == [
        "%1 = half(shifted_arg.by) : float32   test_explain.py",
        "result = federated_map : {float32}@CLIENTS   test_explain.py",
        "├─ fn = function of lambda_arg : (float32 -> float32)",
        "│  └─ plus(lambda_arg, %1) : float32   test_explain.py",
        "└─ arg = shifted_arg.values : {float32}@CLIENTS",
    ]


def test_without_placements():
    @fm.federated_computation(F32, (F32, [2]))
    def local(x, y):
        return collections.OrderedDict(double=x + x, parts=(y, 2.5), half=half(x))

    lines = explained(local)
    assert lines == [
        "local, at test_explain.py",
        "  takes local_arg of",
        "    x : float32",
        "    y : float32[2]",
        "  gives <double=float32,parts=<float32[2],float32>,half=float32>",
        "program",
        "  struct : <double=float32,parts=<float32[2],float32>,half=float32>",
        "  ├─ double = add(local_arg.x, local_arg.x) : float32   test_explain.py",
        "  ├─ parts = struct : <float32[2],float32>",
        "  │  ├─ local_arg.y : float32[2]",
        "  │  └─ 2.5 : float32",
        "  └─ half = half(local_arg.x) : float32   test_explain.py",
        "plan",
        "  nothing is sent: it runs where it is called, on every rank that calls it",
    ]


@pytest.mark.parametrize(
    ("computation", "kind"),
    [
        (half, "half, numba_computation"),
        (fm.python_computation(lambda x: x, F32, result=F32), "<lambda>, python_computation"),
    ],
)
def test_a_local_computation(computation, kind):
    lines = explained(computation)
    assert lines[1:3] == ["  takes argument : float32", "  gives float32"]
    assert re.sub("[a-z_]+.py", "x.py", program(computation)[0]) == f"{kind} : (float32 -> float32)   x.py"


def test_a_constant_is_shortened():
    array = np.arange(1000, dtype=np.float32)
    made = fm.federated_computation(lambda: array)
    (line,) = program(made)
    assert line.endswith("… : float32[1000]")
    assert len(line) < 70
    assert explained(made)[1] == "  gives float32[1000]"


def test_functions_as_arguments():
    lines = explained(CASES["function argument"].computation)
    assert "    function : (float32 -> float32)" in lines
    assert lines[-1] == "  made at each call, for the functions that it is given"
    with pytest.raises(TypeError) as caught:
        fm.plan(CASES["function argument"].computation)
    assert str(caught.value).startswith(
        "plan: computation must take no functions: its plan depends on them, found (<function=(float32 -> float32),"
    )
    assert "hint: give a computation that calls it with the functions that you mean" in str(caught.value)


def test_a_computation_inside_of_another():
    seen = []

    @fm.federated_computation(F32)
    def outer(by):
        inner = fm.federated_computation(lambda x: plus(x, by), F32)
        seen.append(explained(inner))
        with pytest.raises(TypeError, match="plan: computation must use no values of a computation around"):
            fm.plan(inner)
        return inner(by)

    assert outer(2.0) == 4.0
    ((*_, tree, _, last),) = seen
    assert tree == "  plus(lambda_arg, outer_arg) : float32   test_explain.py"
    assert last == "  that of the computation around it, whose values it uses"


def test_what_no_container_is_like_has_no_plan():
    mixed = fm.federated_computation(lambda x: x, fm.StructType([("a", np.int32), np.int32]))
    assert explained(mixed)[-1].startswith("  none: <a=int32,int32> has elements with and without names")


def test_what_has_no_type():
    polymorphic = fm.federated_computation(lambda x: x)
    with pytest.raises(TypeError) as caught:
        fm.explain(polymorphic)
    first, where, hint = str(caught.value).splitlines()
    assert first == "explain: computation must be a computation, found a PolymorphicComputation"
    assert where.startswith("  at test_explain.py:")
    assert hint == "  hint: give the one for a type: explain(<lambda>.fn_for_argument_type(T))"
    assert program(polymorphic.fn_for_argument_type(F32)) == ["lambda_arg : float32"]
    with pytest.raises(TypeError, match="explain: computation must be a computation, found a function"):
        fm.explain(lambda x: x)


@pytest.mark.parametrize("name", CASES)
def test_every_operator_and_computation_is_named(name):
    computation = CASES[name].computation
    text = "\n".join(program(computation))
    for node in walk(computation.expression):
        match node:
            case Apply(op):
                assert op in text
                assert node.where.partition(":")[0] in text
            case Local(impl):
                assert impl.name in text


@given(st.binary(min_size=150, max_size=700))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_programs(data):
    """Nothing is left out and nothing shown twice: each operator stands in as many lines as the tree has of it."""
    from tests.random_programs import program_of

    computation, _, _ = program_of(data)
    lines = program(computation, full=True)
    for op in ("federated_map", "federated_zip", "federated_mean", "federated_sum", "sequence_reduce"):
        nodes = [node for node in walk(computation.expression) if isinstance(node, Apply) and node.op == op]
        shown = [line for line in lines if re.search(rf"(^|[─=] ){op}(\(| :)", line)]
        assert len(shown) == len(nodes), op
