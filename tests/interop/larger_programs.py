"""More programs with placements: of several operators, on sequences, and of what only the framework makes."""

import federated_language as fl
import numpy as np
from federated_language import framework

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop.federated_programs import CASES, SEQUENCE, case, of  # noqa: F401  # one table for both
from tests.interop.programs import F32, I32, OD, add_half, at_clients, at_server, fc, numba, plus

# --- several operators ---


@numba(F32, F32)
def above(reading, threshold):
    return np.float32(reading > threshold)


@numba(SEQUENCE, F32)
def count_and_mean_above(readings, threshold):
    total, count = 0.0, 0
    for reading in readings:
        if reading > threshold:
            total += reading
            count += 1
    return {"mean": np.float32(total / max(count, 1)), "count": np.int32(count)}


@fc(at_clients(F32), at_server(F32))
def fraction_above(readings, threshold):
    return fl.federated_mean(fl.federated_map(above, [readings, fl.federated_broadcast(threshold)]))


@fc(at_clients(SEQUENCE), at_server(F32))
def mean_over_threshold(readings, threshold):
    found = fl.federated_map(count_and_mean_above, (readings, fl.federated_broadcast(threshold)))
    return fl.federated_mean(found.mean, found.count)


@fc(at_server(F32), at_clients(F32))
def two_trips(start, values):
    first = fl.federated_mean(fl.federated_map(plus, (values, fl.federated_broadcast(start))))
    second = fl.federated_map(plus, (values, fl.federated_broadcast(fl.federated_map(add_half, first))))
    return first, fl.federated_mean(second)


@fc(at_clients(I32), at_server(I32))
def sum_of_broadcast(values, x):
    return fl.federated_sum(fl.federated_zip((fl.federated_broadcast(x), values)))


@fc(at_clients(F32), at_server(F32))
def mixed(values, x):
    everywhere = fl.federated_broadcast(x)
    return OD(down=everywhere, up=fl.federated_sum(values), there=values, here=x)


@fc(at_clients(F32), F32)
def shifted(values, by):
    return fl.federated_map(fc(lambda value: plus(value, by), F32), values)


@fc(fl.FunctionType(F32, F32), at_clients(F32))
def mapped_by(function, values):
    return fl.federated_map(function, values)


def identity_of(*types):
    return fc(lambda x: x, *types)


case("fraction above", fraction_above, [68.0, 70.0, 71.0, 72.0], 70.5, expected=F32(0.5))
case(
    "mean over a threshold",
    mean_over_threshold,
    [[float(x) for x in range(n)] for n in (10, 20, 30)],
    10.0,
    expected=F32((15.0 * 9 + 20.0 * 19) / 28),
)
case("two trips", two_trips, 1.0, [1.0, 2.0, 6.0], expected=(F32(4.0), F32(7.5)))
case("a broadcast counts for each client", sum_of_broadcast, [1, 2, 3], 10, expected=(I32(30), I32(6)))
case(
    "placements side by side",
    mixed,
    [1.0, 2.0],
    5.0,
    expected=OD(down=F32(5), up=F32(3), there=[F32(1), F32(2)], here=F32(5)),
)
case("captured in a map of clients", shifted, [1.0, 2.0], 10.0, expected=[F32(11.0), F32(12.0)])
case("mapped by an argument", mapped_by, add_half, [1.0, 3.0], expected=[F32(1.5), F32(3.5)])
case(
    "polymorphic map",
    fc(lambda x: fl.federated_map(fc(lambda y: (y, y)), x), at_clients(I32)),
    [1],
    expected=[(I32(1), I32(1))],
)
case(
    "a federated computation in another",
    fc(lambda x, w: mean_over_threshold(x, fl.federated_mean(w)), at_clients(SEQUENCE), at_clients(F32)),
    [[1.0, 9.0], [4.0]],
    [2.0, 4.0],
    expected=F32(6.5),
)
case(
    "zipped for a call",
    fc(lambda x, y: identity_of(at_clients((I32, F32)))(fl.federated_zip((x, y))), at_clients(I32), at_clients(F32)),
    [1],
    [2.0],
    expected=[(I32(1), F32(2.0))],
)
case(
    "an equal value as one for each",
    fc(lambda x, y: identity_of(at_clients(I32))(fl.federated_broadcast(x)), at_server(I32), at_clients(I32)),
    3,
    [0, 0],
    expected=[I32(3), I32(3)],
)

# --- placed sequences ---

case("sums at the clients", of(fl.sequence_sum, at_clients(SEQUENCE)), [[1.0, 2.0], []], expected=[F32(3.0), F32(0.0)])
case("sum at the server", of(fl.sequence_sum, at_server(SEQUENCE)), [1.0, 2.0], expected=F32(3.0))
case(
    "maps at the clients",
    fc(lambda x: fl.sequence_map(add_half, x), at_clients(SEQUENCE)),
    [[1.0, 2.0], []],
    expected=[[F32(1.5), F32(2.5)], []],
)
case(
    "reductions at the clients",
    fc(lambda x, z: fl.sequence_reduce(x, z, plus), at_clients(SEQUENCE), at_clients(F32)),
    [[1.0, 2.0], []],
    [0.0, 5.0],
    expected=[F32(3.0), F32(5.0)],
)
case(
    "reductions from a constant",
    fc(
        lambda x: fl.federated_sum(fl.sequence_reduce(x, fl.federated_value(1.0, fl.CLIENTS), plus)),
        at_clients(SEQUENCE),
    ),
    [[1.0, 2.0], []],
    expected=F32(5.0),
)

# --- what only the framework makes ---


def built(parameter, block, name="built_arg"):
    """Return the computation of a block of which ``built_arg`` is the parameter."""
    return framework.ConcreteComputation.from_building_block(framework.Lambda(name, parameter, block))


PAIR = fl.to_type((F32, F32))
ARG = framework.Reference("built_arg", PAIR)
STRUCT = fl.to_type([("a", F32), ("b", (I32, [2]))])
STRUCTS = framework.Reference("built_arg", fl.to_type([STRUCT, STRUCT]))


def generic(definition, argument, result):
    uri = definition.uri
    intrinsic = framework.Intrinsic(uri, fl.FunctionType(argument.type_signature, result))
    return built(argument.type_signature, framework.Call(intrinsic, argument))


def map_all_equal(function, value):
    """Return the map of a value that is the same at all clients, as one that is; it has no public name."""
    return fl.to_value(framework.create_federated_map_all_equal(fl.to_value(function, None).comp, value.comp), None)


@fc(at_server(PAIR), at_clients(F32))
def all_equal(pair, values):
    sent = fl.federated_broadcast(pair)
    total = map_all_equal(plus, sent)
    zipped = map_all_equal(fc(lambda p: [p, p[0]], PAIR), fl.federated_broadcast(pair))
    return total, zipped, fl.federated_sum(fl.federated_map(plus, (total, values)))


case("all equal", all_equal, (1.0, 2.0), [1.0, 5.0], expected=(F32(3.0), [(F32(1.0), F32(2.0)), F32(1.0)], F32(12.0)))
case("generic plus", generic(framework.GENERIC_PLUS, ARG, F32), 1.0, 2.0, expected=F32(3.0))
case("generic multiply", generic(framework.GENERIC_MULTIPLY, ARG, F32), 3.0, 2.0, expected=F32(6.0))
case("generic divide", generic(framework.GENERIC_DIVIDE, ARG, F32), 3.0, 2.0, expected=F32(1.5))
case(
    "generic plus of structs",
    generic(framework.GENERIC_PLUS, STRUCTS, STRUCT),
    (1.0, [1, 2]),
    (2.0, [3, 4]),
    expected=OD(a=F32(3.0), b=np.array([4, 6], I32)),
)
case(
    "generic zero",
    built(PAIR, framework.Intrinsic("generic_zero", STRUCT)),
    0.0,
    0.0,
    expected=OD(a=F32(0), b=np.zeros(2, I32)),
)
case(
    "renamed", built(PAIR, framework.create_named_tuple(ARG, ["x", "y"])), 1.0, 2.0, expected=OD(x=F32(1.0), y=F32(2.0))
)


def secure_modular_sum(value, modulus):
    """TensorFlow Federated's operator, which it makes of an intrinsic that ``federated_language`` does not know."""
    value, modulus = fl.to_value(value, None), fl.to_value(modulus, None)
    type_ = fl.FunctionType([value.type_signature, modulus.type_signature], at_server(value.type_signature.member))
    return fl.to_value(framework.Intrinsic("federated_secure_modular_sum", type_), None)(value, modulus)


case("secure modular sum", fc(lambda x: secure_modular_sum(x, 5), at_clients(I32)), [1, 2, 10, 9], expected=I32(2))
case(
    "secure modular sum of a struct",
    fc(lambda x: secure_modular_sum(x, [5, 7]), at_clients([I32, (I32, [2])])),
    [[1, [2, 3]], [10, [14, 4]]],
    expected=[I32(1), np.array([2, 0], I32)],
)
case(
    "intrinsic as a function",
    fc(
        lambda x: fl.federated_map(framework.Intrinsic("sequence_sum", fl.FunctionType(SEQUENCE, F32)), x),
        at_server(SEQUENCE),
    ),
    [1.0, 2.0],
    expected=F32(3.0),
)
case(
    "a computation of fedmpi",
    bridge.wrap(fm.federated_computation(lambda x: fm.federated_sum(x), fm.type_at_clients(F32))),
    [1.0, 2.0],
    expected=F32(3.0),
)
case(
    "a local computation of fedmpi",
    fc(lambda x: fl.federated_map(bridge.wrap(fm.numba_computation(lambda x: x * x, F32)), x), at_clients(F32)),
    [1.0, 2.0],
    expected=[F32(1.0), F32(4.0)],
)
