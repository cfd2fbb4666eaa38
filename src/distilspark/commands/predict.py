"""`predict`: score files with a registered model in Spark."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from distilspark.commands.composition import overrides
from distilspark.config import PredictConfig, from_hydra
from distilspark.console import say
from distilspark.tracking.runs import log_config, open_run, print_run_link
from distilspark.tracking.store import check_store


def run(composed: DictConfig, log: Path) -> None:
    """Score on a composed `conf/predict.yaml`, in one MLflow run."""
    config = from_hydra(PredictConfig, composed)
    from distilspark.scoring.job import score  # takes seconds to import: after the config is found good

    check_store()
    say(f"{config.task.title}: {config.input} with {config.model_uri}")
    name = f"{config.task.name} {Path(str(config.output)).name}"
    with open_run(f"distilspark-{config.task.name}-scoring", name, log) as active:
        log_config(active, config, overrides())
        score(config)
    print_run_link(active)
