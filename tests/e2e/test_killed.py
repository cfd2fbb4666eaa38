"""A killed training resumes in the same run when its command is repeated, and ends with the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import Run

from helpers.processes import Place, end_group, train_command
from helpers.texts import lines_with

pytestmark = pytest.mark.slow
TRAINING = ("task=cola", "training.epochs=5", "training.batch_size=8", "training.early_stopping.patience=5")
OFTEN = "training.checkpoint_every=5 steps"
FULL = "No space left on device"


def run_named(place: Place, name: str) -> Run:
    (run,) = [run for run in place.runs("distilspark-cola") if run.data.params.get("registry.name") == name]
    return run


def epochs(place: Place, run: Run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in place.client.get_metric_history(run.info.run_id, "train/loss")]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[str]:
    """Mount a file system of the given size; yield "" or the reason why it could not be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    try:
        yield mounted.stderr.strip()
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)


@dataclass(frozen=True)
class Unbroken:
    """A training without interruption."""

    run: Run
    said: str
    no_small_disk: str  # the reason, or empty


@pytest.fixture(scope="module")
def unbroken(place: Place, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """Trains with checkpoints on a disk with room for one (weights, two moments, later the best weights), not two."""
    folder = tmp_path_factory.mktemp("disk") / "small"
    size = 5 * (tiny_folder / "model.safetensors").stat().st_size
    with small_disk(folder, size) as reason:
        ended = place.train(*TRAINING, OFTEN, "registry.name=unbroken", f"training.checkpoints={folder}")
    assert ended.returncode == 0, ended.stderr
    return Unbroken(run_named(place, "unbroken"), ended.stdout, reason)


def test_training_continues_without_checkpoints_when_the_disk_is_full(unbroken: Unbroken) -> None:
    if unbroken.no_small_disk:
        pytest.skip(f"a small file system needs root: {unbroken.no_small_disk}")
    assert unbroken.run.info.status == "FINISHED"
    assert not lines_with(unbroken.said, FULL, "epoch 1", "step 5"), "there is room for the first"
    assert lines_with(unbroken.said, FULL, "checkpoint")


def stop_within(folder: Path, epoch: int, process: subprocess.Popen[str]) -> int:
    """Send SIGSTOP once the newest checkpoint was saved within epoch `epoch` or later; return its epoch."""
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
        if not list(folder.glob("*/*.npz")):
            continue
        os.killpg(process.pid, signal.SIGSTOP)
        files = sorted(folder.glob("*/*.npz"))
        if len(files) == 2:
            with np.load(files[-1]) as content:
                position = json.loads(str(content["state"]))["position"]
            if position["epoch"] >= epoch and position["step"]:
                return int(position["epoch"])
        os.killpg(process.pid, signal.SIGCONT)
    process.kill()
    return pytest.fail(f"no checkpoint within epoch {epoch}: {process.communicate()}")


def test_training_resumes_after_sigkill_in_the_same_run_with_the_same_weights(
    place: Place, unbroken: Unbroken, tmp_path: Path
) -> None:
    """The newest checkpoint is damaged too, so that the one before it is used."""
    folder = tmp_path / "checkpoints"
    command = train_command(*TRAINING, OFTEN, "registry.name=killed", f"training.checkpoints={folder}")
    process = place.start(*command)
    try:
        reached = stop_within(folder, 1, process)
    finally:
        end_group(process)
    killed = run_named(place, "killed")
    assert killed.info.status == "RUNNING"
    assert len(epochs(place, killed)) in (reached, reached + 1)
    newest = max(folder.glob("*/*.npz"))
    newest.write_bytes(newest.read_bytes()[:-7])

    ended = place.run(*command)
    assert ended.returncode == 0, ended.stderr
    assert len(lines_with(ended.stdout, str(newest), "damaged")) == 1
    run = run_named(place, "killed")
    assert (run.info.run_id, run.info.status) == (killed.info.run_id, "FINISHED")
    assert len(lines_with(ended.stdout, run.data.tags["resumed.after"], "checkpoint")) == 1
    assert run.data.tags["model.weights_sha256"] == unbroken.run.data.tags["model.weights_sha256"]
    assert epochs(place, run) == epochs(place, unbroken.run)
    assert [step for step, _ in epochs(place, run)] == list(range(1, 6))
    dev = {name: value for name, value in run.data.metrics.items() if name.startswith("dev/")}
    assert dev and all(unbroken.run.data.metrics[name] == value for name, value in dev.items())
    assert list(folder.iterdir()) == [], "a training that is finished needs them no more"
