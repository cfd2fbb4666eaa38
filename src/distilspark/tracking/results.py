"""Log evaluations to MLflow: metrics, plots, tables, and the run's description."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import mlflow
import pandas as pd

from distilspark.config import TaskConfig
from distilspark.figures import save_png
from distilspark.markdown import write_list, write_table
from distilspark.metrics import Metric
from distilspark.tracking.runs import log_once

if TYPE_CHECKING:  # scikit-learn and matplotlib take seconds to import
    from matplotlib.figure import Figure

    from distilspark.evaluation.predictions import Predictions
    from distilspark.evaluation.report import Evaluation

PREDICTIONS = "predictions.parquet"


def epoch_log(run_id: str, logged_with: str = "train/loss") -> Callable[[int, dict[str, float]], None]:
    """Return a function that logs each epoch's metrics once, also in a resumed training; epochs count from 1.

    Epochs that already have the metric `logged_with` are skipped.
    """
    logged = {point.step for point in mlflow.MlflowClient().get_metric_history(run_id, logged_with)}

    def log(epoch: int, metrics: dict[str, float]) -> None:
        if epoch not in logged:
            logged.add(epoch)
            mlflow.log_metrics(metrics, step=epoch, run_id=run_id)

    return log


def log_figures(figures: Mapping[str, Figure], prefix: str) -> None:
    """Log figures as PNG artifacts `PREFIX/NAME.png`, and as images that the UI compares across runs."""
    with TemporaryDirectory() as scratch:
        log_images(write_figures(figures, Path(scratch)), prefix)


def write_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures as the folder's `NAME.png`."""
    files = {folder / f"{name}.png": figure for name, figure in figures.items()}
    for file, figure in files.items():
        save_png(figure, file)
    return list(files)


def log_images(files: Iterable[Path], prefix: str) -> None:
    """Log PNGs as `log_figures` logs figures; the UI has a section of images for each prefix."""
    from PIL import Image

    for file in files:
        mlflow.log_artifact(str(file), prefix)
        # in the background a failed upload would be ignored, and the run's end would wait seconds for threads
        mlflow.log_image(Image.open(file), key=f"{prefix}/{file.stem}", step=0, synchronous=True)


def log_tables(tables: Mapping[str, pd.DataFrame], prefix: str) -> None:
    """Log tables as `PREFIX/NAME.json`, which the UI shows side by side."""
    for name, table in tables.items():
        mlflow.log_table(table.astype(object).where(table.notna(), None), f"{prefix}/{name}.json")


def log_predictions(predictions: Predictions) -> None:
    """Log the predictions for every row of dev, so that runs can be compared row by row."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / PREDICTIONS
        predictions.to_frame().to_parquet(file, index=False)
        mlflow.log_artifact(str(file), "evaluation")


def log_evaluation(evaluation: Evaluation, task: TaskConfig, epoch: int) -> None:
    """Log metrics on dev at the step of the kept epoch, the headline one with its interval; plots and tables."""
    low, high = evaluation.intervals[task.metric]
    interval = {f"{task.metric}_low": low, f"{task.metric}_high": high}
    baseline = {f"baseline/{name}": value for name, value in evaluation.baseline.items()}
    log_once({f"dev/{name}": value for name, value in (evaluation.metrics | interval).items()} | baseline, epoch)
    log_figures(evaluation.figures, "evaluation")
    slices = comparable_slices(evaluation.slices, task.metric)
    log_tables({"slices": slices, "examples": evaluation.examples}, "evaluation")
    if evaluation.report:
        mlflow.log_text(evaluation.report, "evaluation/classification_report.txt")


def comparable_slices(slices: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Order the columns of slices for the UI, which groups by the first and compares the second."""
    named = slices.assign(slice=slices["slice"] + ": " + slices["value"]).drop(columns="value")
    return named[["slice", metric, *named.columns.drop(["slice", metric])]]


def beats_baseline(logged: Mapping[str, float], metric: Metric) -> bool:
    """Return whether the whole interval of a run's metric is better than the best constant prediction's."""
    interval = logged[f"dev/{metric.name}_low"], logged[f"dev/{metric.name}_high"]
    return metric.surely_better(interval, logged[f"baseline/{metric.name}"])


def describe_run(lines: Mapping[str, str], evaluation: Evaluation, task: TaskConfig, confidence: float) -> str:
    """Write the run's description in markdown, which the UI shows: the result first, then its origin."""
    low, high = evaluation.intervals[task.metric]
    interval = f"{100 * confidence:g} % interval {low:.4f} to {high:.4f}"
    result = f"**dev {task.metric} {evaluation.metrics[task.metric]:.4f}** ({interval})"
    return f"{task.title}: {result}\n\n{metric_table(evaluation)}\n{write_list(lines)}"


def metric_table(evaluation: Evaluation) -> str:
    """Write all metrics with their intervals and baselines as a markdown table."""
    rows = [
        (name, *(f"{number:.4f}" for number in (value, *evaluation.intervals[name], evaluation.baseline[name])))
        for name, value in evaluation.metrics.items()
    ]
    return write_table(("metric", "dev", "low", "high", "baseline"), rows)
