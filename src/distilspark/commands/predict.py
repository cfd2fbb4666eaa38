"""`predict`: score files with a registered model in Spark."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from distilspark.config import PredictConfig, from_hydra
from distilspark.console import say
from distilspark.scoring.startup import starting_session
from distilspark.spark import with_retries


def run(composed: DictConfig, log: Path) -> None:
    """Score on a composed `conf/predict.yaml`, in one MLflow run."""
    config = from_hydra(PredictConfig, composed)
    with starting_session(with_retries(config.spark), f"distilspark-predict-{config.task.name}") as session:
        # MLflow and the rest take as long to import as Spark takes to start
        from distilspark.commands.composition import overrides
        from distilspark.scoring.job import score
        from distilspark.tracking.runs import log_config, open_run, print_run_link
        from distilspark.tracking.store import check_store

        check_store()
        say(f"{config.task.title}: {config.input} with {config.model_uri}")
        name = f"{config.task.name} {Path(str(config.output)).name}"
        with open_run(f"distilspark-{config.task.name}-scoring", name, log) as active:
            log_config(active, config, overrides())
            score(config, session)
        print_run_link(active)
