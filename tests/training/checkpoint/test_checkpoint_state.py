"""An interrupted training resumes to the same weights, wherever it was interrupted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.training.checkpoint.state import (
    CheckpointOptions,
    CheckpointTimer,
    read_trained_state,
    weights_digest,
)
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.training.loop import load_trained_state
from distilspark.training.targets import make_target_transform
from helpers.checkpoints import Interrupting
from helpers.texts import lines_with

Train = Callable[..., Any]
CHANGED = ("training.batch_size=8", "training.learning_rate=5e-3", "training.epochs=9")


@pytest.fixture(scope="module")
def turned(toy_rows: Callable[..., Any]) -> dict[str, Any]:
    """Rows with inverted validation labels: the first epochs are the best, and training stops early."""
    encoded, labels = toy_rows(40, seed=1)
    return {"train": toy_rows(70), "validation": (encoded, 1 - labels)}


def without_times(history: Any) -> Any:
    return history.drop(columns="time/epoch")


@pytest.mark.slow
@pytest.mark.parametrize(
    "option, interruptions",
    [
        ("training.averaging=off", (1, 3, 4)),  # an epoch has 9 steps; checkpoints after 4, 8 and the last
        ("training.averaging=ema", (1, 3, 4)),
        ("training.averaging=soup", (1, 3, 4)),
        ("training.validate_every=0.5", (2, 2, 2)),  # after 4 and the epoch's end; 8 is within a part
    ],
)
def test_resumed_training_equals_the_uninterrupted_one(
    train_toy: Train,
    toy_rows: Callable[..., Any],
    turned: dict[str, Any],
    tmp_path: Path,
    option: str,
    interruptions: tuple[int, ...],
) -> None:
    """Interrupted in the first epoch, at an epoch's end and in a later one; once the newest checkpoint is damaged."""
    settings = (*CHANGED, option)
    # with inverted labels the soup would have only one epoch
    rows = {**turned, "validation": toy_rows(40, seed=1)} if option.endswith("soup") else turned
    network, whole, reported = train_toy(*settings, **rows)
    assert 3 <= len(whole.history) < 9, "it is to stop early, but not at once"
    assert whole.best_epoch < len(whole.history)
    assert (len(whole.kept_steps) > 1) == (option.endswith("soup"))
    for number, left in enumerate(interruptions):
        folder = Interrupting(tmp_path / "training")
        folder.left = left
        with pytest.raises(KeyboardInterrupt):
            train_toy(*settings, **rows, checkpoints=CheckpointOptions(folder, "4 steps", "run", "rows"))
        newest = max(folder.path.iterdir())
        if number == 1:
            newest.write_bytes(newest.read_bytes()[:-1])
    again = CheckpointOptions(CheckpointFolder(tmp_path / "training"), "4 steps", "run", "rows")
    resumed, result, reported_again = train_toy(*settings, **rows, checkpoints=again)
    assert weights_digest(resumed) == weights_digest(network)
    assert without_times(result.history).equals(without_times(whole.history))
    assert (result.best_epoch, result.class_weights) == (whole.best_epoch, whole.class_weights)
    assert (result.kept_steps, result.kept_metrics) == (whole.kept_steps, whole.kept_metrics)
    assert [epoch for epoch, _ in reported_again] == [epoch for epoch, _ in reported]
    finished = CheckpointFolder(tmp_path / "training")
    assert finished.latest is not None and finished.latest.state["position"] == {"epoch": 9, "step": 0}
    done, result, _ = train_toy(*settings, **rows, checkpoints=CheckpointOptions(finished, "4 steps", "run", "rows"))
    assert weights_digest(done) == weights_digest(network)
    assert without_times(result.history).equals(without_times(whole.history))
    assert (result.kept_steps, result.kept_metrics) == (whole.kept_steps, whole.kept_metrics)


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["off", "ema", "soup"])
def test_another_process_loads_the_trained_state(
    train_toy: Train,
    toy_rows: Callable[..., Any],
    compose_config: Callable[..., TrainConfig],
    tmp_path: Path,
    averaging: str,
) -> None:
    """As the driver does after training on workers, with standardized labels."""
    encoded, labels = toy_rows(40)
    changed = ("training.epochs=2", "training.standardize_labels=true")
    rows, settings = (encoded, 5 * labels), (*changed, f"training.averaging={averaging}")
    options = CheckpointOptions(CheckpointFolder(tmp_path / "training"), "4 steps", "run", "rows")
    network, result, _ = train_toy(*settings, task="stsb", train=rows, checkpoints=options)
    trained = weights_digest(network)
    network.set_weights([np.zeros_like(each) for each in network.get_weights()])
    config = compose_config("model=tiny", "task=stsb", *settings)
    last = CheckpointFolder(tmp_path / "training").latest
    assert last is not None
    target = make_target_transform(rows[1], config.task, config.training)
    loaded = load_trained_state(network, read_trained_state(last), target)
    assert weights_digest(network) == trained
    assert loaded.history.equals(result.history)
    assert (loaded.best_epoch, loaded.class_weights) == (result.best_epoch, result.class_weights)
    assert (loaded.kept_steps, loaded.kept_metrics) == (result.kept_steps, result.kept_metrics)


@pytest.mark.slow
def test_weights_are_the_same_with_checkpoints_and_with_a_full_disk(
    train_toy: Train, turned: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(CheckpointFolder):
        def save(self, arrays: Any, state: Any) -> Path:
            raise OSError(28, "No space left on device")

    settings = ("training.batch_size=32", "training.epochs=2")
    digests = {weights_digest(train_toy(*settings, **turned)[0])}
    for folder in (CheckpointFolder(tmp_path / "kept"), Full(tmp_path / "full")):
        digests.add(
            weights_digest(
                train_toy(*settings, **turned, checkpoints=CheckpointOptions(folder, "1 steps", "run", "rows"))[0]
            )
        )
    assert len(digests) == 1
    printed = capsys.readouterr().out
    assert lines_with(printed, "checkpoint", "epoch 1", "step 1", "No space left on device")


@pytest.mark.slow
def test_checkpoint_of_another_training_is_refused(
    train_toy: Train, toy_rows: Callable[..., Any], tmp_path: Path
) -> None:
    folder = Interrupting(tmp_path / "training")
    folder.left = 1
    with pytest.raises(KeyboardInterrupt):
        train_toy(train=toy_rows(32), checkpoints=CheckpointOptions(folder, "1 steps", "run", "rows"))
    again = CheckpointFolder(tmp_path / "training")
    with pytest.raises(UserError, match=r"other rows.*training\.resume=false"):
        train_toy(train=toy_rows(32), checkpoints=CheckpointOptions(again, "1 steps", "run", "other rows"))


@pytest.mark.slow
def test_checkpoint_without_an_origin_is_refused(
    train_toy: Train, toy_rows: Callable[..., Any], tmp_path: Path
) -> None:
    folder = CheckpointFolder(tmp_path / "training")
    folder.save({}, {"run": "run"})
    with pytest.raises(UserError, match=r"training\.resume=false"):
        train_toy(
            train=toy_rows(32),
            checkpoints=CheckpointOptions(CheckpointFolder(folder.path), "1 steps", "run", "rows"),
        )


@pytest.mark.slow
def test_checkpoint_has_the_file_format_of_0_1_0(train_toy: Train, turned: dict[str, Any], tmp_path: Path) -> None:
    """Other names would prevent resuming a training that version 0.1.0 began."""
    folder = Interrupting(tmp_path / "training")
    folder.left = 4
    with pytest.raises(KeyboardInterrupt):
        train_toy(*CHANGED, **turned, checkpoints=CheckpointOptions(folder, "4 steps", "run", "rows"))
    latest = CheckpointFolder(folder.path).latest
    assert latest is not None
    assert re.fullmatch(r"00000004-[0-9a-f]{64}\.npz", latest.file.name)
    assert set(latest.state) == {"run", "origin", "position", "after", "stopping", "history", "seconds"}
    assert latest.state["position"] == {"epoch": 1, "step": 4}
    assert set(latest.state["stopping"]) == {"wait", "stopped_epoch", "best", "best_epoch"}
    assert {name.partition("/")[0] for name in latest.arrays()} == {"network", "optimizer", "metrics", "best"}


def test_checkpoint_is_due_after_steps_or_seconds() -> None:
    timer = CheckpointTimer("3 steps")
    assert [timer.count_step() for _ in range(3)] == [False, False, True]
    timer.restart()
    assert not timer.count_step()
    assert not CheckpointTimer("1000 seconds").count_step()
    past = CheckpointTimer("1 seconds")
    past.started -= 2
    assert past.count_step()


def test_weights_digest_changes_with_a_single_bit(tiny_folder: Path) -> None:
    from distilspark.model.network import build_network

    network = build_network(tiny_folder, "regression")
    before = weights_digest(network)
    bias = network.get_layer("classifier").bias
    bias.assign(np.nextafter(bias.numpy(), np.float32(1)))
    assert weights_digest(network) != before
