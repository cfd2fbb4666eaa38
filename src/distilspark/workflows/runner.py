"""The runner of all commands: read the config, check the store, do the work in a run, print the run's link."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from distilspark.background_session import BackgroundSession, starting_session
from distilspark.config import (
    CompareConfig,
    EvaluateConfig,
    PredictConfig,
    PromoteConfig,
    ServerConfig,
    SparkConfig,
    TrainConfig,
    flatten,
    from_hydra,
)
from distilspark.console import print_line
from distilspark.errors import WorkError
from distilspark.redaction import learn_secrets
from distilspark.spark import for_scoring, for_workers
from distilspark.workflows.composition import check_multirun, decide_model, overrides

if TYPE_CHECKING:
    from mlflow.entities import Run

CONFIGS: Mapping[str, type[Any]] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "promote": PromoteConfig,
    "predict": PredictConfig,
    "compare": CompareConfig,
}
SPARK_COMMANDS: Mapping[str, Callable[[Any], SparkConfig]] = {  # the resources of the commands that always read rows
    "train": lambda config: for_workers(config.spark, config.training.workers),
    "evaluate": lambda config: config.spark,
    "predict": lambda config: for_scoring(config.spark),
}


@dataclass(frozen=True)
class Context:
    """The log file and Spark session of a command."""

    log: Path  # its folder, used by this command only, is for temporary files
    session: BackgroundSession | None  # for the commands of `SPARK_COMMANDS`


@dataclass(frozen=True)
class Outcome:
    """The result of a command whose run is finished."""

    page: str = ""  # a page of the UI that shows more than the run's own
    failure: str = ""  # why the command fails nevertheless


@dataclass(frozen=True)
class Job:
    """A command's work, and the MLflow run that it is done in."""

    title: str  # the first line that is printed
    experiment: str
    run_name: str
    work: Callable[[], Outcome | None]  # inside the run
    tags: Mapping[str, str] = field(default_factory=dict)
    interrupted: str | None = None  # the id of an earlier run to resume
    parent: Run | None = None


def run_command(command: str, composed: DictConfig, log: Path) -> None:
    """Run a command on its composed config, in one MLflow run.

    Its workflow's `prepare(config, context)` is a context manager that yields the `Job`. Spark starts in the background
    while MLflow, TensorFlow and the rest are imported, which takes as long.
    """
    check_multirun()
    config = from_hydra(CONFIGS[command], decide_model(composed))
    learn_secrets(flatten(config))
    with ExitStack() as stack:
        session = None
        if command in SPARK_COMMANDS:
            name = f"distilspark-{command}-{config.task.name}"
            session = stack.enter_context(starting_session(SPARK_COMMANDS[command](config), name))
        import mlflow

        from distilspark.tracking.runs import log_config, open_run, print_run_link
        from distilspark.tracking.store import check_store

        check_store()
        workflow = importlib.import_module(f"distilspark.workflows.{command}")
        job: Job = stack.enter_context(workflow.prepare(config, Context(log, session)))
        print_line(job.title)
        with open_run(job.experiment, job.run_name, log, job.interrupted, job.parent) as active:
            log_config(active, config, overrides())
            mlflow.set_tags(dict(job.tags))
            outcome = job.work() or Outcome()
    if job.parent is None:
        print_run_link(active, outcome.page)
    if outcome.failure:
        raise WorkError(outcome.failure)


def run_service(composed: DictConfig) -> None:
    """Run the server that a composed `conf/server.yaml` describes, until it is stopped."""
    config = from_hydra(ServerConfig, composed)
    learn_secrets(flatten(config))
    from distilspark.tracking.server import serve  # takes seconds to import: only after the config is validated

    serve(config)
