"""`evaluate`: judge a registered model on labelled rows."""

from __future__ import annotations

from pathlib import Path

import mlflow
from omegaconf import DictConfig

from distilspark.commands.composition import overrides
from distilspark.config import EvaluateConfig, from_hydra
from distilspark.console import say
from distilspark.tracking.runs import log_config, open_run, print_run_link
from distilspark.tracking.store import check_store


def run(composed: DictConfig, log: Path) -> None:
    """Evaluate on a composed `conf/evaluate.yaml`, in one MLflow run."""
    config = from_hydra(EvaluateConfig, composed)
    from distilspark.commands.evaluation import (
        evaluate_model,
    )  # takes seconds to import: after the config is found good

    check_store()
    say(f"{config.task.title}: {config.model_uri}")
    name = f"{config.task.name} {config.model_uri.removeprefix('models:/')}"
    with open_run(f"distilspark-{config.task.name}-evaluation", name, log) as active:
        log_config(active, config, overrides())
        mlflow.set_tag("task", config.task.name)
        evaluate_model(config, log.parent)
    print_run_link(active)
