"""A profile of the data: labels, lengths, sources, stop words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from distilspark.config import TaskConfig
from distilspark.features.pipeline import with_words
from distilspark.figures import GREY, PALETTE, count_rows, new_figure, percent, styled

SPLITS = ["train", "validation", "dev"]
COLOURS: Any = PALETTE[:3]  # Any: pandas and matplotlib type colours differently
UNKNOWN = "unknown"


@dataclass(frozen=True)
class DataProfile:
    """Small tables, figures and metrics about a task's rows."""

    tables: dict[str, pd.DataFrame]  # labels, tokens, token_counts, sources, stop_words: each with a column `split`
    figures: dict[str, Figure]  # labels, tokens
    metrics: dict[str, float]  # data/cut_SPLIT; of train: data/tokens_mean, data/cut_share, data/stop_word_share


def profile_rows(rows: DataFrame, task: TaskConfig, max_length: int) -> DataProfile:
    """Profile the rows of all three splits, as `with_token_ids` returns them, in one Spark action.

    Tokens are those of the text that the model reads, before truncation to `max_length`; special tokens are included,
    and a pair is one text.
    """
    cube = _cube(rows, task)
    tables = {
        "labels": _shares(cube, "label"),
        "tokens": _token_table(cube, max_length),
        "token_counts": _sum_by(cube, "tokens"),
        "sources": _shares(cube, "source"),
        "stop_words": _stop_words(cube),
    }
    figures = {"labels": _label_figure(tables["labels"]), "tokens": _token_figure(tables["token_counts"], max_length)}
    return DataProfile(tables, figures, _metrics(tables))


def _cube(rows: DataFrame, task: TaskConfig) -> pd.DataFrame:
    """Count rows, words and stop words by split, label, source and number of tokens, for all tables."""
    worded = with_words(rows, task)
    words, filtered = _count_words(task, "tokens"), _count_words(task, "filtered")
    measured = worded.select(
        "split",
        task.head_kind.label_name(task, F.col("label")).alias("label"),
        F.coalesce("source", F.lit(UNKNOWN)).alias("source"),
        "tokens",
        words.alias("words"),
        (words - filtered).alias("stop_words"),
    )
    totals = [F.count("*").alias("rows"), F.sum("words").alias("words"), F.sum("stop_words").alias("stop_words")]
    return measured.groupBy("split", "label", "source", "tokens").agg(*totals).toPandas()


def _count_words(task: TaskConfig, suffix: str) -> Column:
    return F.size(F.concat(*(F.array_remove(f"{column}_{suffix}", "") for column in task.text_columns)))


def _sum_by(cube: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return cube.groupby(["split", *columns], as_index=False).agg({"rows": "sum"})


def _shares(cube: pd.DataFrame, column: str) -> pd.DataFrame:
    """Count the rows of each value of a column, and their share of the split."""
    counts = _sum_by(cube, column)
    counts["share"] = counts["rows"] / counts.groupby("split")["rows"].transform("sum")
    return counts


def _token_table(cube: pd.DataFrame, max_length: int) -> pd.DataFrame:
    rows = []
    for split, part in cube.groupby("split"):
        tokens = np.repeat(part["tokens"].to_numpy(), part["rows"].to_numpy())
        quantiles = np.quantile(tokens, [0.5, 0.95, 1.0])
        cut = tokens > max_length
        rows.append((split, len(tokens), tokens.mean(), *quantiles, max_length, cut.sum(), cut.mean()))
    columns = ["split", "rows", "mean", "median", "p95", "max", "max_length", "cut", "cut_share"]
    return pd.DataFrame(rows, columns=columns)


def _stop_words(cube: pd.DataFrame) -> pd.DataFrame:
    sums = cube.groupby("split", as_index=False)[["words", "stop_words"]].sum()
    sums["share"] = sums["stop_words"] / sums["words"]
    return sums


def _metrics(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    tokens, words = (tables[name].set_index("split") for name in ("tokens", "stop_words"))
    return {
        **{f"data/cut_{split}": float(cut) for split, cut in tokens["cut"].items()},
        "data/tokens_mean": float(tokens["mean"]["train"]),
        "data/cut_share": float(tokens["cut_share"]["train"]),
        "data/stop_word_share": float(words["share"]["train"]),
    }


def _label_figure(labels: pd.DataFrame) -> Figure:
    shares = labels.pivot_table(index="label", columns="split", values="share", fill_value=0.0)
    training = shares["train"]
    title = f"{training.idxmax()} is the most frequent label: {percent(training.max())} of train"
    with styled():
        figure = new_figure(title, f"{_rows_by_split(labels)}; shares of each split")
        axes = figure.subplots()
        axes.grid(visible=False, axis="x")
        bars = shares[[split for split in SPLITS if split in shares]]
        bars.plot.bar(ax=axes, rot=0, width=0.75, color=COLOURS)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="Label", ylabel="Share of the split's rows")
        axes.legend(title=None)
    return figure


def _token_figure(counts: pd.DataFrame, max_length: int) -> Figure:
    training = counts[counts["split"] == "train"]
    cut = training.loc[training["tokens"] > max_length, "rows"].sum() / training["rows"].sum()
    caption = f"{_rows_by_split(counts)}; special tokens included"
    low, high = int(counts["tokens"].min()), int(counts["tokens"].max())
    width = 1 + (high - low) // 40
    bins = np.arange(low, high + width + 1, width) - 0.5
    with styled():
        figure = new_figure(f"{percent(cut, 1)} of train is longer than {max_length} tokens and is cut", caption)
        axes = figure.subplots()
        for split, colour in zip(SPLITS, COLOURS, strict=True):
            part = counts[counts["split"] == split]
            shape: dict[str, Any] = {
                "density": True,
                "histtype": "step",
                "linewidth": 1.8,
                "color": colour,
                "label": split,
            }
            axes.hist(part["tokens"], bins=list(bins), weights=part["rows"], **shape)
        axes.axvline(max_length, linestyle="--", color=GREY, linewidth=1.2, label=f"max_length {max_length}")
        axes.set(xlabel="Tokens a row", ylabel="Density")
        axes.legend()
    return figure


def _rows_by_split(table: pd.DataFrame) -> str:
    rows = table.groupby("split")["rows"].sum()
    return ", ".join(f"{split} {count_rows(int(rows[split]))}" for split in SPLITS if split in rows)
