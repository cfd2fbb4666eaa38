"""What was scored and what the model said about it: lengths, unknown tokens, predictions and, with labels, metrics."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Array
from distilspark.features.encoding import Encoded
from distilspark.figures import BLUE, GREY, count_rows, new_figure, percent, styled

PROFILE = "profile.json"  # in a packaged model's folder: the profile of its validation rows
BINS = 20  # of scores (from 0 to 1) and of predicted values (over the task's range)


def profile_of(scored: DataFrame, task: TaskConfig) -> dict[str, Any]:
    """The distributions of the rows that were scored, as JSON takes them; one Spark action.

    Returns:
        `rows`; `tokens`: rows by their number of tokens before cutting; `unknown_share`: of all tokens;
        `predictions`: rows by label, or by predicted value; `scores` (classification): rows by probability. What has
        bins is `{"edges": [...], "rows": [...]}`; values outside are in the first or last one.

    """
    kept = task.head_kind.bins(task)
    place = F.floor((F.col(kept.answer) - kept.low) / (kept.high - kept.low) * BINS)
    bins = F.greatest(F.lit(0), F.least(F.lit(BINS - 1), place)).alias("bin")
    labels = ["label"] if task.labels else []
    counts = [F.count("*").alias("rows"), F.sum("unknown_tokens").alias("unknown")]
    return _as_json(scored.where("error = ''").groupBy("tokens", *labels, bins).agg(*counts).toPandas(), task)


def profile_of_outputs(encoded: Encoded, outputs: Array, task: TaskConfig) -> dict[str, Any]:
    """What `profile_of` makes of the same rows once they are scored.

    Args:
        encoded: their tokens.
        outputs: the model's, as in `distilspark.evaluation.predictions.Predictions`.
        task: its head and labels.

    """
    kept = task.head_kind.bins(task)
    cells = pd.DataFrame({"tokens": encoded.full_lengths, "unknown": encoded.unknown, "rows": 1})
    answers = task.head_kind.answer(task.labels, outputs)
    place = np.floor((answers[kept.answer].astype(float) - kept.low) / (kept.high - kept.low) * BINS)
    return _as_json(cells.assign(**answers, bin=np.clip(place, 0, BINS - 1).astype(int)), task)


def _as_json(cells: pd.DataFrame, task: TaskConfig) -> dict[str, Any]:
    """`cells`: columns `rows` and `unknown` (tokens) for some `tokens`, `bin` and, for classification, `label`."""
    tokens = int((cells["tokens"] * cells["rows"]).sum())
    return {
        "rows": int(cells["rows"].sum()),
        "tokens": {str(length): rows for length, rows in _rows_by(cells, "tokens").items()},
        "unknown_share": float(cells["unknown"].sum()) / tokens if tokens else 0.0,
        **_predictions(cells, task),
    }


def _predictions(cells: pd.DataFrame, task: TaskConfig) -> dict[str, Any]:
    binned = {task.head_kind.bins(task).distribution: _histogram(cells, task)}
    if not task.labels:
        return binned
    counts = _rows_by(cells, "label")
    return {"predictions": {label: counts.get(label, 0) for label in task.labels}, **binned}


def _histogram(cells: pd.DataFrame, task: TaskConfig) -> dict[str, list[float]]:
    kept, counts = task.head_kind.bins(task), _rows_by(cells, "bin")
    return {
        "edges": np.linspace(kept.low, kept.high, BINS + 1).tolist(),
        "rows": [counts.get(each, 0) for each in range(BINS)],
    }


def _rows_by(cells: pd.DataFrame, column: str) -> dict[Any, int]:
    """In the order of the column's values."""
    return {value: int(rows) for value, rows in cells.groupby(column)["rows"].sum().items()}


def add_profiles(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The profile of both's rows together.

    >>> one = {"rows": 1, "tokens": {"9": 1}, "unknown_share": 0.0, "predictions": {"no": 1, "yes": 0}}
    >>> other = {"rows": 2, "tokens": {"9": 1, "18": 1}, "unknown_share": 0.5, "predictions": {"no": 0, "yes": 2}}
    >>> add_profiles(one, other)["tokens"], add_profiles(one, other)["unknown_share"]
    ({'9': 2, '18': 1}, 0.375)
    >>> add_profiles(one, other)["predictions"]
    {'no': 1, 'yes': 2}
    """
    both = (one, other)
    tokens = [sum(int(length) * rows for length, rows in part["tokens"].items()) for part in both]
    unknown = sum(part["unknown_share"] * count for part, count in zip(both, tokens, strict=True))
    added = {name: _add(one[name], other[name]) for name in one if name != "unknown_share"}
    return added | {"unknown_share": unknown / sum(tokens) if sum(tokens) else 0.0}


def _add(one: Any, other: Any) -> Any:
    """Counts, whether there is one, one a value, or one a bin."""
    if isinstance(one, int):
        return one + other
    if "edges" in one:
        return {**one, "rows": [sum(pair) for pair in zip(one["rows"], other["rows"], strict=True)]}
    return {value: one.get(value, 0) + other.get(value, 0) for value in [*one, *(other.keys() - one.keys())]}


def labelled_metrics(scored: DataFrame, task: TaskConfig) -> dict[str, float]:
    """Every metric of the head on the rows that have a label and a prediction; empty where there are none."""
    known = scored.where("error = '' AND truth IS NOT NULL").select("truth", "prediction").toPandas()
    if known.empty:
        return {}
    outputs = task.head_kind.outputs_of(task, known["prediction"].to_numpy(dtype=float))
    return task.head_kind.compute_metrics(known["truth"].to_numpy(dtype=float), outputs)


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
