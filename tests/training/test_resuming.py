"""A training that is broken off goes on to the same weights, wherever that was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.training.checkpointing import CheckpointFolder
from distilspark.training.fit import aim_at, take_over
from distilspark.training.resuming import Checkpoints, Clock, outcome_of, weights_digest

Train = Callable[..., Any]
CHANGED = ("training.batch_size=8", "training.learning_rate=5e-3", "training.epochs=9")


class Broken(CheckpointFolder):
    """The process ends right after so many checkpoints."""

    left = 0

    def save(self, arrays: Any, state: Any) -> Path:
        """Save, or end."""
        file = super().save(arrays, state)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return file


@pytest.fixture(scope="module")
def turned(toy_rows: Callable[..., Any]) -> dict[str, Any]:
    """Validation labels are turned round: the first epochs are the best, and the training stops early."""
    encoded, labels = toy_rows(40, seed=1)
    return {"train": toy_rows(70), "validation": (encoded, 1 - labels)}


def without_times(history: Any) -> Any:
    return history.drop(columns="time/epoch")


@pytest.mark.slow
def test_it_goes_on_as_if_nothing_had_been(train_toy: Train, turned: dict[str, Any], tmp_path: Path) -> None:
    """Broken off in the first epoch, at an epoch's end, in a later one; once the newest checkpoint is damaged too."""
    network, whole, reported = train_toy(*CHANGED, **turned)
    assert 3 <= len(whole.history) < 9, "it is to stop early, but not at once"
    assert whole.best_epoch < len(whole.history)
    for number, left in enumerate((1, 3, 4)):  # of 9 steps: after 4, 8, the last, 4, 8, the last, ...
        folder = Broken(tmp_path / "training")
        folder.left = left
        with pytest.raises(KeyboardInterrupt):
            train_toy(*CHANGED, **turned, checkpoints=Checkpoints(folder, "4 steps", "run", "rows"))
        newest = max(folder.path.iterdir())
        if number == 1:
            newest.write_bytes(newest.read_bytes()[:-1])
    again = Checkpoints(CheckpointFolder(tmp_path / "training"), "4 steps", "run", "rows")
    resumed, result, reported_again = train_toy(*CHANGED, **turned, checkpoints=again)
    assert weights_digest(resumed) == weights_digest(network)
    assert without_times(result.history).equals(without_times(whole.history))
    assert (result.best_epoch, result.class_weights) == (whole.best_epoch, whole.class_weights)
    assert [epoch for epoch, _ in reported_again] == [epoch for epoch, _ in reported]
    finished = CheckpointFolder(tmp_path / "training")
    assert finished.found is not None and finished.found.state["position"] == {"epoch": 9, "step": 0}
    done, result, _ = train_toy(*CHANGED, **turned, checkpoints=Checkpoints(finished, "4 steps", "run", "rows"))
    assert weights_digest(done) == weights_digest(network)
    assert without_times(result.history).equals(without_times(whole.history))


@pytest.mark.slow
def test_another_process_can_take_over_what_it_came_to(
    train_toy: Train, toy_rows: Callable[..., Any], compose_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    """As the driver does when workers have trained; the labels' scale too."""
    encoded, labels = toy_rows(40)
    rows, settings = (encoded, 5 * labels), ("training.epochs=2", "training.standardize_labels=true")
    kept = Checkpoints(CheckpointFolder(tmp_path / "training"), "4 steps", "run", "rows")
    network, result, _ = train_toy(*settings, task="stsb", train=rows, checkpoints=kept)
    came_to = weights_digest(network)
    network.set_weights([np.zeros_like(each) for each in network.get_weights()])
    config = compose_config("model=tiny", "task=stsb", *settings)
    last = CheckpointFolder(tmp_path / "training").found
    assert last is not None
    taken = take_over(network, outcome_of(last), aim_at(rows[1], config.task, config.training))
    assert weights_digest(network) == came_to
    assert taken.history.equals(result.history)
    assert (taken.best_epoch, taken.class_weights) == (result.best_epoch, result.class_weights)


@pytest.mark.slow
def test_checkpoints_change_nothing_and_a_full_disk_does_not_stop_it(
    train_toy: Train, turned: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(CheckpointFolder):
        def save(self, arrays: Any, state: Any) -> Path:
            raise OSError(28, "No space left on device")

    settings = ("training.batch_size=32", "training.epochs=2")
    digests = {weights_digest(train_toy(*settings, **turned)[0])}
    for folder in (CheckpointFolder(tmp_path / "kept"), Full(tmp_path / "full")):
        digests.add(
            weights_digest(train_toy(*settings, **turned, checkpoints=Checkpoints(folder, "1 steps", "run", "rows"))[0])
        )
    assert len(digests) == 1
    said = capsys.readouterr().out
    assert "no checkpoint after epoch 1, step 1:" in said and "(No space left on device); training goes on" in said


@pytest.mark.slow
def test_another_training_s_checkpoint_is_refused(
    train_toy: Train, toy_rows: Callable[..., Any], tmp_path: Path
) -> None:
    folder = Broken(tmp_path / "training")
    folder.left = 1
    with pytest.raises(KeyboardInterrupt):
        train_toy(train=toy_rows(32), checkpoints=Checkpoints(folder, "1 steps", "run", "rows"))
    found = CheckpointFolder(tmp_path / "training")
    with pytest.raises(UserError, match=r"had other rows.*training\.resume=false"):
        train_toy(train=toy_rows(32), checkpoints=Checkpoints(found, "1 steps", "run", "other rows"))


def test_a_checkpoint_is_due_by_steps_or_seconds() -> None:
    clock = Clock("3 steps")
    assert [clock.is_due() for _ in range(3)] == [False, False, True]
    clock.restart()
    assert not clock.is_due()
    assert not Clock("1000 seconds").is_due()
    past = Clock("1 seconds")
    past.started -= 2
    assert past.is_due()


def test_digests_tell_weights_apart(tiny_folder: Path) -> None:
    from distilspark.model.network import build_network

    network = build_network(tiny_folder, "regression")
    before = weights_digest(network)
    bias = network.get_layer("classifier").bias
    bias.assign(np.nextafter(bias.numpy(), np.float32(1)))
    assert weights_digest(network) != before
