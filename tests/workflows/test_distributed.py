"""The driver logs its workers' epochs and log files, and refuses an incomplete result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from distilspark.config import TrainConfig
from distilspark.errors import WorkError
from distilspark.training.checkpoint.state import CheckpointOptions
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.workflows import distributed
from distilspark.workflows.distributed import EpochFollower, train_on_workers
from helpers.texts import lines_with

ANY: Any = None


@pytest.fixture
def config(compose_config: Callable[..., TrainConfig]) -> TrainConfig:
    return compose_config("model=tiny", "training.workers=2", "training.epochs=3")


def write_epochs(folder: CheckpointFolder, epochs: int) -> None:
    history = [
        {"epoch": number, "train/loss": 0.5 / number, "val/loss": 0.5, "val/mcc": 0.25, "time/epoch": 1.0}
        for number in range(1, epochs + 1)
    ]
    folder.save({}, {"history": history, "position": {"epoch": epochs, "step": 0}})


def test_epochs_are_printed_once_and_not_again_after_a_restart(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, logged = CheckpointFolder(tmp_path / "kept"), []
    follower = EpochFollower(folder, config, lambda epoch, metrics: logged.append((epoch, metrics["train/loss"])))
    follower.poll()
    assert (logged, capsys.readouterr().out) == ([], "")
    write_epochs(folder, 2)
    follower.poll()
    assert logged == [(1, 0.5), (2, 0.25)]
    printed = capsys.readouterr().out
    assert [len(lines_with(printed, f"{number}/3")) for number in (1, 2, 3)] == [1, 1, 0]
    follower.poll()
    EpochFollower(folder, config, lambda epoch, metrics: logged.append((epoch, 0))).poll()
    assert capsys.readouterr().out == ""
    assert logged[-2:] == [(1, 0), (2, 0)], "logged again, in case the earlier process did not come to it"


def test_workers_without_a_folder_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"training\.checkpoints"):
        train_on_workers(config, ANY, ANY, None, tmp_path)


@pytest.mark.parametrize("epochs", [0, 2])
def test_incomplete_result_is_refused_and_the_logs_are_kept(
    config: TrainConfig, run: Callable[[], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    folder = CheckpointFolder(tmp_path / "kept")

    def stage(rows: Any, settings: Any, poll: Callable[[], None]) -> None:
        folder.path.mkdir(exist_ok=True)
        (folder.path / "worker-1.log").write_text("its log")
        if epochs:
            write_epochs(folder, epochs)
        poll()

    monkeypatch.setattr(distributed, "run_training_stage", stage)
    options = CheckpointOptions(folder, "1 steps", run().info.run_id, "rows")
    with pytest.raises(WorkError, match=rf"{folder.path}\b.*training\.checkpoints"):
        train_on_workers(config, ANY, ANY, options, tmp_path)
    logged = mlflow.MlflowClient().list_artifacts(run().info.run_id, "workers")
    assert [item.path for item in logged] == ["workers/worker-1.log"]
    assert len(mlflow.MlflowClient().get_metric_history(run().info.run_id, "train/loss")) == epochs
