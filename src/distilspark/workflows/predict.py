"""`predict`: score existing files, or a stream of them, with a registered model in Spark."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from pyspark.sql import SparkSession

from distilspark.background_session import BackgroundSession
from distilspark.config import PredictConfig
from distilspark.console import format_metrics, print_line, working
from distilspark.data.read import find_inputs
from distilspark.errors import WorkError
from distilspark.figures import count_rows
from distilspark.package.load import TaskModel, load_task_model
from distilspark.scoring.job import ScoringResult, finish_published, score_files
from distilspark.scoring.model_udf import make_udf
from distilspark.scoring.staging import check_output, is_finished, lock_output, output_paths, scoring_fingerprint
from distilspark.scoring.stream import score_stream
from distilspark.tracking.registry import link_model
from distilspark.tracking.runs import active_run_id
from distilspark.tracking.store import first_line
from distilspark.workflows.runner import Context, Job

PLOT_MODULES = (
    "distilspark.drift.profile_report",
    "distilspark.drift.report",
    "matplotlib.backends.backend_agg",
)


@contextmanager
def prepare(config: PredictConfig, context: Context) -> Iterator[Job]:
    """Yield the scoring."""
    assert context.session
    session = context.session
    session.warm_up(PLOT_MODULES)
    yield Job(
        title=f"{config.task.title}: {config.input} with {config.model_uri}",
        experiment=f"distilspark-{config.task.name}-scoring",
        run_name=f"{config.task.name} {Path(str(config.output)).name}",
        work=lambda: score(config, session),
    )


def score(config: PredictConfig, session: BackgroundSession) -> None:
    """Score `input` into `output` inside the active run, then stop the session."""
    with tempfile.TemporaryDirectory(prefix="distilspark-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        with working("fetching the model"):
            model = load_task_model(config.model_uri, config.task, folder, config.registry)
        link_model(model.found)
        with working("starting Spark"):
            spark = session.wait()
        scored = (score_incoming if config.predict.streaming else score_existing)(spark, config, model, active_run_id())
        session.stop()
    if scored:
        with _explain_lost_store(config):
            report_result(scored, model, config)


def score_existing(
    spark: SparkSession, config: PredictConfig, model: TaskModel, run_id: str | None = None
) -> ScoringResult:
    """Score the existing files in a running session; `run_id` is the active run's."""
    started = time.perf_counter()
    assert config.input and config.output
    paths = output_paths(config.output)
    with lock_output(paths):
        with working("reading the input"):
            inputs = find_inputs(spark, config.task, config.input)
            if is_finished(spark, paths, scoring_fingerprint(config, inputs, model)):
                return finish_published(spark, config, paths)
            check_output(spark, paths, inputs, config.predict.overwrite)
        udf = make_udf(spark, config, model)
        return score_files(spark, config, model, udf, inputs, paths, started, run_id)


def score_incoming(spark: SparkSession, config: PredictConfig, model: TaskModel, run_id: str) -> ScoringResult | None:
    """Score a stream in a running session, and report each batch; return their sum, or None if nothing was new."""

    def report_batch(number: int, batch: ScoringResult, total: ScoringResult) -> None:
        rows = batch.manifest["rows"]
        print_line(f"batch {number}: {count_rows(rows['in'])}, {rows['failed']} with an error")
        with _explain_lost_store(config):
            log_scored(replace(total, metrics=batch.metrics), number)

    total = score_stream(spark, config, model, report_batch, run_id)
    if not total:
        print_line(f"nothing new in {config.input}")
    return total


@contextmanager
def _explain_lost_store(config: PredictConfig) -> Iterator[None]:
    """Raise `WorkError` with the place of the scored rows if MLflow's store fails."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise WorkError(
            f"the scored rows are in {config.output}, but MLflow could not be updated: {first_line(error)}. "
            "The manifest there has the figures"
        ) from error


def report_result(scored: ScoringResult, model: TaskModel, config: PredictConfig) -> None:
    """Print and log the results; the output is already complete, even if this fails."""
    from distilspark.drift.profile_report import profile_figures
    from distilspark.drift.report import report_drift  # matplotlib, which is not needed before
    from distilspark.tracking.results import log_figures

    manifest = scored.manifest
    rows = manifest["rows"]
    print_line(f"{count_rows(rows['in'])}, {rows['failed']} with an error, {manifest['rows_a_second']:g} a second")
    print_line(f"written to {config.output}")
    if scored.metrics:
        print_line(f"on the rows with a label: {format_metrics(scored.metrics)}")
    log_scored(scored, manifest.get("last_batch", 0))
    mlflow.log_dict(manifest, "manifest.json")
    if scored.profile:
        mlflow.log_dict(scored.profile, "profile/profile.json")
        log_figures(profile_figures(scored.profile, model.max_length), "profile")
        report_drift(scored.drift, model)


def log_scored(scored: ScoringResult, step: int) -> None:
    """Log counts, speed, drift, and metrics on labelled rows; the step is the number of a stream's batch."""
    manifest = scored.manifest
    mlflow.log_metrics(
        {
            **{f"rows/{name}": count for name, count in manifest["rows"].items()},
            **{f"scored/{name}": value for name, value in scored.metrics.items()},
            **{f"drift/{name}": shift.psi for name, shift in scored.drift.items()},
            "time/job": manifest["seconds"],
            "time/scoring": manifest["scoring_seconds"],
            "speed/scoring": manifest["rows_a_second"],
        },
        step=step,
    )
