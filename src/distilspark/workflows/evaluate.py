"""`evaluate`: evaluate a registered model on labelled rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from distilspark.background_session import BackgroundSession
from distilspark.config import EvaluateConfig
from distilspark.console import print_line, working
from distilspark.data.fingerprints import overlap
from distilspark.errors import UserError
from distilspark.evaluation.report import Evaluation, evaluate
from distilspark.package.build import predictions_of
from distilspark.package.load import TaskModel, load_task_model
from distilspark.tracking.datasets import training_texts
from distilspark.tracking.registry import link_model
from distilspark.tracking.results import describe_run, log_evaluation, log_predictions
from distilspark.tracking.runs import timed
from distilspark.workflows.labelled import EvaluationSet, read_evaluation_set
from distilspark.workflows.reporting import show_evaluation
from distilspark.workflows.runner import Context, Job


@contextmanager
def prepare(config: EvaluateConfig, context: Context) -> Iterator[Job]:
    """Yield the evaluation."""
    assert context.session
    session, folder = context.session, context.log.parent
    yield Job(
        title=f"{config.task.title}: {config.model_uri}",
        experiment=f"distilspark-{config.task.name}-evaluation",
        run_name=f"{config.task.name} {config.model_uri.removeprefix('models:/')}",
        work=lambda: evaluate_model(config, session, folder),
        tags={"task": config.task.name},
    )


def evaluate_model(config: EvaluateConfig, session: BackgroundSession, folder: Path) -> None:
    """Score the rows with the packaged model and evaluate its predictions, inside the active run."""
    with tempfile.TemporaryDirectory(prefix="distilspark-model-") as scratch:
        with working("fetching the model"):
            model = load_task_model(config.model_uri, config.task, Path(scratch), config.registry)
        link_model(model.found)
        with timed("data"), working("reading and checking the data in Spark"):
            dev = read_evaluation_set(session.wait(), config.task, config.data, folder)
        session.stop()
        report_overlap(model, dev)
        with timed("predict", rows=len(dev.rows)), working("scoring"):
            predictions = predictions_of(model.found.data, config.task, dev.rows)
    with timed("evaluate"), working("drawing plots and intervals"):
        # the baseline is the best constant prediction on these rows: the model's training labels may be unavailable
        evaluation = evaluate(config.task, predictions, predictions.labels, (), config.evaluation)
    log_predictions(predictions)
    log_evaluation(evaluation, config.task, epoch=0)
    report_evaluation(config, model, dev, evaluation)


def report_overlap(model: TaskModel, dev: EvaluationSet) -> None:
    """Print and log how many of the rows the model was trained on; if unknown, print that."""
    try:
        known = overlap(dev.rows, training_texts(model.found.run_id or "none"))
    except UserError:
        print_line("whether the model was trained on some of these rows is not known: its training run cannot be read")
        return
    mlflow.log_metric("data/overlap", known)
    if known:
        print_line(f"the model has seen {known} of these rows in training: metrics on them are too optimistic")


def report_evaluation(config: EvaluateConfig, model: TaskModel, dev: EvaluationSet, evaluation: Evaluation) -> None:
    """Describe the run, and print the result."""
    lines = {"model": model.found.uri, "decides above": f"{model.threshold:g}", "data": f"{dev.source}, {dev.digest}"}
    mlflow.set_tag("mlflow.note.content", describe_run(lines, evaluation, config.task, config.evaluation.confidence))
    show_evaluation(evaluation, config.task, config.evaluation.confidence)
