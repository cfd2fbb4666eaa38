"""Metrics of slices of the rows."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np
import pandas as pd

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.heads import Head

UNKNOWN = "unknown"  # the source of a row that has none, if others have one


def score_bands(label_range: list[float], labels: Array) -> pd.Series:
    """Return the band of width 1 that contains each label, as an ordered categorical of all bands.

    A band includes its lower bound, the last one both bounds.

    >>> list(score_bands([0.0, 5.0], np.array([0.0, 0.9, 1.0, 5.0])))
    ['0-1', '0-1', '1-2', '4-5']
    """
    low, high = label_range
    edges = np.append(np.arange(low, high, 1.0), high)
    names = [f"{start:g}-{end:g}" for start, end in pairwise(edges)]
    codes = np.clip(np.searchsorted(edges, labels, side="right") - 1, 0, len(names) - 1)
    return _ordered(codes, names)


def length_bands(tokens: Array) -> pd.Series:
    """Divide rows into terciles of their token counts, which are named after their lengths.

    Rows of equal length stay together, so there can be fewer than three bands.

    >>> list(length_bands(np.array([4, 5, 8, 9, 12, 12])))
    ['4-5 tokens', '4-5 tokens', '8-9 tokens', '8-9 tokens', '12 tokens', '12 tokens']
    """
    edges = np.unique(np.quantile(tokens, [1 / 3, 2 / 3]))
    _, codes = np.unique(np.searchsorted(edges, tokens, side="left"), return_inverse=True)
    groups = [tokens[codes == code] for code in range(codes.max() + 1)]
    return _ordered(codes, [_span(group.min(), group.max()) for group in groups])


def _span(shortest: int, longest: int) -> str:
    return f"{shortest} tokens" if shortest == longest else f"{shortest}-{longest} tokens"


def _ordered(codes: Array, names: list[str]) -> pd.Series:
    return pd.Series(pd.Categorical([names[code] for code in codes], categories=names, ordered=True))


def _source_slices(rows: pd.DataFrame, training_sources: Collection[str]) -> dict[str, pd.Series]:
    if rows["source"].isna().all():
        return {}
    sources = rows["source"].astype(object).where(rows["source"].notna(), UNKNOWN).astype(str)
    slices = {"source": sources.astype("category")}
    if not training_sources:
        return slices
    domain = np.where(sources.isin(list(training_sources)), "in", "out")
    return {"domain": pd.Series(np.where(sources == UNKNOWN, UNKNOWN, domain)).astype("category"), **slices}


def _label_slices(task: TaskConfig, labels: Array) -> dict[str, pd.Series]:
    return {"score band": score_bands(task.label_range, labels)} if task.label_range else {}


def _metrics_by_value(head: Head, name: str, values: pd.Series, predictions: Predictions) -> pd.DataFrame:
    table = []
    for value in values.cat.categories:
        part = predictions.where(values.to_numpy() == value)
        if len(part.labels):
            scores = head.compute_metrics(part.labels, part.outputs)
            table.append({"slice": name, "value": value, "rows": len(part.labels), **scores})
    return pd.DataFrame(table)


def slice_metrics(task: TaskConfig, predictions: Predictions, training_sources: Collection[str]) -> pd.DataFrame:
    """Tabulate each slice and value, with the columns `slice`, `value`, `rows` and one for each metric of the head.

    Slices, each a partition of all rows: `domain` (`in` if the row's source is in `training_sources`) and
    `source`, if rows have sources; `length`, terciles of the token counts; `score band`, for regression. A metric
    that is undefined in a slice is 0, as in `Head.compute_metrics`. Within a score band, correlations and R² are low
    for every model, because the labels vary little: compare bands by their errors.
    """
    slices = {
        **_source_slices(predictions.rows, training_sources),
        "length": length_bands(predictions.rows["tokens"].to_numpy()),
        **_label_slices(task, predictions.labels),
    }
    tables = [_metrics_by_value(task.head_kind, name, values, predictions) for name, values in slices.items()]
    return pd.concat(tables, ignore_index=True)
