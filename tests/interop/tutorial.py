"""The tutorial "Custom Federated Algorithms" in ``federated_language``, its local computations by the bridge.

Part 1 is `first_part`, what it prints next to what the page shows; part 2 is the functions below, in the tutorial's
order and names.
"""

import collections

import federated_language as fl
import numpy as np

import fedmpi as fm
from fedmpi.interop import federated_language as bridge

OD = collections.OrderedDict


def first_part():
    """Yield pairs: what the program gets, and what the tutorial shows."""

    @fl.federated_computation
    def hello_world():
        return "Hello, World!"

    yield hello_world(), b"Hello, World!"

    federated_float_on_clients = fl.FederatedType(np.float32, fl.CLIENTS)
    yield str(federated_float_on_clients.member), "float32"
    yield str(federated_float_on_clients.placement), "CLIENTS"
    yield str(federated_float_on_clients), "{float32}@CLIENTS"
    yield federated_float_on_clients.all_equal, False
    yield str(fl.FederatedType(np.float32, fl.CLIENTS, all_equal=True)), "float32@CLIENTS"
    simple_regression_model_type = fl.StructType([("a", np.float32), ("b", np.float32)])
    yield str(simple_regression_model_type), "<a=float32,b=float32>"
    yield (
        str(fl.FederatedType(simple_regression_model_type, fl.CLIENTS, all_equal=True)),
        "<a=float32,b=float32>@CLIENTS",
    )

    seen = []

    @fl.federated_computation(fl.FederatedType(np.float32, fl.CLIENTS))
    def get_average_temperature(sensor_readings):
        seen.append((type(sensor_readings).__name__, str(sensor_readings.type_signature)))
        return fl.federated_mean(sensor_readings)

    yield seen, [("Value", "{float32}@CLIENTS")]
    yield str(get_average_temperature.type_signature), "({float32}@CLIENTS -> float32@SERVER)"
    yield get_average_temperature([68.5, 70.3, 69.8]), np.float32(69.53333)

    @bridge.numba_computation(np.float32)
    def add_half(x):
        return x + np.float32(0.5)

    yield str(add_half.type_signature), "(float32 -> float32)"

    @fl.federated_computation(fl.FederatedType(np.float32, fl.CLIENTS))
    def apply_add_half_on_clients(x):
        return fl.federated_map(add_half, x)

    yield str(apply_add_half_on_clients.type_signature), "({float32}@CLIENTS -> {float32}@CLIENTS)"
    yield apply_add_half_on_clients([1.0, 3.0, 2.0]), [np.float32(1.5), np.float32(3.5), np.float32(2.5)]

    float32_sequence = fl.SequenceType(np.float32)
    yield str(float32_sequence), "float32*"

    @bridge.numba_computation(fl.SequenceType(np.float32))
    def get_local_temperature_average(local_temperatures):
        total, count = np.float32(0.0), 0
        for temperature in local_temperatures:
            total, count = total + temperature, count + 1
        return np.float32(total / count)

    yield str(get_local_temperature_average.type_signature), "(float32* -> float32)"
    yield get_local_temperature_average([68.5, 70.3, 69.8]), np.float32(69.53333)

    add = bridge.numba_computation(lambda x, y: x + y, np.int32, np.int32)
    foo = fl.federated_computation(lambda x: fl.sequence_reduce(x, 0, add), fl.SequenceType(np.int32))
    yield foo([1, 2, 3]), np.int32(6)

    pairs = fl.SequenceType(OD([("A", np.int32), ("B", np.int32)]))
    product = bridge.numba_computation(lambda x: x["A"] * x["B"], pairs.element)
    bar = fl.federated_computation(lambda x: fl.sequence_sum(fl.sequence_map(product, x)), pairs)
    yield str(bar.type_signature), "(<A=int32,B=int32>* -> int32)"
    yield bar([{"A": 2, "B": 3}, {"A": 4, "B": 5}]), np.int32(26)

    @fl.federated_computation(fl.FederatedType(fl.SequenceType(np.float32), fl.CLIENTS))
    def get_global_temperature_average(sensor_readings):
        return fl.federated_mean(fl.federated_map(get_local_temperature_average, sensor_readings))

    yield str(get_global_temperature_average.type_signature), "({float32*}@CLIENTS -> float32@SERVER)"
    yield get_global_temperature_average([[68.0, 70.0], [71.0], [68.0, 72.0, 70.0]]), np.float32(70.0)


BATCH_TYPE = fl.to_type(OD([("x", (np.float32, [None, 784])), ("y", (np.int32, [None]))]))
MODEL_TYPE = fl.to_type(OD([("weights", (np.float32, [784, 10])), ("bias", (np.float32, [10]))]))
LOCAL_DATA_TYPE = fl.SequenceType(BATCH_TYPE)
SERVER_MODEL_TYPE = fl.FederatedType(MODEL_TYPE, fl.SERVER)
SERVER_FLOAT_TYPE = fl.FederatedType(np.float32, fl.SERVER)
CLIENT_DATA_TYPE = fl.FederatedType(LOCAL_DATA_TYPE, fl.CLIENTS)

initial_model = OD(weights=np.zeros([784, 10], np.float32), bias=np.zeros([10], np.float32))


@bridge.numba_computation(MODEL_TYPE, BATCH_TYPE)
def batch_loss(model, batch):
    return fm.kernels.softmax_loss(batch.x, batch.y, model.weights, model.bias)


@bridge.numba_computation(MODEL_TYPE, BATCH_TYPE, np.float32)
def batch_train(initial_model, batch, learning_rate):
    weights, bias = fm.kernels.softmax_sgd_step(
        batch.x, batch.y, initial_model.weights, initial_model.bias, learning_rate
    )
    return OD(weights=weights, bias=bias)


@fl.federated_computation(MODEL_TYPE, np.float32, LOCAL_DATA_TYPE)
def local_train(initial_model, learning_rate, all_batches):
    @fl.federated_computation(MODEL_TYPE, BATCH_TYPE)
    def batch_fn(model, batch):
        return batch_train(model, batch, learning_rate)

    return fl.sequence_reduce(all_batches, initial_model, batch_fn)


@fl.federated_computation(MODEL_TYPE, LOCAL_DATA_TYPE)
def local_eval(model, all_batches):
    loss = fl.federated_computation(lambda batch: batch_loss(model, batch), BATCH_TYPE)
    return fl.sequence_sum(fl.sequence_map(loss, all_batches))


@fl.federated_computation(SERVER_MODEL_TYPE, CLIENT_DATA_TYPE)
def federated_eval(model, data):
    return fl.federated_mean(fl.federated_map(local_eval, [fl.federated_broadcast(model), data]))


@fl.federated_computation(SERVER_MODEL_TYPE, SERVER_FLOAT_TYPE, CLIENT_DATA_TYPE)
def federated_train(model, learning_rate, data):
    return fl.federated_mean(
        fl.federated_map(local_train, [fl.federated_broadcast(model), fl.federated_broadcast(learning_rate), data])
    )
