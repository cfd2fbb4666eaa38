"""An evaluation: metrics, slices, examples and figures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.bootstrap import mean_scores
from distilspark.evaluation.examples import example_table
from distilspark.evaluation.plots import Results, evaluation_plots
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.slices import slice_metrics


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics, their intervals, and its errors.

    Attributes:
        metrics: every metric of the task's head, by name.
        intervals: the bootstrap interval (low, high) of each metric.
        baseline: the metrics of the best constant prediction, on the same rows.
        slices: as `slice_metrics`.
        report: as `Head.text_report`.
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


def _check_classes(task: TaskConfig, outputs: Array) -> None:
    head = task.head_kind
    expected = (head.units(task),) if head.dimensions == 2 else ()
    if outputs.shape[1:] != expected:
        raise ValueError(f"outputs of shape {outputs.shape} do not fit task={task.name} with the labels {task.labels}")


def evaluate(
    task: TaskConfig,
    predictions: Predictions,
    training_labels: Array,
    training_sources: Collection[str],
    config: EvaluationConfig,
) -> Evaluation:
    """Evaluate predictions: metrics with intervals, a baseline, slices, examples and figures.

    The baseline uses only the training labels. The training sources separate rows of known domains from others.

    Raises:
        ValueError: outputs that do not fit the task; else as `Head.compute_metrics`.

    """
    head, labels, outputs = task.head_kind, predictions.labels, predictions.outputs
    _check_classes(task, outputs)
    scores = mean_scores(head, labels, [outputs], config)
    constant = head.baseline_outputs(training_labels, len(labels), len(task.labels))
    results = Results(
        task,
        predictions,
        metrics={name: score.mean for name, score in scores.items()},
        intervals={name: score.interval for name, score in scores.items()},
        baseline=head.compute_metrics(labels, constant),
        confidence=config.confidence,
    )
    return Evaluation(
        metrics=results.metrics,
        intervals=results.intervals,
        baseline=results.baseline,
        slices=slice_metrics(task, predictions, training_sources),
        report=head.text_report(task, labels, outputs),
        examples=example_table(task, predictions, config.examples),
        figures=evaluation_plots(results),
    )
