"""Distributions of the rows that were scored: lengths, unknown tokens, predictions; and, with labels, metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from distilspark.config import Head, TaskConfig
from distilspark.scoring.summary import BINNED, BINS, CELL, Summary, summarize

if TYPE_CHECKING:
    from distilspark.features.encoding import Encoded

PROFILE = "profile.json"  # in a packaged model's folder: the profile of its validation rows


def profile_of(summary: Summary, task: TaskConfig) -> dict[str, Any]:
    """Build the profile of the rows that were scored, as JSON takes it.

    Returns:
        `rows`; `tokens`: rows by their number of tokens before cutting; `unknown_share`: of all tokens;
        `predictions`: rows by label, or by predicted value; `scores` (classification): rows by probability. What has
        bins is `{"edges": [...], "rows": [...]}`; values outside are in the first or last one.

    """
    return {
        "rows": summary.scored,
        "tokens": {length: summary.lengths[length] for length in sorted(summary.lengths, key=int)},
        "unknown_share": summary.unknown / summary.tokens if summary.tokens else 0.0,
        **_PREDICTIONS[task.head](summary, task),
    }


def profile_of_outputs(encoded: Encoded, outputs: NDArray[Any], task: TaskConfig) -> dict[str, Any]:
    """Build the profile that the same rows get once they are scored.

    Args:
        encoded: their tokens.
        outputs: the model's, as in `distilspark.evaluation.predictions.Predictions`.
        task: its head and labels.

    """
    column, low, high = BINNED[task.head](task)
    answers = _ANSWERS[task.head](outputs, task)
    place = np.floor((answers[column].astype(float) - low) / (high - low) * BINS)
    cells = pd.DataFrame(dict.fromkeys(CELL), index=range(len(outputs))).assign(
        tokens=encoded.full_lengths,
        unknown=encoded.unknown,
        answer=answers.get("label"),
        bin=np.clip(place, 0, BINS - 1).astype(int),
        rows=1,
    )
    return profile_of(summarize(cells, 0), task)


_ANSWERS: dict[Head, Callable[[Any, TaskConfig], dict[str, Any]]] = {
    "classification": lambda outputs, task: {
        "label": np.array(task.labels)[outputs.argmax(axis=1)],
        "score": outputs.max(axis=1),
    },
    "regression": lambda outputs, task: {"prediction": outputs},
}


def _classification(summary: Summary, task: TaskConfig) -> dict[str, Any]:
    return {
        "predictions": {label: summary.answers.get(label, 0) for label in task.labels},
        "scores": _histogram(summary.bins, task),
    }


_PREDICTIONS: dict[Head, Callable[[Summary, TaskConfig], dict[str, Any]]] = {
    "classification": _classification,
    "regression": lambda summary, task: {"predictions": _histogram(summary.bins, task)},
}


def _histogram(bins: Mapping[str, int], task: TaskConfig) -> dict[str, list[float]]:
    _, low, high = BINNED[task.head](task)
    edges = np.linspace(low, high, BINS + 1).tolist()
    return {"edges": edges, "rows": [bins.get(str(each), 0) for each in range(BINS)]}


def labelled_metrics(summary: Summary, scored: DataFrame, task: TaskConfig) -> dict[str, float]:
    """Compute every metric of the head on the rows that have a label and a prediction; empty where there are none.

    Args:
        summary: of all rows.
        scored: the rows, with the columns `truth`, `error` and `prediction`. Regression's labels are collected: ranks
            need them all.
        task: its head and labels.

    """
    if not summary.labelled:
        return {}
    from distilspark.evaluation.metrics import compute_metrics  # takes a second to import

    return compute_metrics(task.head, *_LABELLED[task.head](summary, scored, task))


def _confusion(summary: Summary, scored: DataFrame, task: TaskConfig) -> tuple[Any, Any, Any]:
    """Return label ids, one-hot predictions (metrics read only their largest) and the rows of each pair."""
    pairs = [key.partition(" ")[::2] for key in summary.confusion]
    predicted = np.eye(len(task.labels))[[task.labels.index(answer) for _, answer in pairs]]
    return np.array([float(truth) for truth, _ in pairs]), predicted, np.array(list(summary.confusion.values()))


def _pairs(summary: Summary, scored: DataFrame, task: TaskConfig) -> tuple[Any, Any]:
    known = scored.where("error = '' AND truth IS NOT NULL").select("truth", "prediction").toPandas()
    return known["truth"].to_numpy(dtype=float), known["prediction"].to_numpy(dtype=float)


_LABELLED: dict[Head, Callable[[Summary, DataFrame, TaskConfig], tuple[Any, ...]]] = {
    "classification": _confusion,
    "regression": _pairs,
}
