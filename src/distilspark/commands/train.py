"""`train`: fine-tune, evaluate, log and register one model."""

from __future__ import annotations

from pathlib import Path

import mlflow
from omegaconf import DictConfig

from distilspark.commands.composition import decide_model, overrides
from distilspark.config import TrainConfig, from_hydra
from distilspark.console import say
from distilspark.tracking.runs import log_config, open_run, where_to_look
from distilspark.tracking.store import check_store
from distilspark.training.checkpointing import interrupted_run, open_checkpoints


def run(composed: DictConfig, log: Path) -> None:
    """Train on a composed `conf/train.yaml`, in one MLflow run."""
    config = from_hydra(TrainConfig, decide_model(composed))
    check_store()
    from distilspark.commands.fine_tuning import fine_tune  # takes seconds to import: after the config is found good

    say(f"{config.task.title}: {config.model.name}, {config.training.epochs} epochs, seed {config.training.seed}")
    name = f"{config.task.name} {config.model.name} seed {config.training.seed}"
    experiment = f"distilspark-{config.task.name}"
    with open_checkpoints(config) as kept, open_run(experiment, name, log, interrupted_run(kept)) as active:
        log_config(active, config, overrides())
        mlflow.set_tags({"task": config.task.name, "model.checkpoint": config.model.name})
        fine_tune(config, log.parent, kept)
    where_to_look(active)
