"""The table of operators: every column of every row, and the typing of each operator."""

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi.language.checking import check
from fedmpi.language.operators import federated as operators
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tree.expressions import Apply, Block, Lambda

fc = fm.federated_computation
C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
Fed, Seq, St = fm.FederatedType, fm.SequenceType, fm.StructType
FC, FS, IC, IS = (Fed(t, p) for t in (f32, i32) for p in (C, S))
FE = Fed(f32, C, True)
MODEL = OrderedDict(weights=(f32, [784, 10]), bias=(f32, [10]))

half = fc(lambda x: x + 0.5, f32)
add = fc(lambda x, y: x + y, f32, f32)
count = fc(lambda n, x: n + 1, i32, f32)


def result(fn, *types):
    made = fc(fn, *types)
    check(made.expression)
    return str(made.type_signature.result)


def test_every_row_has_every_column():
    public = {name for name in dir(operators) if name.startswith(("federated_", "sequence_"))}
    assert public == {name for name in OPERATORS if name.startswith(("federated_", "sequence_"))}
    assert public <= set(dir(fm))
    for name, row in OPERATORS.items():
        assert row.name == name
        assert "->" in row.signature
        assert callable(row.rule)
        assert row.runs
        assert row.doc
    for name in public:
        assert getattr(fm, name).__doc__ == OPERATORS[name].doc


@pytest.mark.parametrize("name", sorted(n for n in OPERATORS if n.startswith(("federated_", "sequence_"))))
def test_operators_work_only_in_bodies(name):
    with pytest.raises(
        fm.ContextError, match=rf"{name} can be used only inside a federated computation\n  at test_oper"
    ):
        getattr(fm, name)()
    assert issubclass(fm.ContextError, RuntimeError)


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (lambda x: fm.federated_broadcast(x), (FS,), "float32@CLIENTS"),
        (lambda x: fm.federated_broadcast(x), (Fed(MODEL, S),), "<weights=float32[784,10],bias=float32[10]>@CLIENTS"),
        (lambda x: fm.federated_broadcast({"a": x, "b": [x]}), (FS,), "<a=float32,b=<float32>>@CLIENTS"),
        (lambda x: fm.federated_map(half, x), (FC,), "{float32}@CLIENTS"),
        (lambda x: fm.federated_map(half, x), (FE,), "{float32}@CLIENTS"),
        (lambda x: fm.federated_map(half, x), (FS,), "float32@SERVER"),
        (lambda x: fm.federated_map(fn=half, arg=x), (FS,), "float32@SERVER"),
        (lambda x: fm.federated_apply(half, x), (FS,), "float32@SERVER"),
        (lambda x, y: fm.federated_map(add, (x, y)), (FC, FE), "{float32}@CLIENTS"),
        (lambda x, y: fm.federated_map(add, [x, y]), (FS, FS), "float32@SERVER"),
        (lambda x: fm.federated_map(fc(lambda p: (p, p)), x), (FC,), "{<float32,float32>}@CLIENTS"),
        (lambda f, x: fm.federated_map(f, x), (fm.FunctionType(f32, i32), FC), "{int32}@CLIENTS"),
        (lambda x, y: fm.federated_zip(OrderedDict(a=x, b=y)), (IC, FC), "{<a=int32,b=float32>}@CLIENTS"),
        (lambda x: fm.federated_zip([x]), (FE,), "{<float32>}@CLIENTS"),
        (lambda x, y: fm.federated_zip({"a": x, "b": (y, [x])}), (IS, FS), "<a=int32,b=<float32,<int32>>>@SERVER"),
        (lambda x: fm.federated_zip(x), ((IC, ("z", FC)),), "{<int32,z=float32>}@CLIENTS"),
        (lambda x: fm.federated_zip([x]), (Fed(i32, S, False),), "{<int32>}@SERVER"),
        (lambda x: fm.federated_sum(x), (IC,), "int32@SERVER"),
        (lambda x: fm.federated_sum(x), (FE,), "float32@SERVER"),
        (lambda x: fm.federated_sum((x, x)), (FC,), "<float32,float32>@SERVER"),
        (lambda x: fm.federated_sum(x), (Fed([], C),), "<>@SERVER"),
        (lambda x: fm.federated_mean(x), (FC,), "float32@SERVER"),
        (lambda x: fm.federated_mean(x), (Fed((f32, [None]), C),), "float32[?]@SERVER"),
        (
            lambda x, w: fm.federated_mean(x, w),
            (Fed(MODEL, C), IC),
            "<weights=float32[784,10],bias=float32[10]>@SERVER",
        ),
        (lambda x, w: fm.federated_mean(x, weight=w), (FC, FE), "float32@SERVER"),
        (lambda x: fm.federated_mean((x, x), None), (FC,), "<float32,float32>@SERVER"),
        (lambda x: fm.federated_mean(x), (Fed(np.complex64, C),), "complex64@SERVER"),
        (lambda: fm.federated_value(10, C), (), "int32@CLIENTS"),
        (lambda x: fm.federated_value([x, 1.0], S), (i32,), "<int32,float32>@SERVER"),
        (lambda x: fm.sequence_map(half, x), (Seq(f32),), "float32*"),
        (lambda x: fm.sequence_map(half, x), (Fed(Seq(f32), C),), "{float32*}@CLIENTS"),
        (lambda x: fm.sequence_map(half, x), (Fed(Seq(f32), C, True),), "{float32*}@CLIENTS"),
        (lambda x: fm.sequence_map(half, x), (Fed(Seq(f32), S),), "float32*@SERVER"),
        (lambda x: fm.sequence_map(fc(lambda e: [e, e]), x), (Seq(f32),), "<float32,float32>*"),
        (lambda x: fm.sequence_reduce(x, 0.0, add), (Seq(f32),), "float32"),
        (lambda x: fm.sequence_reduce(x, 0, count), (Seq(f32),), "int32"),
        (lambda x: fm.sequence_reduce(x, 0.0, fc(lambda a, b: a + b)), (Seq(f32),), "float32"),
        (lambda x, z: fm.sequence_reduce(x, z, add), (Fed(Seq(f32), C), FC), "{float32}@CLIENTS"),
        (lambda x, z: fm.sequence_reduce(x, z, add), (Fed(Seq(f32), S), f32), "float32@SERVER"),
        (lambda x: fm.sequence_reduce(x, 0, count), (Fed(Seq(f32), C),), "{int32}@CLIENTS"),
        (
            lambda x: fm.sequence_reduce(x, (0.0, 1.0), fc(lambda s, e: [s[0] + e, s[1] * e], (f32, f32), f32)),
            (Seq(f32),),
            "<float32,float32>",
        ),
        (lambda x: fm.sequence_sum(x), (Seq((i32, f32)),), "<int32,float32>"),
        (lambda x: fm.sequence_sum(x), (Fed(Seq(f32), C),), "{float32}@CLIENTS"),
        (lambda x: fm.sequence_sum(x), (Fed(Seq(f32), S),), "float32@SERVER"),
    ],
)
def test_types(fn, types, text):
    assert result(fn, *types) == text


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (
            lambda x: fm.federated_broadcast(x),
            (IC,),
            "federated_broadcast: value must be T@SERVER, found {int32}@CLIENTS",
        ),
        (
            lambda x: fm.federated_broadcast(x),
            (i32,),
            "must be T@SERVER, found int32\n.*\n  hint: place it with fm.federated_v",
        ),
        (lambda: fm.federated_broadcast(1), (), "must be T@SERVER, found int32"),
        (lambda x: fm.federated_broadcast(x), (Fed(i32, S, False),), "must be T@SERVER, found {int32}@SERVER"),
        (lambda x, y: fm.federated_broadcast((x, y)), (FS, FC), "found <float32@SERVER,{float32}@CLIENTS>"),
        (
            lambda x: fm.federated_map(lambda q: q, x),
            (FC,),
            "fn must be a computation, found the Python function '<lambda>'",
        ),
        (
            lambda x: fm.federated_map(x, half),
            (FC,),
            "fn must be a computation.*\n.*\n  hint: the order is federated_map.fn, arg.",
        ),
        (lambda x: fm.federated_map(half, x), (f32,), "arg must be {T}@CLIENTS or T@SERVER, found float32\n"),
        (lambda x: fm.federated_map(half, x), (Seq(f32),), "hint: a sequence is mapped by fm.sequence_map"),
        (lambda x: fm.federated_map(half, x), (IC,), r"fn must take int32, found \(float32 -> float32\)"),
        (
            lambda x: fm.federated_map(half, x),
            (Fed(np.float64, C),),
            "fn must take float64.*\n.*\n  hint: NumPy's numbers are",
        ),
        (lambda x: fm.federated_map(half, x), (Fed(f32, S, False),), "arg must be .*, found {float32}@SERVER"),
        (
            lambda x, y: fm.federated_map(add, (x, y)),
            (FC, FS),
            "hint: a server's value stands beside the clients': send it",
        ),
        (lambda x, y: fm.federated_map(add, (x, y)), (FC, f32), "hint: all parts must be placed: .* fm.CLIENTS"),
        (
            lambda x, y: fm.federated_map(fc(lambda p: p, (f32, f32)), {"a": x, "b": y}),
            (FC, FC),
            "fn must take <a=float32,b=",
        ),
        (
            lambda x: fm.federated_map(fc(lambda: 1), x),
            (FC,),
            r"fn must be a function that takes float32, found \( -> int32\)",
        ),
        (lambda x: fm.federated_map(5, x), (FC,), "fn must be a computation, found int"),
        (
            lambda x: fm.federated_map(fc(lambda p: fm.federated_value(p, C), f32), x),
            (FC,),
            "fn must return nothing placed",
        ),
        (
            lambda x: fm.federated_map(fc(lambda p: half, f32), x),
            (FC,),
            "fn must return nothing placed and no function",
        ),
        (lambda x: fm.federated_map(half), (FC,), "missing a required argument: 'arg'\n.*\n  hint: it takes .fn, arg."),
        (
            lambda x: fm.federated_apply(half, x),
            (FC,),
            "federated_apply: arg must be T@SERVER, found {float32}@CLIENTS",
        ),
        (
            lambda x: fm.federated_zip(x),
            (FC,),
            "federated_zip: value must be a struct of placed values, found {float32}@C",
        ),
        (
            lambda x, y: fm.federated_zip((x, y)),
            (FC, FS),
            "value must be a struct of values at one placement, found <{float32}@",
        ),
        (lambda x, y: fm.federated_zip((x, y)), (FC, f32), "value must be a struct of values at one placement"),
        (lambda: fm.federated_zip(()), (), "value must be a struct of values at one placement, found <>"),
        (lambda x: fm.federated_mean(x), (FS,), "federated_mean: value must be {T}@CLIENTS, found float32@SERVER"),
        (
            lambda x: fm.federated_mean(x),
            (IC,),
            "value must be floats .*, found {int32}@CLIENTS\n.*\n  hint: convert integers",
        ),
        (lambda x: fm.federated_mean(x), (Fed(np.str_, C),), "value must be floats or complex numbers"),
        (lambda x: fm.federated_mean(x), (Fed(Seq(f32), C),), "value must be floats or complex numbers"),
        (lambda x, w: fm.federated_mean(x, w), (FC, FS), "weight must be {T}@CLIENTS, found float32@SERVER"),
        (lambda x, w: fm.federated_mean(x, w), (FC, f32), "weight must be {T}@CLIENTS, found float32"),
        (lambda x: fm.federated_mean(x, 1.0), (FC,), "weight must be {T}@CLIENTS, found float32"),
        (lambda x, w: fm.federated_mean(x, w), (FC, Fed(np.bool_, C)), "weight must be a scalar int or float"),
        (lambda x, w: fm.federated_mean(x, w), (FC, Fed((f32, [1]), C)), "weight must be a scalar int or float"),
        (lambda x, w: fm.federated_mean(x, w), (FC, Fed([f32], C)), "weight must be a scalar int or float"),
        (lambda x: fm.federated_value(x, C), (FS,), "value must be unplaced and no function, found float32@SERVER"),
        (lambda x: fm.federated_value([x], C), (FC,), "value must be unplaced and no function"),
        (lambda: fm.federated_value(half, C), (), "value must be unplaced and no function"),
        (lambda: fm.federated_value([half], C), (), "value must contain no function"),
        (lambda: fm.federated_value(1, "clients"), (), "placement must be fm.CLIENTS or fm.SERVER, found 'clients'"),
        (
            lambda x: fm.sequence_map(x, half),
            (Seq(f32),),
            "fn must be a computation.*\n.*\n  hint: the order is sequence_map",
        ),
        (lambda x: fm.sequence_map(half, x), (Seq(i32),), "fn must take int32, found"),
        (lambda x: fm.sequence_map(half, x), (FC,), r"arg must be a sequence T\*, found float32"),
        (lambda: fm.sequence_map(half, [1.0, 2.0]), (), "hint: a Python list or tuple in a body is a struct"),
        (lambda x: fm.sequence_map(lambda e: e, x), (Seq(f32),), "found the Python function"),
        (lambda x: fm.sequence_reduce(x, add, 0.0), (Seq(f32),), "hint: the order is sequence_reduce.value, zero, op."),
        (lambda x: fm.sequence_reduce(x, 0, add), (Seq(f32),), "zero must be float32, found 0\n.*\n  hint: write 0.0"),
        (lambda x, z: fm.sequence_reduce(x, z, add), (Seq(f32), i32), "op must take <int32,float32>, found"),
        (lambda x: fm.sequence_reduce(x, 0.0, half), (Seq(f32),), "op must take <float32,float32>, found"),
        (
            lambda x, z: fm.sequence_reduce(x, z, add),
            (Seq(f32), FC),
            "zero must be unplaced, like value, found {float32}@CL",
        ),
        (lambda x, z: fm.sequence_reduce(x, z, add), (Fed(Seq(f32), C), FS), "value and zero must be at one placement"),
        (
            lambda x, z: fm.sequence_reduce(x, z, fc(lambda s, e: fm.to_value(1.0), f32, f32)) and 1,
            (Seq(f32), (f32, [2])),
            r"op must take <float32\[2\],float32>",
        ),
        (
            lambda x: fm.sequence_reduce(x, 0, fc(lambda s, e: e, i32, f32)),
            (Seq(f32),),
            "op must return the state, int32, found float32",
        ),
    ],
)
def test_refused(fn, types, text):
    with pytest.raises(TypeError, match=text) as caught:
        fc(fn, *types)
    assert isinstance(caught.value, ValueError)
    assert "\n  at test_operator_table.py:" in str(caught.value)


@pytest.mark.parametrize(
    "type_", [np.str_, np.bool_, Seq(f32), (f32, [None]), fm.TensorType(f32, None), [f32, np.bool_]]
)
def test_what_cannot_be_added(type_):
    with pytest.raises(fm.SumIncompatibleError, match="federated_sum: value must "):
        fc(lambda x: fm.federated_sum(x), Fed(type_, C))
    if not isinstance(type_, fm.SequenceType):
        with pytest.raises(fm.SumIncompatibleError, match="sequence_sum: the elements of value must "):
            fc(lambda x: fm.sequence_sum(x), Seq(type_))
    with pytest.raises(TypeError, match=r"federated_sum: value must be {T}@CLIENTS, found float32@SERVER"):
        fc(lambda x: fm.federated_sum(x), FS)


def test_bfloat16_can_be_added_but_not_averaged():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    assert result(lambda x: fm.federated_sum(x), Fed(bfloat16, C)) == "bfloat16@SERVER"
    with pytest.raises(TypeError, match="value must be floats or complex numbers"):
        fc(lambda x: fm.federated_mean(x), Fed(bfloat16, C))


def test_not_a_sequence_is_also_what_upstream_raises():
    with pytest.raises(NotImplementedError):
        fc(lambda x: fm.sequence_reduce(x, 0.0, add), f32)
    with pytest.raises(ValueError, match="must be a sequence"):
        fc(lambda x: fm.sequence_sum(x), FC)


def test_the_container_of_a_reduction_is_that_of_the_function():
    made = fc(lambda x: fm.sequence_reduce(x, (0.0,), fc(lambda s, e: [s[0] + e], (f32,), f32)), Seq(f32))
    assert made.type_signature.result.python_container is list


def test_captured_placed_values_are_named():
    @fc(Fed(MODEL, S), FC)
    def fine(model, x):
        @fc(f32)
        def called(v):
            return v, model  # only called, never mapped

        return called(1.0), x

    check(fine.expression)
    text = r"federated_map: fn must use no placed value from around it, found {} of type {}\n  at test_operator_table"

    def captures_parameter(model, x):
        return fm.federated_map(fc(lambda v: (v, model.bias), f32), x)

    with pytest.raises(fm.CaptureError, match=text.format("model", "<weights=.*>@SERVER")):
        fc(lambda model, x: fm.federated_map(fc(lambda v: (v, model), f32), x), Fed(MODEL, S), FC)
    with pytest.raises(fm.CaptureError, match=text.format("model.bias", r"float32\[10\]@SERVER")):
        fc(captures_parameter, Fed(MODEL, S), FC)

    def captures_local(model, x):
        down = fm.federated_broadcast(model)
        return fm.federated_map(fc(lambda v: (v, down), f32), x)

    with pytest.raises(fm.CaptureError, match=text.format("down", "<weights=.*>@CLIENTS")):
        fc(captures_local, Fed(MODEL, S), FC)

    def captures_deeply(model, x):
        outer = fc(lambda v: fc(lambda w: (w, fm.federated_broadcast(model)), f32)(v), f32)
        return fm.federated_map(outer, x)

    with pytest.raises(fm.CaptureError, match=text.format("model", "<weights=.*>@SERVER")):
        fc(captures_deeply, Fed(MODEL, S), FC)


def test_unplaced_captures_are_fine():
    @fc(FC, Seq(f32), f32)
    def body(x, s, lr):
        scaled = fm.federated_map(fc(lambda v: v * lr, f32), x)
        return scaled, fm.sequence_reduce(s, 0.0, fc(lambda a, b: a + b * lr, f32, f32))

    check(body.expression)
    assert str(body.type_signature.result) == "<{float32}@CLIENTS,float32>"


def body_of(computation):
    assert isinstance(computation.expression, Lambda)
    assert isinstance(computation.expression.body, Block)
    return [local for _, local in computation.expression.body.locals]


def test_what_reaches_the_runtime():
    (zipped, mapped) = body_of(fc(lambda x, y: fm.federated_map(add, (x, y)), FC, FC))
    assert (zipped.op, mapped.op) == ("federated_zip", "federated_map")
    assert mapped.where.startswith("test_operator_table.py:")
    (applied,) = body_of(fc(lambda x: fm.federated_apply(half, x), FS))
    assert applied.op == "federated_map"
    (lifted,) = body_of(fc(lambda x: fm.sequence_sum(x), Fed(Seq(f32), C)))
    assert lifted.op == "federated_map"
    assert isinstance(lifted.args[0], Lambda)
    assert isinstance(lifted.args[0].body, Apply)
    assert (lifted.args[0].body.op, str(lifted.args[0].type)) == ("sequence_sum", "(float32* -> float32)")
    (zipped, lifted) = body_of(fc(lambda x, z: fm.sequence_reduce(x, z, add), Fed(Seq(f32), C), FC))
    assert (zipped.op, lifted.op) == ("federated_zip", "federated_map")
    assert str(lifted.args[0].type) == "(<float32*,float32> -> float32)"
    (lifted,) = body_of(fc(lambda x, z: fm.sequence_reduce(x, z, add), Fed(Seq(f32), C), f32))
    assert str(lifted.args[0].type) == "(float32* -> float32)"  # zero is captured
    (mean,) = body_of(fc(lambda x: fm.federated_mean(x), FC))
    assert len(mean.args) == 1


def test_the_checker_finds_what_is_wrong():
    made = fc(lambda x: fm.federated_sum(x), FC).expression
    wrong = Apply("federated_sum", made.body.locals[0][1].args, IS)
    with pytest.raises(
        fm.TypeNotAssignableError, match=r"federated_sum\(lambda_arg\) must have float32@SERVER, found int32@SERVER"
    ):
        check(Lambda(made.parameter, wrong, fm.FunctionType(FC, IS)))
    with pytest.raises(fm.TypingError, match=r"lambda_arg must have float32, found None|must have"):
        check(made.body)


def test_the_tutorial_as_published():
    """Part 2 of the tutorial, in its form of 2019, with stand-ins for the local computations."""
    batch_type = fm.to_type(OrderedDict(x=(f32, [None, 784]), y=(i32, [None])))
    model_type = fm.to_type(MODEL)
    batches = Seq(batch_type)
    batch_loss = fc(lambda model, batch: 0.5, model_type, batch_type)
    batch_train = fc(lambda initial_model, batch, learning_rate: initial_model, model_type, batch_type, f32)

    @fc(model_type, f32, batches)
    def local_train(initial_model, learning_rate, all_batches):
        @fc(model_type, batch_type)
        def batch_fn(model, batch):
            return batch_train(model, batch, learning_rate)

        return fm.sequence_reduce(all_batches, initial_model, batch_fn)

    @fc(model_type, batches)
    def local_eval(model, all_batches):
        return fm.sequence_sum(fm.sequence_map(fc(lambda b: batch_loss(model, b), batch_type), all_batches))

    server_model, data = fm.type_at_server(model_type), fm.type_at_clients(batches)

    @fc(server_model, data)
    def federated_eval(model, data):
        return fm.federated_mean(fm.federated_map(local_eval, [fm.federated_broadcast(model), data]))

    @fc(server_model, fm.type_at_server(f32), data)
    def federated_train(model, learning_rate, data):
        return fm.federated_mean(
            fm.federated_map(local_train, [fm.federated_broadcast(model), fm.federated_broadcast(learning_rate), data])
        )

    m, b = "<weights=float32[784,10],bias=float32[10]>", "<x=float32[?,784],y=int32[?]>"
    assert str(batch_train.type_signature) == f"(<initial_model={m},batch={b},learning_rate=float32> -> {m})"
    assert str(local_train.type_signature) == f"(<initial_model={m},learning_rate=float32,all_batches={b}*> -> {m})"
    assert str(local_eval.type_signature) == f"(<model={m},all_batches={b}*> -> float32)"
    assert str(federated_eval.type_signature) == f"(<model={m}@SERVER,data={{{b}*}}@CLIENTS> -> float32@SERVER)"
    assert str(federated_train.type_signature.result) == f"{m}@SERVER"
    for made in (local_train, local_eval, federated_eval, federated_train):
        check(made.expression)
