"""Training on two Spark workers equals training on one, on this machine and on a cluster, and survives kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run

from helpers.clusters import DRIVER, on_cluster, two_workers
from helpers.processes import Place, end_group, train_command
from helpers.texts import lines_with

pytestmark = pytest.mark.slow
SOUP = "training.averaging=soup"
TOGETHER = (
    "task=cola",
    "training.workers=2",
    "training.epochs=4",
    "training.batch_size=8",
    "training.early_stopping.patience=4",
    "training.averaging=ema",
    "training.checkpoint_every=5 steps",
)


def run_named(place: Place, name: str) -> Run:
    (run,) = [run for run in place.runs("distilspark-cola") if run.data.params.get("registry.name") == name]
    return run


def history(place: Place, run: Run, metric: str) -> dict[int, float]:
    points = place.client.get_metric_history(run.info.run_id, metric)
    assert len({point.step for point in points}) == len(points), "an epoch was logged twice"
    return {point.step: point.value for point in points}


@pytest.fixture(scope="module")
def no_dropout(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint without dropout."""
    folder = tmp_path_factory.mktemp("plain") / "tiny"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dropout": 0.0, "attention_dropout": 0.0}))
    return folder


@pytest.mark.parametrize("first", ["", "training.pretraining.rows=200"])
def test_two_workers_have_the_loss_curves_of_one(place: Place, no_dropout: Path, first: str) -> None:
    """Twenty epochs of one step each; the step holds all rows, in two shards of different sizes."""
    settings = ("training.epochs=20", "training.batch_size=1000", "training.early_stopping.patience=20", SOUP)
    plain = (f"model.path={no_dropout}", "model.dropout=0", "training.precision=float32")
    runs = []
    for workers in (1, 2):
        name = f"workers-{workers}{first and '-first'}"
        ended = place.train(
            "task=cola", *settings, *plain, first, f"training.workers={workers}", f"registry.name={name}"
        )
        assert ended.returncode == 0, ended.stderr
        runs.append(run_named(place, name))
    one, two = runs
    for metric in ("train/loss", "val/loss"):
        alone, together = history(place, one, metric), history(place, two, metric)
        assert list(alone) == list(together) == list(range(1, 21))
        np.testing.assert_allclose(list(together.values()), list(alone.values()), rtol=1e-4)
    assert one.data.metrics["val/kept_mcc"] == two.data.metrics["val/kept_mcc"]
    losses = history(place, one, "train/loss")
    assert losses[20] < 0.99 * losses[1], "it is to learn more than what is noise"
    assert set(two.data.metrics) - set(one.data.metrics) == {"time/step", "time/workers"}
    assert set(one.data.metrics) <= set(two.data.metrics)
    assert two.data.params["training.workers"] == "2"
    logs = [place.artifact(two, f"workers/worker-{rank}.log").read_text() for rank in range(2)]
    assert all(f"worker {rank} of 2: process " in log for rank, log in enumerate(logs))


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the newest checkpoint was saved within the second epoch or later."""
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        for file in sorted(folder.glob("*/*.npz"))[-1:]:
            try:
                with np.load(file) as content:
                    position = json.loads(str(content["state"]))["position"]
            except FileNotFoundError:  # replaced by the next checkpoint
                continue
            if position["epoch"] >= 1 and position["step"]:
                return
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"no checkpoint within epoch 2: {process.communicate()}")


def processes_of(folder: Path, rank: int) -> list[int]:
    (log,) = folder.glob(f"*/worker-{rank}.log")
    return [int(number) for number in re.findall(rf"worker {rank} of 2: process (\d+)", log.read_text())]


@pytest.fixture(scope="module")
def on_a_cluster(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training on a standalone cluster; one of its workers is killed during an epoch."""
    folder = tmp_path_factory.mktemp("shared")
    with two_workers(tmp_path_factory.mktemp("cluster") / "cluster") as cluster:
        settings = (*on_cluster(cluster), "registry.name=cluster", f"training.checkpoints={folder}")
        process = place.start(*train_command(*TOGETHER, *settings), **DRIVER)
        try:
            wait_for_checkpoint(folder, process)
            os.kill(processes_of(folder, 1)[0], signal.SIGKILL)
            output, error = process.communicate(timeout=240)
        finally:
            end_group(process)
    assert process.returncode == 0, error
    assert [line[:8] for line in output.splitlines() if line.startswith("epoch ")] == [
        f"epoch {n}/" for n in range(1, 5)
    ]
    return run_named(place, "cluster")


def test_killed_worker_is_replaced(place: Place, on_a_cluster: Run) -> None:
    assert on_a_cluster.info.status == "FINISHED"
    assert list(history(place, on_a_cluster, "train/loss")) == [1, 2, 3, 4]
    for rank in range(2):
        log = place.artifact(on_a_cluster, f"workers/worker-{rank}.log").read_text()
        assert len(re.findall(rf"worker {rank} of 2: process ", log)) == 2, "Spark started the stage twice"


def test_killed_driver_resumes_with_the_same_weights(place: Place, on_a_cluster: Run, tmp_path: Path) -> None:
    """Repeats the cluster's training on this machine, with another interruption; the weights are bit-identical."""
    folder = tmp_path / "checkpoints"
    command = train_command(*TOGETHER, "registry.name=here", f"training.checkpoints={folder}")
    process = place.start(*command)
    try:
        wait_for_checkpoint(folder, process)
    finally:
        end_group(process)
    killed = run_named(place, "here")
    assert killed.info.status == "RUNNING"
    ended = place.run(*command)
    assert ended.returncode == 0, ended.stderr
    run = run_named(place, "here")
    assert len(lines_with(ended.stdout, run.data.tags["resumed.after"], "checkpoint")) == 1
    assert (run.info.run_id, run.info.status) == (killed.info.run_id, "FINISHED")
    assert run.data.tags["model.weights_sha256"] == on_a_cluster.data.tags["model.weights_sha256"]
    for metric in ("train/loss", "val/loss"):
        assert history(place, run, metric) == history(place, on_a_cluster, metric)


def test_worker_that_dies_repeatedly_fails_the_run_with_the_reason(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    settings = ("registry.name=dying", f"training.checkpoints={folder}", "training.epochs=100000")
    attempts = "+spark.settings={spark.stage.maxConsecutiveAttempts: 2}"
    process = place.start(*train_command(*TOGETHER, *settings, attempts, "training.early_stopping.patience=100000"))
    killed: list[int] = []
    try:
        while process.poll() is None:
            time.sleep(0.05)
            if list(folder.glob("*/worker-1.log")):
                for number in set(processes_of(folder, 1)) - set(killed):
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                    killed.append(number)
        _, error = process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 1
    assert len(killed) == 2
    assert error.startswith("distilspark: ") and "workers" in error and error.count("\n") == 1
    run = run_named(place, "dying")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("WorkError: ") and "workers" in run.data.tags["error"]
    assert place.artifact(run, "workers/worker-1.log").is_file()
