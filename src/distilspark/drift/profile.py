"""Distributions of scored rows: lengths, unknown tokens and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from distilspark.config import TaskConfig
from distilspark.drift.summary import BINS, CELL, Summary, summarize

if TYPE_CHECKING:
    from distilspark.features.encoding import Encoded


def profile_of(summary: Summary, task: TaskConfig) -> dict[str, Any]:
    """Build the profile of scored rows, as JSON values.

    Returns:
        `rows`; `tokens`: rows by their number of tokens before cutting; `unknown_share`: of all tokens;
        `predictions`: rows by label, or by predicted value; `scores` (classification): rows by probability. Bins
        are `{"edges": [...], "rows": [...]}`; values outside are in the first or last one.

    """
    return {
        "rows": summary.scored,
        "tokens": {length: summary.lengths[length] for length in sorted(summary.lengths, key=int)},
        "unknown_share": summary.unknown / summary.tokens if summary.tokens else 0.0,
        **_predictions(summary, task),
    }


def profile_of_outputs(encoded: Encoded, outputs: NDArray[Any], task: TaskConfig) -> dict[str, Any]:
    """Build the profile that the same rows would get when scored.

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
        repeated=0,
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
