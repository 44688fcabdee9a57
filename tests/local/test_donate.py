"""Arguments that a body may write into: lent where nobody reads them again, copied elsewhere, marked in debug mode."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.comparing import difference
from tests.programs import assert_same

F32 = np.float32
fc = fm.federated_computation
MODEL = fm.to_type(OrderedDict(w=(F32, [3]), b=F32))
START = {"w": np.array([1.0, 2.0, 3.0], F32), "b": 4.0}


@fm.numba_computation(MODEL, F32, donate="m")
def shift(m, x):
    m.w[:] += x
    return m


@fm.numba_computation(MODEL, F32, donate=["m"])
def turn(m, x):
    m["w"][0] -= x
    return {"w": m.w, "b": m.b + x}


@fm.numba_computation(MODEL, F32)
def plain(m, x):
    return {"w": m.w * x, "b": m.b}


def both(m, x):
    return turn(shift(m, x), x)


def own_array(m, x):
    made = {"w": m.w * 2, "b": m.b}
    return shift(made, x)


def reads_what_it_kept(m, x):
    kept = m.w.copy()
    n = shift(m, x)
    return {"w": n["w"] + kept, "b": n["b"]}


@pytest.mark.parametrize("function", [both, own_array, reads_what_it_kept])
@pytest.mark.parametrize("donate", [(), "m"])
def test_a_body_gives_away_what_is_its_own(function, donate):
    body = fm.numba_computation(MODEL, F32, donate=donate)(function)
    before = START["w"].copy()
    found = body(START, 1.0)
    with fm.debug():
        assert difference(found, body(START, 1.0)) == ""
    assert np.array_equal(START["w"], before)


def test_who_reads_what_it_lent_is_shown_in_debug_mode():
    def reads_it_again(m, x):
        n = shift(m, x)
        return {"w": n["w"] + m["w"], "b": n["b"]}

    body = fm.numba_computation(MODEL, F32, donate="m")(reads_it_again)
    lending_nothing = fm.numba_computation(MODEL, F32)(reads_it_again)
    with fm.debug():
        assert np.isnan(body(START, 1.0)["w"]).all()
        assert lending_nothing(START, 1.0)["w"].tolist() == [3, 5, 7]  # it had a copy
    assert lending_nothing(START, 1.0)["w"].tolist() == [3, 5, 7]


PROGRAMS = {
    "the state alone": (lambda s, x: shift(s, x), 1, True),
    "two in a row": (lambda s, x: turn(shift(s, x), x), 2, True),
    "a temporary": (lambda s, x: shift(plain(s, x), x), 1, False),
    "arithmetic": (lambda s, x: shift(s - s * 0.5, x), 1, False),
    "twice": (lambda s, x: shift(s, x) + turn(s, x), 0, False),
    "read again": (lambda s, x: shift(s, x) - s, 0, False),
    "a temporary read again": (lambda s, x: (lambda t: shift(t, x) + t)(plain(s, x)), 0, False),
    "through flatten": (lambda s, x: shift(fm.model.unflatten(fm.model.flatten(s), s), x) + s, 0, False),
    "set together": (lambda s, x: shift(OrderedDict(w=s.w, b=s.b), x) + s, 1, False),
}


def looped(step):
    """Return a function that folds a sequence by a step, and gives what it began with too."""
    fold = fc(step, MODEL, F32)
    return fc(lambda m, q: (fm.sequence_reduce(q, m, fold), m), MODEL, fm.SequenceType(F32))


@pytest.mark.parametrize(("step", "given", "state"), PROGRAMS.values(), ids=PROGRAMS)
def test_what_a_program_lends(step, given, state):
    """How many calls get memory without a copy; whether the loop's state is among it; the numbers are the same."""
    local = looped(step)
    text = str(fm.explain(local, code=True))
    calls = [line for line in text.splitlines() if " = K" in line and "shared(" not in line]
    assert len([call for call in calls if not _is_plain(call, text)]) == given
    assert (" = fresh(" in text) == state
    program = fc(lambda d: fm.federated_map(fc(lambda q: local(start_value(), q), fm.SequenceType(F32)), d),
                 fm.type_at_clients(fm.SequenceType(F32)))  # fmt: skip
    data = [[1.0, 2.0], [], [0.5]]
    wanted = fm.ReferenceContext().invoke(program, data)
    for fuse in (False, True):
        assert difference(fm.MpiContext(fuse=fuse).invoke(program, data), wanted) == ""
    assert all(np.array_equal(begun["w"], START["w"]) for _, begun in wanted)


def _is_plain(call, text):
    name = call.split(" = ")[1].split("(")[0]
    return f"# {name}: plain" in text


def start_value():
    return OrderedDict(w=START["w"], b=F32(4.0))


def test_a_state_around_a_loop_is_not_given_away_inside_of_it():
    total = fm.numba_computation(lambda m: m.w.sum() + m.b, MODEL)
    captured = fc(
        lambda m, q: fm.sequence_reduce(q, 0.0, fc(lambda t, y: t + total(shift(m, y)), F32, F32)),
        MODEL, fm.SequenceType(F32),
    )  # fmt: skip
    assert captured(START, [1.0, 1.0, 1.0]) == 3 * (6 + 3 + 4)


def test_broadcast_values_constants_and_clients_states_are_copied():
    program = fc(
        lambda m, c, x: (
            fm.federated_map(shift, (fm.federated_broadcast(m), x)), fm.federated_map(shift, (c, x)),
            fm.federated_map(fc(lambda y: shift(start_value(), y), F32), x),
            fm.federated_aggregate(x, start_value(), shift, fc(lambda a, b: a, MODEL, MODEL), fc(lambda a: a, MODEL)),
        ),
        fm.type_at_server(MODEL), fm.type_at_clients(MODEL), fm.type_at_clients(F32),
    )  # fmt: skip
    clients = fm.client_data([START, START], fm.type_at_clients(MODEL))
    for context in (fm.ReferenceContext(), fm.MpiContext(fuse=False), fm.MpiContext(fuse=True)):
        for _ in range(2):
            down, own, constant, folded = context.invoke(program, (START, clients, [1.0, 2.0]))
            for found in (down, own, constant):
                assert [list(part["w"]) for part in found] == [[2, 3, 4], [3, 4, 5]]
            assert folded["w"].tolist() in ([4, 5, 6], [2, 3, 4])


@pytest.mark.parametrize(
    ("donate", "types", "text"),
    [
        ("n", (MODEL, F32), r"donate must name parameters of the function \(m, x\), found 'n'"),
        ("x", (MODEL, F32), "donate must name a parameter with arrays, and without sequences, found x of type float32"),
        ("x", (MODEL, fm.SequenceType(F32)), r"without sequences, found x of type float32\*"),
    ],
)
def test_what_cannot_be_donated(donate, types, text):
    with pytest.raises(TypeError, match=text):
        fm.numba_computation(lambda m, x: m, *types, donate=donate)


# --- kernels ----------------------------------------------------------------------------------------------------------


def into_twin(w, x, rate):
    w -= rate * x


@fm.kernel(into_twin, writes="w")
def step_into(w, x, rate):
    for i in range(w.size):
        w[i] -= rate * x[i]


@fm.kernel(lambda w, x, rate: w - rate * x, in_place=step_into)
def step(w, x, rate):
    new = w.copy()
    step_into(new, x, rate)
    return new


def once(m, x):
    return {"w": step(m.w, x, F32(0.5)), "b": m.b}


def test_a_kernel_of_the_users():
    ones = np.ones(3, F32)
    assert step(ones, ones, F32(0.5)).tolist() == [0.5] * 3
    assert step_into(own := ones.copy(), ones, F32(0.5)) is None
    assert own.tolist() == [0.5] * 3
    body = fm.numba_computation(MODEL, (F32, [3]))(once)
    lent = fm.numba_computation(MODEL, (F32, [3]), donate="m")(once)
    for made in (body, lent):
        found = made(START, ones)
        assert found["w"].tolist() == [0.5, 1.5, 2.5]
        with fm.debug():
            assert difference(found, made(START, ones)) == ""


def test_a_kernel_that_is_lent_its_arguments_works_in_place():
    """Seen by a body that reads the array again, whose numbers nobody promises; in debug mode they are marked."""

    def reads_it_again(m, x):
        new = step(m.w, x, F32(0.5))
        return {"w": m.w - new, "b": m.b}

    def with_a_view(m, x):
        new = step(m.w[:], x, F32(0.5))
        return {"w": m.w - new, "b": m.b}

    ones = np.ones(3, F32)
    for function, donate, wanted in ((reads_it_again, "m", 0), (reads_it_again, (), 0.5), (with_a_view, "m", 0.5)):
        body = fm.numba_computation(MODEL, (F32, [3]), donate=donate)(function)
        assert body(START, ones)["w"].tolist() == [wanted] * 3
        with fm.debug():
            debugged = body(START, ones)["w"]
        assert np.isnan(debugged).all() if wanted == 0 else debugged.tolist() == [wanted] * 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fm.kernel(writes="v")(lambda w: None), r"writes must name parameters \(w\), found 'v'"),
        (
            lambda: fm.kernel(in_place=step)(lambda w, x, rate: w),
            "in_place must be a kernel that writes, found <kernel s",
        ),
        (
            lambda: fm.kernel(in_place=step_into)(lambda w: w),
            r"in_place must have the same parameters \(w\), found \(w, x",
        ),
        (lambda: fm.kernel(3)(lambda w: w), "the twin must be a function, found 3"),
        (lambda: fm.kernel()(np.dot), "a kernel is made of a plain function"),
    ],
)
def test_kernels_that_are_refused(make, text):
    with pytest.raises(TypeError, match=text):
        make()


def test_the_tutorials_kernel_in_place():
    """The bits of a functional body, of one that lends its model, and of the reference are the same."""
    batch = fm.to_type({"x": (F32, [None, 5]), "y": (np.int32, [None])})
    model = fm.to_type({"weights": (F32, [5, 3]), "bias": (F32, [3])})

    def train(model, batch):
        weights, bias = fm.kernels.softmax_sgd_step(batch.x, batch.y, model.weights, model.bias, F32(0.25))
        return {"weights": weights, "bias": bias}

    rng = np.random.default_rng(0)
    rows = lambda n: {"x": rng.random((n, 5), np.float32), "y": rng.integers(0, 3, n, np.int32)}  # noqa: E731
    data = [[rows(4), rows(1)], [], [rows(2)] * 3]
    start = {"weights": rng.random((5, 3), np.float32), "bias": rng.random(3, np.float32)}

    def rounds(donate):
        body = fm.numba_computation(model, batch, donate=donate)(train)
        local = fc(lambda m, q: fm.sequence_reduce(q, m, body), model, fm.SequenceType(batch))
        return fc(
            lambda m, d: fm.federated_map(local, (fm.federated_broadcast(m), d)),
            fm.type_at_server(model), fm.type_at_clients(fm.SequenceType(batch)),
        )  # fmt: skip

    results = []
    for donate in ((), "model"):
        for context in (fm.ReferenceContext(), fm.MpiContext(fuse=False), fm.MpiContext(fuse=True)):
            results.append(context.invoke(rounds(donate), (start, data)))
    assert all(difference(result, results[0]) == "" for result in results)
    assert np.array_equal(results[0][1]["weights"], start["weights"])


MODEL2 = fm.to_type({"w": (np.float32, [2]), "b": (np.float32, [2])})
VECTOR = fm.to_type((np.float32, [None]))


@fm.numba_computation(MODEL2, MODEL2, donate="a")
def pull(a, b):
    a.w[:] *= np.float32(2)
    a.w[:] += b.w
    return a


@fm.numba_computation(VECTOR, VECTOR, donate=["p", "q"], result=VECTOR)
def fill(p, q):
    p[:] = 1
    q[:] += p
    return q


@fm.numba_computation({"a": VECTOR, "b": VECTOR}, donate="o", result=VECTOR)
def inside(o):
    o.a[:] *= 2
    return o.a + o.b


def twice(x):
    n, k, m = x * np.float32(3), x * np.float32(3), x * np.float32(2)
    return fill(n, n), fill(k, k[:]), inside({"a": m, "b": m})


def overlapping(x):
    n, k = x * np.float32(2), x * np.float32(2)
    return fill(n[1:], n[:-1]), fill(k[::-1], k)


def whole_twice(m):
    n = m * 2
    return pull(n, n)


@pytest.mark.parametrize(
    ("body", "type_"),
    [(twice, VECTOR), (whole_twice, MODEL2), (lambda m: pull(m, m), MODEL2)],
    ids=["tensors", "a model", "lent"],
)
def test_what_is_given_twice_is_copied(body, type_):
    """An argument that shares memory with another one of the call: the numbers are those of copies."""
    donated = {"donate": "m"} if type_ is MODEL2 else {}
    given = (
        np.arange(1, 5, dtype=np.float32)
        if type_ is VECTOR
        else {"w": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    )
    computation = fm.numba_computation(body, type_, **donated)
    found = computation(given)
    with fm.debug():
        assert_same(found, fm.numba_computation(body, type_, **donated)(given))


def test_slices_that_overlap_are_copied():
    found = fm.numba_computation(overlapping, VECTOR)(np.arange(4, dtype=np.float32))
    for each, wanted in zip(found, ([1, 3, 5], [1, 3, 5, 7]), strict=True):
        np.testing.assert_array_equal(each, np.float32(wanted))


@pytest.mark.parametrize(
    "step",
    [lambda m, _: pull(m, m), lambda m, _: (lambda n: pull(n, n))(m * 2.0), lambda m, _: pull(m, m * 2.0)],
    ids=["the state twice", "a temporary twice", "once"],
)
def test_a_state_given_twice_is_copied(step):
    step = fm.federated_computation(step, MODEL2, np.float32)
    run = fm.federated_computation(
        lambda m, data: fm.sequence_reduce(data, m, step), MODEL2, fm.SequenceType(np.float32)
    )
    given = {"w": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    found = run(given, [0.0, 0.0])
    with fm.debug():
        assert_same(run(given, [0.0, 0.0]), found)


def added_into(a, b):
    a *= 2
    a += b


@fm.kernel(added_into, writes="a")
def add_into(a, b):
    for i in range(len(a)):
        a[i] *= 2
    for i in range(len(a)):
        a[i] += b[i]


@fm.kernel(lambda a, b: a * 2 + b, in_place=add_into)
def add(a, b):
    return a * 2 + b


def test_a_kernel_given_one_array_twice_gets_a_copy():
    body = fm.numba_computation(lambda m: add(m, m), (np.float32, [4]), donate="m")
    np.testing.assert_array_equal(body(np.arange(4, dtype=np.float32)), np.float32([0, 3, 6, 9]))


OPEN = fm.to_type({"a": VECTOR, "b": VECTOR})


@fm.numba_computation(OPEN, donate="p", result=VECTOR)
def spoil(p):
    p.a[:] = -7
    return p.b


double = fm.numba_computation(lambda x: x * np.float32(2), VECTOR, result=VECTOR)
first_of = fm.numba_computation(lambda r, y: y.sum() + r.sum() * np.float32(0), VECTOR, VECTOR, result=np.float32)


@fc(VECTOR)
def spoiled(x):
    """A record around arrays of open sizes that are read again is no new memory."""
    y = double(x)
    return first_of(spoil({"a": y, "b": double(y)}), y)


@pytest.mark.parametrize("fuse", [False, True])
def test_a_record_of_open_sizes_is_copied(fuse):
    total = fc(lambda x: fm.federated_sum(fm.federated_map(spoiled, x)), fm.type_at_clients(VECTOR))
    with fm.MpiContext(fuse=fuse):
        assert total([np.ones(n, np.float32) for n in (3, 2, 4)]) == 18
