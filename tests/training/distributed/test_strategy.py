"""The collectives between two processes, and the training strategies that use them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from distilspark.errors import WorkError
from distilspark.model.network import build_network
from distilspark.paths import ROOT
from distilspark.training.callbacks import StepTimer
from distilspark.training.distributed.shards import Shard
from distilspark.training.distributed.spark_stage import find_free_port
from distilspark.training.distributed.strategy import CollectiveWorkers, SingleProcess, Strategy, WorkerSync
from helpers.texts import lines_with

WORKER = """
import sys
from distilspark.training.distributed.collectives import all_reduce_mean, start_collectives
rank, addresses = int(sys.argv[1]), sys.argv[2:]
collectives = start_collectives(rank, addresses, 1)
import tensorflow as tf
@tf.function
def step(x, y):
    return all_reduce_mean([x, y], 2, 101), all_reduce_mean([y], 2, 102)
for number in range(3):
    (x, y), (z,) = step(tf.fill([2, 3], float(rank + number)), tf.constant([10.0 * rank]))
print(x.shape.as_list(), x.numpy().mean(), y.numpy(), z.numpy(), flush=True)

import keras
from distilspark.training.distributed.collectives import AllReduceAdam
optimizer = AllReduceAdam(world_size=2, learning_rate=0.1)
table, dense = keras.Variable([[1.0]] * 4), keras.Variable([1.0])
@tf.function
def train(rows, values):
    optimizer.apply([tf.IndexedSlices(values, rows, [4, 1]), values[0]], [table, dense])
optimizer.build([table, dense])
for rows in ([rank], [[3, 0, 3], [3, 1]][rank]):  # other rows, and another number of them, in each worker and step
    train.get_concrete_function(tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 1]))(
        tf.constant(rows), tf.ones([len(rows), 1])
    )
print([round(value, 4) for value in table.numpy().ravel().tolist()], flush=True)
"""


# Adam by hand, rate .1: the gradient is .5 for rows 0 and 1 in both steps, and 1.5 for row 3 in the second
ROWS_AFTER_TWO_STEPS = [0.8, 0.8, 1.0, 0.9256]


def start(rank: int, *addresses: str) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "2", "PATH": ""}
    command = [sys.executable, "-c", WORKER, str(rank), *addresses]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_all_reduce_returns_the_mean_to_every_worker() -> None:
    addresses = [f"127.0.0.1:{find_free_port()}" for _ in range(2)]
    processes = [start(rank, *addresses) for rank in range(2)]
    try:
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for output, error in ended:
        means, weights = output.splitlines()
        assert means == "[2, 3] 2.5 [5.] [5.]", error
        assert json.loads(weights) == pytest.approx(ROWS_AFTER_TWO_STEPS, abs=1e-3), error


@pytest.mark.slow
def test_occupied_port_is_named_in_the_error() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(0, address, f"127.0.0.1:{find_free_port()}")
        try:
            _, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert lines_with(error, "WorkError", "worker 0", address)


@pytest.fixture(scope="module")
def network(tiny_folder: Path) -> keras.Model:
    network = build_network(tiny_folder, "regression")
    network.stop_training = False
    return network


def test_training_fails_if_the_workers_weights_differ(network: keras.Model) -> None:
    sync = WorkerSync(lambda own: [own, json.dumps({"weights": "0" * 64, "stop": False})])
    sync.set_model(network)
    with pytest.raises(WorkError, match=r"validation 3\b.*\([0-9a-f]{12}, 0{12}\)"):
        sync.on_epoch_end(2)


@pytest.mark.parametrize("chief, other", [(True, False), (False, True), (False, False)])
def test_workers_stop_when_the_chief_stops(network: keras.Model, chief: bool, other: bool) -> None:
    messages: list[str] = []

    def all_gather(own: str) -> list[str]:
        messages.append(own)
        return [messages[0], own]

    for own in (chief, other):
        sync = WorkerSync(all_gather)
        sync.set_model(network)
        network.stop_training = own
        sync.on_epoch_end(0)
        assert network.stop_training is chief


def worker(rank: int) -> CollectiveWorkers:
    return CollectiveWorkers(Shard(rank, (3, 4)), lambda own: [own, own])


@pytest.mark.parametrize(
    "strategy, is_chief, expected",
    [
        (SingleProcess(), True, [keras.callbacks.Callback]),
        (worker(0), True, [StepTimer, keras.callbacks.Callback, WorkerSync]),
        (worker(1), False, [StepTimer, WorkerSync]),
    ],
)
def test_only_the_chief_has_the_chiefs_callbacks(strategy: Strategy, is_chief: bool, expected: list[type]) -> None:
    assert strategy.is_chief is is_chief
    assert [type(each) for each in strategy.make_callbacks([keras.callbacks.Callback()])] == expected


@pytest.mark.parametrize("strategy, same", [(SingleProcess(), True), (worker(0), True), (worker(1), False)])
def test_workers_other_than_the_chief_get_their_own_dropout_seeds(
    tiny_folder: Path, strategy: Strategy, same: bool
) -> None:
    network = build_network(tiny_folder, "regression", dropout=0.1)
    weights = {id(variable) for variable in network.weights}
    before = [variable.numpy().tolist() for variable in network.variables]
    strategy.offset_dropout_seeds(network)
    changed = [
        variable
        for variable, value in zip(network.variables, before, strict=True)
        if variable.numpy().tolist() != value
    ]
    assert not weights & {id(variable) for variable in changed}
    assert bool(changed) is not same
