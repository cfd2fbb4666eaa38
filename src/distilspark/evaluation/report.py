"""Everything that an evaluation finds, in one go."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import classification_report

from distilspark.config import EvaluationConfig, Head, TaskConfig
from distilspark.evaluation.examples import example_table
from distilspark.evaluation.intervals import bootstrap_intervals
from distilspark.evaluation.metrics import baseline_outputs, compute_metrics
from distilspark.evaluation.plots import classification_plots, regression_plots
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.slices import slice_metrics


@dataclass(frozen=True)
class Evaluation:
    """How good a model is, how sure we are of it, and where it goes wrong.

    Attributes:
        metrics: every metric of the task's head, by name.
        intervals: the bootstrap interval (low, high) of each metric.
        baseline: the metrics of the majority class, or of the mean of the training labels, on the same rows.
        slices: as `slice_metrics`.
        report: scikit-learn's classification report as text; None for regression.
        examples: as `example_table`.
        figures: by name; `save_png` writes them.

    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline: dict[str, float]
    slices: pd.DataFrame
    report: str | None
    examples: pd.DataFrame
    figures: dict[str, Figure]


def _classification_report(task: TaskConfig, predictions: Predictions) -> str:
    return classification_report(
        predictions.labels.astype(int),
        predictions.predicted,
        labels=range(len(task.labels)),
        target_names=task.labels,
        digits=4,
        zero_division=0,
    )


_REPORTS: dict[Head, Callable[[TaskConfig, Predictions], str | None]] = {
    "classification": _classification_report,
    "regression": lambda task, predictions: None,
}
_PLOTS: dict[Head, Callable[..., dict[str, Figure]]] = {
    "classification": classification_plots,
    "regression": regression_plots,
}


def _check_classes(task: TaskConfig, outputs: Array) -> None:
    expected = (len(task.labels),) if task.labels else ()
    if outputs.shape[1:] != expected:
        raise ValueError(f"outputs of shape {outputs.shape} do not fit task={task.name} with the labels {task.labels}")


def evaluate(
    task: TaskConfig,
    predictions: Predictions,
    training_labels: Array,
    training_sources: Collection[str],
    config: EvaluationConfig,
    seed: int,
) -> Evaluation:
    """Judge predictions: metrics with intervals beside a baseline, slices, examples and figures.

    The training labels are all that the baseline knows; the training sources tell rows of known domains from others.

    Raises:
        ValueError: outputs that do not fit the task; else as `compute_metrics`.

    """
    labels, outputs = predictions.labels, predictions.outputs
    _check_classes(task, outputs)
    baseline = baseline_outputs(task.head, training_labels, len(labels), len(task.labels))
    metrics = compute_metrics(task.head, labels, outputs)
    scored_baseline = compute_metrics(task.head, labels, baseline)
    intervals = bootstrap_intervals(
        task.head, labels, outputs, confidence=config.confidence, resamples=config.resamples, seed=seed
    )
    plots = _PLOTS[task.head]
    return Evaluation(
        metrics=metrics,
        intervals=intervals,
        baseline=scored_baseline,
        slices=slice_metrics(task, predictions, training_sources),
        report=_REPORTS[task.head](task, predictions),
        examples=example_table(task, predictions, config.examples),
        figures=plots(task, predictions, metrics, intervals, scored_baseline, confidence=config.confidence),
    )
