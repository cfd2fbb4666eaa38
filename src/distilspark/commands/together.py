"""A training on Spark's workers as its run sees it: where it goes on, what is logged while it lasts, what came out."""

from __future__ import annotations

import mlflow
from pyspark.sql import DataFrame
from tokenizers import Tokenizer

from distilspark.config import TrainConfig
from distilspark.console import say
from distilspark.errors import WorkError
from distilspark.tracking.results import epoch_log
from distilspark.tracking.runs import active_run_id
from distilspark.training.callbacks import tell_epoch
from distilspark.training.checkpointing import CheckpointFolder
from distilspark.training.fit import Aim
from distilspark.training.resuming import Checkpoints, Outcome, outcome_of
from distilspark.training.workers import make_job, train_on_workers, worker_logs


def find_checkpoints(config: TrainConfig, kept: CheckpointFolder | None, digest: str) -> Checkpoints | None:
    """What the active run's training keeps, and goes on from; tells where that is.

    Raises:
        WorkError: there is no folder for what workers need one for.

    """
    if kept is None:
        if config.training.workers > 1:
            raise WorkError("workers need a folder for checkpoints that is this training's alone: training.checkpoints")
        return None
    if kept.found:
        say(f"going on after {kept.found.state['after']}, from a checkpoint (training.resume=false starts anew)")
        mlflow.set_tag("resumed.after", kept.found.state["after"])
    return Checkpoints(kept, str(config.training.checkpoint_every), active_run_id(), digest)


def train_together(
    config: TrainConfig, tokenizer: Tokenizer, rows: DataFrame, aim: Aim, checkpoints: Checkpoints | None
) -> Outcome:
    """Let Spark's workers train, and log the epochs as they happen; what came of it is in the last checkpoint.

    Raises:
        WorkError: they failed, or the last checkpoint is not there.

    """
    assert checkpoints is not None
    folder, log = checkpoints.folder, epoch_log(checkpoints.run_id)
    shown = ("train/loss", "val/loss", f"val/{config.task.metric}")
    told = len(folder.history())

    def follow() -> None:
        nonlocal told
        for row in folder.history():
            epoch, metrics = int(row["epoch"]), {name: value for name, value in row.items() if name != "epoch"}
            log(epoch, metrics)
            if epoch > told:
                told = epoch
                tell_epoch(epoch, config.training.epochs, metrics, shown)

    say(f"training on {config.training.workers} workers")
    try:
        train_on_workers(rows, make_job(config, tokenizer, aim, checkpoints), follow)
    finally:
        for file in worker_logs(folder.path):
            mlflow.log_artifact(str(file), "workers")
    folder.look()
    if not folder.found or folder.found.state["position"]["epoch"] < config.training.epochs:
        raise WorkError(
            f"what the workers trained is not in {folder.path}: it is full, or not shared by the "
            "driver and all workers. Set training.checkpoints to another folder"
        )
    return outcome_of(folder.found)
