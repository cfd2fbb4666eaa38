"""`train`: fine-tune, evaluate, log and register one model."""

from __future__ import annotations

from pathlib import Path

import mlflow
from omegaconf import DictConfig

from distilspark.commands.composition import check_multirun, decide_model, has_neighbours, overrides, sweep_parent
from distilspark.config import TrainConfig, from_hydra
from distilspark.console import say, speak_as
from distilspark.tracking.runs import log_config, open_run, print_run_link
from distilspark.tracking.store import check_store
from distilspark.tracking.sweeps import job_of
from distilspark.tracking.views import save_experiment_view
from distilspark.training.checkpoint.store import interrupted_run_id, open_checkpoints


def run(composed: DictConfig, log: Path) -> None:
    """Train on a composed `conf/train.yaml`, in one MLflow run; in a sweep, as a child of the sweep's."""
    check_multirun()
    config = from_hydra(TrainConfig, decide_model(composed))
    check_store()
    from distilspark.commands.fine_tuning import fine_tune  # takes seconds to import: after the config is found good

    job = job_of(sweep_parent(), overrides())
    own = job.name if job else f"seed {config.training.seed}"
    speak_as(own if has_neighbours() else None)
    say(f"{config.task.title}: {config.model.name}, {config.training.epochs} epochs, {own}")
    experiment, name = f"distilspark-{config.task.name}", f"{config.task.name} {config.model.name} {own}"
    with (
        open_checkpoints(config) as checkpoints,
        open_run(experiment, name, log, interrupted_run_id(checkpoints), job.parent if job else None) as active,
    ):
        log_config(active, config, overrides())
        mlflow.set_tags({"task": config.task.name, "model.checkpoint": config.model.name} | (job.tags if job else {}))
        fine_tune(config, log.parent, checkpoints, registered=job is None)
    if job is None:
        print_run_link(active, save_experiment_view(active.info.experiment_id, config.task.headline))
