"""What was scored and what the model said about it: lengths, unknown tokens, predictions and, with labels, metrics."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from distilspark.config import Head, TaskConfig
from distilspark.evaluation.metrics import compute_metrics
from distilspark.figures import BLUE, GREY, count_rows, new_figure, percent, styled

BINS = 20  # of scores (from 0 to 1) and of predicted values (over the task's range)


def profile_of(scored: DataFrame, task: TaskConfig) -> dict[str, Any]:
    """The distributions of the rows that were scored, as JSON takes them.

    Returns:
        `rows`; `tokens`: rows by their number of tokens before cutting; `unknown_share`: of all tokens;
        `predictions`: rows by label, or by predicted value; `scores` (classification): rows by probability. What has
        bins is `{"edges": [...], "rows": [...]}`; values outside are in the first or last one.

    """
    good = scored.where("error = ''")
    tokens = good.groupBy("tokens").agg(F.count("*").alias("rows"), F.sum("unknown_tokens").alias("unknown")).toPandas()
    tokens = tokens.sort_values("tokens")
    total = int((tokens["tokens"] * tokens["rows"]).sum())
    return {
        "rows": int(tokens["rows"].sum()),
        "tokens": {str(length): int(rows) for length, rows in zip(tokens["tokens"], tokens["rows"], strict=True)},
        "unknown_share": float(tokens["unknown"].sum()) / total if total else 0.0,
        **_PREDICTIONS[task.head](good, task),
    }


def _classification(good: DataFrame, task: TaskConfig) -> dict[str, Any]:
    counts = {row["label"]: row["count"] for row in good.groupBy("label").count().collect()}
    return {
        "predictions": {label: counts.get(label, 0) for label in task.labels},
        "scores": _histogram(good, "score", 0.0, 1.0),
    }


def _regression(good: DataFrame, task: TaskConfig) -> dict[str, Any]:
    low, high = task.label_range
    return {"predictions": _histogram(good, "prediction", low, high)}


_PREDICTIONS: dict[Head, Callable[[DataFrame, TaskConfig], dict[str, Any]]] = {
    "classification": _classification,
    "regression": _regression,
}


def _histogram(rows: DataFrame, column: str, low: float, high: float) -> dict[str, list[float]]:
    place = F.floor((F.col(column) - low) / (high - low) * BINS)
    bins = F.greatest(F.lit(0), F.least(F.lit(BINS - 1), place)).alias("bin")
    counts = {row["bin"]: row["count"] for row in rows.groupBy(bins).count().collect()}
    return {"edges": np.linspace(low, high, BINS + 1).tolist(), "rows": [counts.get(each, 0) for each in range(BINS)]}


def labelled_metrics(scored: DataFrame, task: TaskConfig) -> dict[str, float]:
    """Every metric of the head on the rows that have a label and a prediction; empty where there are none."""
    known = scored.where("error = '' AND truth IS NOT NULL").select("truth", "prediction").toPandas()
    if known.empty:
        return {}
    outputs = _OUTPUTS[task.head](known["prediction"], task)
    return compute_metrics(task.head, known["truth"].to_numpy(dtype=float), outputs)


# metrics read of a classification only which class is the most probable
_OUTPUTS: dict[Head, Callable[[pd.Series, TaskConfig], Any]] = {
    "classification": lambda predicted, task: np.eye(len(task.labels))[predicted.to_numpy(dtype=int)],
    "regression": lambda predicted, task: predicted.to_numpy(dtype=float),
}


def profile_figures(profile: dict[str, Any], max_length: int) -> dict[str, Figure]:
    """`tokens` and `predictions` as plots; none where nothing was scored."""
    if not profile["rows"]:
        return {}
    return {"tokens": _token_figure(profile, max_length), "predictions": _prediction_figure(profile)}


def _token_figure(profile: dict[str, Any], max_length: int) -> Figure:
    lengths = {int(length): rows for length, rows in profile["tokens"].items()}
    cut = sum(rows for length, rows in lengths.items() if length > max_length) / profile["rows"]
    caption = (
        f"{count_rows(profile['rows'])} that were scored; special tokens included; "
        f"{percent(profile['unknown_share'], 2)} of the tokens are unknown to the vocabulary"
    )
    with styled():
        figure = new_figure(f"{percent(cut, 1)} of the rows are longer than {max_length} tokens and were cut", caption)
        axes = figure.subplots()
        most = min(max(lengths), 4 * max_length)  # a few endless rows must not hide all others
        edges = np.linspace(0, most + 1, min(most + 2, 60))
        shown = np.minimum(list(lengths), most)
        axes.hist(shown, bins=list(edges), weights=list(lengths.values()), color=BLUE)
        axes.axvline(max_length, linestyle="--", color=GREY, linewidth=1.2, label=f"max_length {max_length}")
        axes.set(xlabel="Tokens a row", ylabel="Rows")
        axes.legend()
    return figure


def _prediction_figure(profile: dict[str, Any]) -> Figure:
    shares = _shares(profile["predictions"], profile["rows"])
    first = max(shares, key=lambda name: shares[name])
    with styled():
        figure = new_figure(
            f"{first} is predicted most often: {percent(shares[first], 1)} of the rows",
            f"{count_rows(profile['rows'])} that were scored",
        )
        axes = figure.subplots()
        axes.grid(visible=False, axis="x")
        axes.bar(list(shares), list(shares.values()), color=BLUE)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="Prediction", ylabel="Share of the rows")
        axes.tick_params(axis="x", rotation=90 if len(shares) > 10 else 0)
    return figure


def _shares(predictions: dict[str, Any], rows: int) -> dict[str, float]:
    """By label, or by the bin of the predicted value."""
    if "edges" not in predictions:
        return {label: count / rows for label, count in predictions.items()}
    edges = predictions["edges"]
    names = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
    return {name: count / rows for name, count in zip(names, predictions["rows"], strict=True)}
