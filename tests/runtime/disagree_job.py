"""The program of test_disagreement.py: rank 1 differs from the others in the way that the first argument names."""

import sys

import numpy as np

import fedmpi as fm
from fedmpi.local.columns.messages import Parcel
from fedmpi.runtime import executor
from fedmpi.runtime.mpi.comm import Communicator

way = sys.argv[1]
odd = Communicator.open().rank == 1
F32 = np.float32
AT_CLIENTS = fm.type_at_clients(F32)


@fm.federated_computation(AT_CLIENTS)
def mean(values):
    return fm.federated_mean(values)


@fm.federated_computation(AT_CLIENTS)
def total(values):
    return fm.federated_sum(values)


def mapped(function):
    return fm.federated_computation(lambda v: fm.federated_map(function, v), AT_CLIENTS)


def changed(reduce):
    """Let rank 1 have another program from the second stage on."""

    def replacement(call, *args):
        reduce(call, *args)
        call.program.fingerprint += odd

    return replacement


match way:
    case "program":
        (total if odd else mean)([1.0, 2.0])
    case "literal":
        mapped(fm.federated_computation(lambda x: x * (2.0 if odd else 1.0), F32))([1.0])
    case "large literal":
        array = np.zeros(5000, F32)
        array[2500] = odd
        fm.federated_computation(lambda v: (v, fm.federated_value(array, fm.CLIENTS)), AT_CLIENTS)([1.0])
    case "constant of a kernel":
        mapped(fm.python_computation(eval(f"lambda x: x + {2 if odd else 1}"), F32, result=F32))([1.0])
    case "function argument":
        given = (
            fm.python_computation(lambda x: x + 1, F32, result=F32)
            if odd
            else fm.python_computation(lambda x: x - 1, F32, result=F32)
        )
        program = fm.federated_computation(lambda f, v: fm.federated_map(f, v), fm.FunctionType(F32, F32), AT_CLIENTS)
        program(given, [1.0])
    case "skip":
        if not odd:
            mean([1.0])
        total([1.0, 2.0])
    case "replicate":
        fm.replicate(1.0) if odd else mean([1.0])
    case "client data":
        fm.client_data([1, 2], np.int32) if odd else fm.client_data([1.0, 2.0], F32)
    case "resident":
        doubled = mapped(fm.federated_computation(lambda x: x + x, F32))
        (doubled.resident if odd else doubled)([1.0, 2.0])
    case "reduction":
        fm.set_default_context(fm.MpiContext(reduction="fast" if odd else "exact"))
        mean([1.0, 2.0])
    case "debug mode":
        with fm.debug(odd):
            mean([1.0, 2.0])
    case "list":
        mean([1.0] * 998 + [4.0 if odd else 3.0, 1.0])
    case "unplaced call":
        rank = fm.python_computation(lambda x: x + odd, F32, result=F32)
        fm.federated_computation(lambda v: (fm.federated_sum(v), rank(1.0)), AT_CLIENTS)([1.0])
    case "broadcast" | "fingerprint":
        same = fm.federated_computation(lambda x: x, F32)

        @fm.federated_computation(fm.type_at_server(F32))
        def two_trips(start):
            total = fm.federated_sum(fm.federated_map(same, fm.federated_broadcast(start)))
            return fm.federated_broadcast(total)

        fm.set_default_context(fm.MpiContext(num_clients=3))
        if way == "broadcast":
            unpacked = Parcel.unpacked
            Parcel.unpacked = lambda parcel, data: [value + odd for value in unpacked(parcel, data)]
        else:
            executor.UPWARD = (changed(executor.UPWARD[0]), *executor.UPWARD[1:])
        two_trips(1.0)
    case "nothing":
        assert not odd or fm.replicate(mean([1.0])) == F32(1.0)
        assert odd or fm.replicate(mean([1.0])) == F32(1.0)
        print("agreed")
