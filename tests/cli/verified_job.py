"""A program for `fedmpi verify`: results of every kind, and, if an argument says so, one that depends on the job."""

import sys
import time

import numpy as np

import fedmpi as fm
from fedmpi.runtime.mpi import launch

F32 = np.float32
WAY = sys.argv[1]
started = launch.detect()
rank, size = (started.rank, started.size) if started is not None else (0, 1)
print(f"{WAY} of {size}", flush=True)


@fm.python_computation(F32, F32, result=F32)
def plus(x, y):
    return x + y


@fm.python_computation(F32, result=F32)
def twice(x):
    return plus(x, x)  # a call within a call


@fm.federated_computation(fm.type_at_clients(F32), fm.type_at_server(F32))
def mean(values, bias):
    return fm.federated_mean(fm.federated_map(plus, [values, fm.federated_broadcast(bias)]))


@fm.python_computation(F32, result=F32)
def host(_):
    return F32(rank)


@fm.federated_computation(fm.type_at_clients(F32))
def mean_host(values):
    return fm.federated_mean(fm.federated_map(host, values))


@fm.federated_computation(fm.type_at_clients(F32))
def doubled(values):
    return fm.federated_map(twice, values)


@fm.federated_computation(fm.type_at_clients(F32), F32)
def adder_and_mean(values, number):
    return fm.federated_mean(values), fm.federated_computation(lambda x: plus(x, number), F32)


if WAY == "raise" and rank == 1:
    raise ValueError("boom on 1")
if WAY == "hang" and rank == size - 1 > 0:
    time.sleep(600)
bias, scale = 0.5, 1.0
if WAY == "server":
    bias *= size
elif WAY == "clients":
    scale = size
elif WAY == "time":
    bias = time.time_ns() % 1_000_003 * 1e-3
values = [scale * x / 3 for x in range(7)]
if WAY != "no computation":
    plus(1.0, 2.0)
    mean([x / 3 for x in range(7)], bias)
    doubled(doubled.resident(values))
    adder_and_mean(values, 3.0)
    if WAY == "hosts":
        mean_host(values)
    if WAY == "code" and size == 2:
        sys.exit(3)
