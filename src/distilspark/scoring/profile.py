"""Distributions of the rows that were scored: lengths, unknown tokens, predictions; and, with labels, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from distilspark.config import TaskConfig
from distilspark.scoring.summary import BINS, CELL, Summary, summarize

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
        **_predictions(summary, task),
    }


def profile_of_outputs(encoded: Encoded, outputs: NDArray[Any], task: TaskConfig) -> dict[str, Any]:
    """Build the profile that the same rows get once they are scored.

    Args:
        encoded: their tokens.
        outputs: the model's, as in `distilspark.evaluation.predictions.Predictions`.
        task: its head and labels.

    """
    kept = task.head_kind.bins(task)
    answers = task.head_kind.answer(task.labels, outputs)
    place = np.floor((answers[kept.answer].astype(float) - kept.low) / (kept.high - kept.low) * BINS)
    cells = pd.DataFrame(dict.fromkeys(CELL), index=range(len(outputs))).assign(
        tokens=encoded.full_lengths,
        unknown=encoded.unknown,
        answer=answers.get("label"),
        bin=np.clip(place, 0, BINS - 1).astype(int),
        rows=1,
    )
    return profile_of(summarize(cells, 0), task)


def _predictions(summary: Summary, task: TaskConfig) -> dict[str, Any]:
    binned = {task.head_kind.bins(task).distribution: _histogram(summary.bins, task)}
    if not task.labels:
        return binned
    return {"predictions": {label: summary.answers.get(label, 0) for label in task.labels}, **binned}


def _histogram(bins: Mapping[str, int], task: TaskConfig) -> dict[str, list[float]]:
    kept = task.head_kind.bins(task)
    edges = np.linspace(kept.low, kept.high, BINS + 1).tolist()
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
    if task.head_kind.has_classes:
        return task.head_kind.compute_metrics(*_confusion(summary, task))
    known = scored.where("error = '' AND truth IS NOT NULL").select("truth", "prediction").toPandas()
    outputs = task.head_kind.outputs_of(task, known["prediction"].to_numpy(dtype=float))
    return task.head_kind.compute_metrics(known["truth"].to_numpy(dtype=float), outputs)


def _confusion(summary: Summary, task: TaskConfig) -> tuple[Any, Any, Any]:
    """Return the label ids, the outputs and the number of rows of each pair of label and prediction."""
    pairs = [key.partition(" ")[::2] for key in summary.confusion]
    predicted = np.array([task.labels.index(answer) for _, answer in pairs])
    truth = np.array([float(label) for label, _ in pairs])
    return truth, task.head_kind.outputs_of(task, predicted), np.array(list(summary.confusion.values()), dtype=float)
