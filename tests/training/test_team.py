"""Two processes, the collectives between them, and one process that has all rows: the same steps."""

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
from distilspark.training.team import Agreement
from distilspark.training.workers import free_port

JOIN = """
import sys
from distilspark.training.team import join, mean_over_members
rank, addresses = int(sys.argv[1]), sys.argv[2:]
strategy = join(rank, addresses, 1)
import tensorflow as tf
@tf.function
def step(x, y):
    return mean_over_members([x, y], 2, 1), mean_over_members([y], 2, 2)
for number in range(3):
    (x, y), (z,) = step(tf.fill([2, 3], float(rank + number)), tf.constant([10.0 * rank]))
print(x.shape.as_list(), x.numpy().mean(), y.numpy(), z.numpy(), flush=True)
"""


def start(rank: int, *addresses: str) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "2", "PATH": ""}
    command = [sys.executable, "-c", JOIN, str(rank), *addresses]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_members_have_the_mean_of_what_they_brought() -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    processes = [start(rank, *addresses) for rank in range(2)]
    try:
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for output, error in ended:
        assert output == "[2, 3] 2.5 [5.] [5.]\n", error


@pytest.mark.slow
def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(0, address, f"127.0.0.1:{free_port()}")
        try:
            _, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert f"WorkError: worker 0 cannot listen at {address}" in error


@pytest.fixture(scope="module")
def network(tiny_folder: Path) -> keras.Model:
    network = build_network(tiny_folder, "regression")
    network.stop_training = False
    return network


def test_weights_that_differ_end_the_training(network: keras.Model) -> None:
    agreement = Agreement(lambda mine: [mine, json.dumps({"weights": "0" * 64, "stop": False})])
    agreement.set_model(network)
    with pytest.raises(WorkError, match=r"after epoch 3 the workers' weights differ \([0-9a-f]{12}, 0{12}\)"):
        agreement.on_epoch_end(2)


@pytest.mark.parametrize("leader, follower", [(True, False), (False, True), (False, False)])
def test_all_stop_where_the_first_stops(network: keras.Model, leader: bool, follower: bool) -> None:
    told: list[str] = []

    def exchange(mine: str) -> list[str]:
        told.append(mine)
        return [told[0], mine]

    for own in (leader, follower):
        agreement = Agreement(exchange)
        agreement.set_model(network)
        network.stop_training = own
        agreement.on_epoch_end(0)
        assert network.stop_training is leader
