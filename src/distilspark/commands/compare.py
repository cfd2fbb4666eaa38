"""`compare`: a sweep, runs or models side by side."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from distilspark.commands.composition import overrides
from distilspark.config import CompareConfig, from_hydra
from distilspark.console import say
from distilspark.tracking.runs import log_config, open_run, print_run_link
from distilspark.tracking.store import check_store


def run(composed: DictConfig, log: Path) -> None:
    """Compare on a composed `conf/compare.yaml`, in one MLflow run."""
    config = from_hydra(CompareConfig, composed)
    check_store()
    from distilspark.commands.comparison import read_compared, report_comparison, run_name  # takes seconds to import

    compared = read_compared(config)
    folder = Path(config.output or log.parent)
    with open_run(f"distilspark-{compared.task.name}", run_name(compared), log) as active:
        log_config(active, config, overrides())
        report_comparison(compared, config.evaluation, folder)
    say(f"written to {folder / 'comparison.md'}")
    print_run_link(active)
