"""Training on two one-core workers against one, modelled for up to 64 workers; and the cost of a checkpoint.

`make bench-cluster` runs it with MiniLM. Each member is a process with its own core and rows of one length, so that
only computing and the collective are measured, without Spark's start and validation. Two cores of one machine slow
each other down, unlike two machines: two processes that train independently at the same time show by how much.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from hydra import compose, initialize_config_dir

from distilspark.config import TrainConfig, from_hydra
from distilspark.paths import CONF, ROOT
from distilspark.training.distributed.spark_stage import find_free_port
from results_file import machine, write_results

WORKERS = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}  # bytes a second
LATENCY = 50e-6  # seconds for a message within a data centre


def main() -> None:
    """Measure, model and write the results; with `--member`, run one member."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32, help="rows of a global batch")
    parser.add_argument("--tokens", type=int, default=32, help="of a row")
    parser.add_argument("--steps", type=int, default=15, help="that are measured, after three more")
    parser.add_argument("--model", default="minilm", help="a file of conf/model/")
    parser.add_argument("--member", type=int)
    parser.add_argument("--addresses", nargs="*", default=[])
    parser.add_argument("--alone", action="store_true", help="members that know nothing of one another")
    arguments = parser.parse_args()
    if arguments.member is not None:
        print(json.dumps(be_member(arguments)))
        return
    before = machine()
    measured = {
        "one_worker": run_members(arguments, 1, arguments.batch),
        "one_worker_half_the_batch": run_members(arguments, 1, arguments.batch // 2),
        "two_alone_at_once": run_members(arguments, 2, arguments.batch, alone=True),
        "two_workers": run_members(arguments, 2, arguments.batch),
        "two_workers_twice_the_batch": run_members(arguments, 2, 2 * arguments.batch),
    }
    settings = {name: getattr(arguments, name) for name in ("model", "batch", "tokens", "steps")}
    paper = on_paper(measured, arguments.batch)
    write_results("cluster_training", {"machine": before, **settings, "measured": measured, "on_paper": paper})


def run_members(arguments: argparse.Namespace, members: int, batch: int, alone: bool = False) -> dict[str, Any]:
    """Start the members, each on its own core; return the median seconds of a step and of the collective alone."""
    addresses = [f"127.0.0.1:{find_free_port()}" for _ in range(members)]
    sizes = ["--batch", str(batch), "--tokens", str(arguments.tokens), "--steps", str(arguments.steps)]
    options = ["--model", arguments.model, *(["--alone"] if alone else []), "--addresses", *addresses]
    command = [sys.executable, __file__, *sizes, *options, "--member"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    started = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(members)
    ]
    try:
        said = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in started]
    finally:
        for process in started:
            process.kill()
    return {"workers": members, "batch": batch, **{name: max(each[name] for each in said) for name in said[0]}}


def be_member(arguments: argparse.Namespace) -> dict[str, float]:
    """Train on made-up rows; a single member needs no collective."""
    os.sched_setaffinity(0, {arguments.member})
    members = len(arguments.addresses)
    import numpy as np
    import tensorflow as tf

    from distilspark.training.distributed.collectives import (
        GRADIENTS_KEY,
        all_reduce_mean,
        all_reduce_rows,
        start_collectives,
    )
    from distilspark.training.distributed.shards import Shard
    from distilspark.training.distributed.strategy import CollectiveWorkers, SingleProcess, Strategy

    together = members > 1 and not arguments.alone
    if together:
        collectives: Any = start_collectives(arguments.member, arguments.addresses, 1)
        strategy: Strategy = CollectiveWorkers(Shard(arguments.member, (1,) * members), lambda own: [own] * members)
    else:
        collectives, strategy = tf.config.threading.set_intra_op_parallelism_threads(1), SingleProcess()
    network, step, gradients = _training_step(arguments.model, strategy, arguments.batch // members, arguments.tokens)
    seconds = _median_seconds(step, arguments.steps)
    embeddings = [gradient for gradient in gradients if isinstance(gradient, tf.IndexedSlices)]
    dense = [gradient for gradient in gradients if not isinstance(gradient, tf.IndexedSlices)]

    @tf.function  # type: ignore[misc]
    def reduce() -> None:
        all_reduce_mean(dense, members, GRADIENTS_KEY)
        for gradient in embeddings:
            all_reduce_rows(gradient, members)

    collective = _median_seconds(reduce, arguments.steps) if together else 0.0
    rows = [len(np.unique(gradient.indices)) * gradient.values.shape[-1] for gradient in embeddings]
    del collectives
    checkpoint, size = _checkpoint(network)
    return {
        "step": round(seconds, 4),
        "collective": round(collective, 4),
        "gradient_mb": round(4 * (sum(rows) + sum(gradient.shape.num_elements() for gradient in dense)) / 1e6, 1),
        "checkpoint": round(checkpoint, 2),
        "checkpoint_mb": round(size / 1e6, 1),
    }


def _training_step(model: str, strategy: Any, rows: int, tokens: int) -> tuple[Any, Callable[[], Any], list[Any]]:
    """Return a network, a function that trains it on a batch, and that batch's gradients."""
    import numpy as np
    import tensorflow as tf

    from distilspark.model.checkpoints import fetch
    from distilspark.model.losses import make_loss
    from distilspark.training.loop import build_initial_network

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = from_hydra(TrainConfig, compose("train", [f"model={model}"]))
    network = build_initial_network(config, fetch(config.model))
    strategy.offset_dropout_seeds(network)
    optimizer = strategy.make_optimizer(config.training, 1000)
    network.compile(optimizer, strategy.make_loss(make_loss("cross_entropy")), jit_compile=False)
    rng = np.random.default_rng(0)
    vocabulary = max(variable.shape[0] for variable in network.trainable_variables)
    ids = rng.integers(1000, min(20000, vocabulary), (rows, tokens)).astype(np.int32)
    inputs, labels = {"token_ids": ids, "padding_mask": np.ones_like(ids)}, rng.integers(0, 2, rows)
    with tf.GradientTape() as tape:
        outputs = network(inputs)
    gradients = tape.gradient(outputs, network.trainable_variables)
    return network, lambda: network.train_on_batch(inputs, labels), gradients


def _checkpoint(network: Any) -> tuple[float, int]:
    """Return the seconds and bytes of a checkpoint: all variables, the optimizer's, and the best weights."""
    import numpy as np

    from distilspark.training.checkpoint.store import CheckpointFolder

    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        variables = [*network.variables, *network.optimizer.variables, *network.weights]
        arrays = {str(number): np.asarray(variable) for number, variable in enumerate(variables)}
        file = CheckpointFolder(Path(scratch) / "training").save(arrays, {})
        return time.perf_counter() - started, file.stat().st_size


def _median_seconds(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times + 3):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return median(seconds[3:])


def on_paper(measured: dict[str, Any], batch: int) -> dict[str, Any]:
    """Model a step as a fixed time, a time for each row of a worker, and the time of the ring all-reduce.

    The first two are a line through the steps of one worker. The ring of N workers moves 2 (N - 1) / N of the gradient
    in 2 (N - 1) messages (Patarasuk and Yuan 2009). A byte costs the collective's time measured here, where the two
    members had no network between them, plus the network's time. The model is checked against the two measured points,
    with the slowdown of two cores on this machine.
    """
    whole, half = measured["one_worker"], measured["one_worker_half_the_batch"]
    row = (whole["step"] - half["step"]) / (whole["batch"] - half["batch"])
    fixed = whole["step"] - row * whole["batch"]
    gradient = 1e6 * whole["gradient_mb"]
    slowdown = measured["two_alone_at_once"]["step"] / half["step"]
    byte = measured["two_workers"]["collective"] / gradient
    checks = {}
    for name in ("two_workers", "two_workers_twice_the_batch"):
        point = measured[name]
        said = slowdown * (fixed + row * point["batch"] / point["workers"]) + byte * gradient
        checks[name] = {
            "model": round(said, 4),
            "measured": point["step"],
            "ratio": round(said / point["step"], 2),
            "collective_share": round(point["collective"] / point["step"], 2),
        }

    def ring(workers: int, bandwidth: float) -> float:
        moved = 2 * (workers - 1) / workers * gradient
        return moved * (byte + 1 / bandwidth) + 2 * (workers - 1) * LATENCY

    def point(workers: int, bandwidth: float) -> dict[str, float]:
        same = fixed + row * batch / workers + ring(workers, bandwidth)
        grown = fixed + row * batch + ring(workers, bandwidth)
        return {
            "workers": workers,
            "same_batch_speedup": round(whole["step"] / same, 2),
            "batch_grows_speedup": round(workers * whole["step"] / grown, 2),
            "same_batch_collective_share": round(ring(workers, bandwidth) / same, 3),
            "batch_grows_collective_share": round(ring(workers, bandwidth) / grown, 3),
        }

    return {
        "fixed_seconds": round(fixed, 4),
        "seconds_per_row": round(row, 5),
        "slowdown_of_two_cores": round(slowdown, 2),
        "collective_gb_a_second": round(1e-9 / byte, 3),
        "checks": checks,
        "scaling": {network: [point(workers, speed) for workers in WORKERS] for network, speed in NETWORKS.items()},
    }


if __name__ == "__main__":
    main()
