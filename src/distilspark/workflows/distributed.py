"""The driver's side of training on Spark workers: follow checkpoints, log epochs, read the result."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
from pyspark.sql import DataFrame

from distilspark.config import TrainConfig
from distilspark.console import print_line
from distilspark.errors import WorkError
from distilspark.tracking.results import epoch_log
from distilspark.training.callbacks import EpochLogger, print_epoch
from distilspark.training.checkpoint.state import CheckpointOptions, TrainedState, read_trained_state
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.training.distributed.spark_stage import (
    PRETRAINED,
    make_worker_settings,
    run_training_stage,
    worker_logs,
)
from distilspark.training.targets import TargetTransform


class EpochFollower:
    """A reader of the chief's checkpoints that logs and prints new epochs."""

    def __init__(self, folder: CheckpointFolder, config: TrainConfig, log_epoch: EpochLogger) -> None:
        """Existing epochs are logged if they are not yet, but not printed."""
        self.folder, self.config, self.log_epoch = folder, config, log_epoch
        self.printed = len(folder.history())

    def poll(self) -> None:
        """Log and print the epochs of the newest checkpoint."""
        for number, row in enumerate(self.folder.history(), start=1):
            metrics = {name: value for name, value in row.items() if name != "epoch"}
            self.log_epoch(number, metrics)
            if number > self.printed:
                self.printed = number
                print_epoch(row["epoch"], self.config.training.epochs, metrics, self.config.task.metric)


def train_on_workers(
    config: TrainConfig,
    rows: DataFrame,
    target: TargetTransform,
    checkpoints: CheckpointOptions | None,
    start: Path,
) -> TrainedState:
    """Train in a Spark stage, log the epochs while it runs, and read the result from the last checkpoint.

    `rows` are those of train and validation, as `with_token_ids` returns them. Workers fetch the checkpoint themselves;
    a pretrained one, `start`, is copied to the folder that they share with the driver.

    Raises:
        WorkError: there is no folder for checkpoints, the stage failed, or the last checkpoint is missing.

    """
    if checkpoints is None:
        raise WorkError("workers need a checkpoint folder that no other training uses: set training.checkpoints")
    folder = checkpoints.folder
    if config.training.pretraining.rows:
        shutil.copytree(start, folder.path / PRETRAINED, dirs_exist_ok=True)
    follower = EpochFollower(folder, config, epoch_log(checkpoints.run_id))
    print_line(f"training on {config.training.workers} workers")
    try:
        run_training_stage(rows, make_worker_settings(config, target, checkpoints), follower.poll)
    finally:
        for file in worker_logs(folder.path):
            mlflow.log_artifact(str(file), "workers")
    folder.refresh()
    if not folder.latest or folder.latest.state["position"]["epoch"] < config.training.epochs:
        raise WorkError(
            f"the result of the workers' training is not in {folder.path}: it is full, or not shared by the "
            "driver and all workers. Set training.checkpoints to another folder"
        )
    return read_trained_state(folder.latest)
