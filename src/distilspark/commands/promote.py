"""`promote`: let the challenger take the champion's place, if it has earned it."""

from __future__ import annotations

from pathlib import Path

import mlflow
from omegaconf import DictConfig

from distilspark.commands.composition import overrides
from distilspark.config import PromoteConfig, from_hydra
from distilspark.console import say
from distilspark.errors import WorkError
from distilspark.tracking.runs import log_config, open_run, print_run_link
from distilspark.tracking.store import check_store


def run(composed: DictConfig, log: Path) -> None:
    """Promote, or say why not, on a composed `conf/promote.yaml`, in one MLflow run."""
    config = from_hydra(PromoteConfig, composed)
    from distilspark.commands.promotion import promote, roll_back  # takes seconds to import

    check_store()
    what = "rollback" if config.promote.rollback else "promotion"
    say(f"{config.task.title}: {what} of {config.registry.name}")
    with open_run(f"distilspark-{config.task.name}-promotion", f"{config.task.name} {what}", log) as active:
        log_config(active, config, overrides())
        mlflow.set_tag("task", config.task.name)
        is_champion = roll_back(config) if config.promote.rollback else promote(config, log.parent)
    print_run_link(active)
    if config.promote.require and not is_champion:
        raise WorkError("the challenger is not promoted, and promote.require=true asks for it")
