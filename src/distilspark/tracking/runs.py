"""Open, time and end MLflow runs, and log the settings and environment of every run."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

import mlflow
import yaml
from mlflow.entities import Experiment, Run, RunStatus
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME
from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES

from distilspark.config import flatten
from distilspark.console import log_copy, print_line
from distilspark.errors import UserError
from distilspark.paths import ROOT
from distilspark.redaction import redact
from distilspark.tracking.abandoned import end_abandoned
from distilspark.tracking.store import (
    check_artifacts,
    few_retries,
    first_line,
    project_store,
    use_project_store,
)

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens its training view, not chat
UNFINISHED = {(status, "active") for status in ("RUNNING", "KILLED", "FAILED")}
PARAM_LENGTH = 6000  # maximum that MLflow stores
logger = logging.getLogger(__name__)


@contextmanager
def open_run(
    experiment: str, name: str, log: Path, interrupted: str | None = None, parent: Run | None = None
) -> Iterator[mlflow.ActiveRun]:
    """Open the run of this process: that of `mlflow run` if it started us, else a new one in `experiment`.

    The caller's choice overrides `experiment` and `name`: MLFLOW_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_ID, and
    `mlflow run --run-name`.

    `interrupted`: the id of an unfinished run to resume. It is opened again; if another run is given (by `mlflow run`,
    or by the parent's experiment), it is ended and tagged with that one. A run that is finished or missing is left
    alone. With a parent, the run is the parent's child, in the parent's experiment.

    The run ends FINISHED, FAILED on an exception, or KILLED on Ctrl-C and SIGTERM; the log is always an artifact.
    """
    use_project_store()
    before = _unfinished(interrupted)
    with _interrupt_on_sigterm(), _start(experiment, name, parent, before) as run:
        if before:
            _take_over(before, run)
        end_abandoned(run)
        try:
            check_artifacts(run.info.artifact_uri)
            yield run
        except KeyboardInterrupt:
            _end_early(run, "KILLED", log)
            raise
        except BaseException as error:
            logger.exception("the run failed")
            _end_early(run, "FAILED", log, error)
            raise
        _end(run, "FINISHED", log)


def _start(experiment: str, name: str, parent: Run | None, before: Run | None) -> mlflow.ActiveRun:
    if parent:
        return _start_child(name, parent, before)
    if mlflow.environment_variables.MLFLOW_RUN_ID.get():  # MLflow uses it, and removes it from the environment
        run = mlflow.start_run(log_system_metrics=True)
        if _is_generated(run.info.run_name):
            mlflow.set_tag(MLFLOW_RUN_NAME, name)
        return run
    if before:
        _set_experiment(experiment_id=before.info.experiment_id)
        return mlflow.start_run(before.info.run_id, log_system_metrics=True)
    _choose_experiment(experiment)
    return mlflow.start_run(run_name=name, log_system_metrics=True)


def _start_child(name: str, parent: Run, before: Run | None) -> mlflow.ActiveRun:
    experiment, parent_id = parent.info.experiment_id, parent.info.run_id
    if before and before.info.experiment_id == experiment:
        mlflow.MlflowClient().set_tag(before.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)
        return mlflow.start_run(before.info.run_id, nested=True, log_system_metrics=True)
    return mlflow.start_run(
        experiment_id=experiment, run_name=name, nested=True, parent_run_id=parent_id, log_system_metrics=True
    )


def active_run_id() -> str:
    """Return the id of the open run."""
    run = mlflow.active_run()
    assert run is not None, "no run is open"
    return str(run.info.run_id)


def active_experiment_id() -> str:
    """Return the id of the open run's experiment."""
    return str(mlflow.get_run(active_run_id()).info.experiment_id)


def log_once(metrics: Mapping[str, float], step: int = 0) -> None:
    """Log metrics that the active run does not have yet; a resumed training computes the same values again."""
    there = mlflow.get_run(active_run_id()).data.metrics
    mlflow.log_metrics({name: value for name, value in metrics.items() if name not in there}, step=step)


def drop_earlier_models() -> None:
    """Delete the models that the active run logged before it was killed; the next one is the same."""
    run, client = mlflow.get_run(active_run_id()), mlflow.MlflowClient()
    for model in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"):
        client.delete_logged_model(model.model_id)


def logged_model(run: Run) -> str:
    """Return the URI of the latest model that a run has logged; raise `UserError` if there is none."""
    models = mlflow.MlflowClient().search_logged_models(
        [run.info.experiment_id],
        f"source_run_id = '{run.info.run_id}'",
        max_results=1,
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )
    if not models:
        raise UserError(f"run {run.info.run_id} ({run.info.run_name}) has no model: it was deleted. Train it again")
    return str(models[0].model_uri)


@contextmanager
def timed(name: str, rows: int | None = None) -> Iterator[None]:
    """Log the seconds of the block as `time/NAME` and, if `rows` is given, rows a second as `speed/NAME`."""
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    mlflow.log_metric(f"time/{name}", seconds)
    if rows:
        mlflow.log_metric(f"speed/{name}", rows / seconds)


def print_run_link(run: mlflow.ActiveRun, page: str = "") -> None:
    """Print the run's id and experiment, and the page of the UI that shows it."""
    print_line(f"run {run.info.run_id} in experiment {mlflow.get_experiment(run.info.experiment_id).name}")
    uri = redact(mlflow.get_tracking_uri())
    ui = "`make ui`" if uri == project_store() else f"`make ui STORE={uri}`"
    look = uri if uri.startswith("http") else f"{ui}, then http://127.0.0.1:5000"
    print_line(f"look at it: {look}{page and f'/{page}'}")


def _unfinished(run_id: str | None) -> Run | None:
    """Return the run if the store has it and it is unfinished."""
    try:
        run = mlflow.MlflowClient().get_run(run_id) if run_id else None
    except MlflowException:  # of another store
        return None
    return run if run and (run.info.status, run.info.lifecycle_stage) in UNFINISHED else None


def _take_over(before: Run, run: mlflow.ActiveRun) -> None:
    if before.info.run_id != run.info.run_id:
        end_interrupted(before.info.run_id, run.info.run_id)
    elif "error" in before.data.tags:
        mlflow.MlflowClient().delete_tag(before.info.run_id, "error")


def end_interrupted(run_id: str | None, successor: str | None) -> None:
    """End a run whose process was killed, and tag it with the run that continues it; leave other runs unchanged."""
    before = _unfinished(run_id)
    if before and successor and before.info.run_id != successor:
        client = mlflow.MlflowClient()
        client.set_tag(before.info.run_id, "continued_by", successor)
        client.set_terminated(before.info.run_id, "KILLED")


def _is_generated(name: str) -> bool:
    """Return whether MLflow generated the name, as it does if none is given.

    >>> _is_generated("bedecked-boar-817"), _is_generated("my-run-1"), _is_generated("")
    (True, False, True)
    """
    predicate, _, rest = name.partition("-")
    noun, _, number = rest.partition("-")
    made_up = predicate in _GENERATOR_PREDICATES and noun in _GENERATOR_NOUNS and number.isdecimal()
    return made_up or not name


def _choose_experiment(name: str) -> None:
    """Activate the experiment that MLflow's environment variables name, else the one with this name.

    Artifacts of the default store go below the project's root, as with `mlflow run` and `mlflow ui` there.

    Raises:
        UserError: the experiment is missing or deleted, or the variables name two.

    """
    chosen, experiment_id = MLFLOW_EXPERIMENT_NAME.get(), MLFLOW_EXPERIMENT_ID.get()
    if experiment_id and not chosen:
        with _explain_refusal(f"MLFLOW_EXPERIMENT_ID={experiment_id}"):
            _set_experiment(experiment_id=experiment_id)
        return
    name = chosen or name
    with _explain_refusal(f"the experiment {name}"):
        if mlflow.get_experiment_by_name(name) is None:
            local = mlflow.get_tracking_uri() == project_store()
            location = (ROOT / "mlruns" / name).as_uri() if local else None
            mlflow.create_experiment(name, location, tags=EXPERIMENT_TAGS)
        active = _set_experiment(name)
    if chosen and experiment_id not in (None, active.experiment_id):
        raise UserError(
            f"MLFLOW_EXPERIMENT_ID={experiment_id} is not MLFLOW_EXPERIMENT_NAME={chosen}: unset one of them"
        )


def _set_experiment(name: str | None = None, experiment_id: str | None = None) -> Experiment:
    """Activate an experiment, and restore the caller's environment variable, which MLflow overwrites."""
    before = os.environ.get(MLFLOW_EXPERIMENT_ID.name)
    active = mlflow.set_experiment(name, experiment_id=experiment_id)
    os.environ.pop(MLFLOW_EXPERIMENT_ID.name, None)
    os.environ.update({MLFLOW_EXPERIMENT_ID.name: before} if before else {})
    return active


@contextmanager
def _explain_refusal(experiment: str) -> Iterator[None]:
    """Convert a refusal by the store to a `UserError`."""
    try:
        yield
    except MlflowException as error:
        if error.get_http_status_code() >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        raise UserError(
            f"{experiment} cannot be used: {first_line(error)}. Set MLFLOW_EXPERIMENT_NAME to another one"
        ) from error


def _end_early(run: mlflow.ActiveRun, status: str, log: Path, error: BaseException | None = None) -> None:
    """End the run; retry little if the store failed or the caller interrupts; only log errors, to hide no other."""
    hurry = error is None or isinstance(error, (MlflowException, OSError))
    try:
        with few_retries() if hurry else nullcontext():
            _end(run, status, log, error)
    except Exception:
        logger.exception("the store does not know how the run ended")


def _end(run: mlflow.ActiveRun, status: str, log: Path, error: BaseException | None = None) -> None:
    """Log the error and the log, and end the run; a second signal must not leave it open."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for handler in logging.getLogger().handlers:
        handler.flush()
    try:
        if error:
            mlflow.set_tag("error", redact(f"{type(error).__name__}: {error}")[:5000])
        with log_copy(log) as artifact:
            mlflow.log_artifact(str(artifact))
    except Exception:
        logger.exception("the log is no artifact of the run")  # this must not hide why the run ended
    mlflow.end_run(RunStatus.to_string(RunStatus.from_string(status)))


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_config(run: mlflow.ActiveRun, config: Any, overrides: list[str]) -> None:
    """Log all leaf keys as params, the config and its overrides as artifacts, and the environment.

    Params that `mlflow run` has already logged from its command line, in their own spelling, are kept.
    """
    log_settings(run, flatten(config))
    mlflow.log_text(redact(yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)), "config/config.yaml")
    mlflow.log_text(redact(yaml.safe_dump(overrides)), "config/overrides.yaml")
    mlflow.log_text(_packages(), "config/packages.txt")
    if commit := run_git("rev-parse", "HEAD"):
        mlflow.set_tag(MLFLOW_GIT_COMMIT, commit)
        mlflow.log_text(f"{commit}\n{run_git('status', '--porcelain')}", "config/git_commit.txt")
        mlflow.set_tag("git.dirty", str(bool(run_git("status", "--porcelain"))).lower())


def log_settings(run: mlflow.ActiveRun, leaves: Mapping[str, Any]) -> None:
    """Log settings as params, except those that are already logged."""
    there = mlflow.MlflowClient().get_run(run.info.run_id).data.params
    mlflow.log_params({key: redact(str(value))[:PARAM_LENGTH] for key, value in leaves.items() if key not in there})


def _packages() -> str:
    installed = sorted({f"{each.name}=={each.version}" for each in importlib.metadata.distributions()})
    return "\n".join([f"python=={sys.version.split()[0]}", *installed])


def run_git(*arguments: str) -> str | None:
    """Return git's output for the project; None if git fails."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
