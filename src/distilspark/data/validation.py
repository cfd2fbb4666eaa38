"""What makes a row bad, what becomes of it, and which rows stand twice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from distilspark.config import TaskConfig
from distilspark.errors import UserError

log = logging.getLogger(__name__)
ROW_LENGTH = 200  # characters of a bad row that are kept
REPLACEMENT = "\ufffd"  # what bytes that are not UTF-8 are read as
HIDDEN = -1  # the hub's label where it is kept secret


def problem_of(task: TaskConfig, label: Column, require_label: bool) -> Column:
    """Why a row of text columns `sentence1`, `sentence2`, `label` is bad, or null; `label` is the label's number."""
    problems = [problem for text in task.text_columns for problem in _text_problems(text)]
    if require_label:
        problems.extend(_label_problems(task, label))
    return F.coalesce(*problems)


def _text_problems(column: str) -> list[Column]:
    text = F.col(column)
    return [
        F.when(text.isNull() | ~text.rlike(r"(?U)\S"), f"{column} is empty"),
        F.when(text.contains(REPLACEMENT), f"{column} is not valid UTF-8"),
    ]


def _label_problems(task: TaskConfig, label: Column) -> list[Column]:
    return [
        F.when(F.coalesce(F.trim("label"), F.lit("")) == "", "label is empty"),
        F.when(label == HIDDEN, f"label is hidden ({HIDDEN})"),
        F.when(~F.coalesce(is_allowed(task, label), F.lit(False)), f"label is not {allowed_labels(task)}"),
    ]


def is_allowed(task: TaskConfig, label: Column) -> Column:
    """Whether a label's number is one that the task takes; null stays null."""
    return task.head_kind.is_allowed(task, label)


def allowed_labels(task: TaskConfig) -> str:
    """The labels that a task takes, for a message."""
    return task.head_kind.allowed_labels(task)


def check_bad_rows(bad: pd.DataFrame, rows_read: dict[str, int], max_fraction: float, file: Path) -> None:
    """Write the bad rows (`split, file, row, reason`) to a CSV file and log how many there are.

    Raises:
        UserError: a split has more bad rows than `max_fraction`; gives counts by reason, two rows and the file.

    """
    if bad.empty:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    bad.to_csv(file, index=False)
    log.warning("%d bad rows are left out (%s): %s", len(bad), _count_reasons(bad), file)
    for split, part in bad.groupby("split"):
        if len(part) > max_fraction * rows_read[str(split)]:
            raise UserError(
                f"{len(part)} of {rows_read[str(split)]} rows of {split} are bad, more than data.max_bad_fraction="
                f"{max_fraction:g}: {_count_reasons(part)}. For example {', '.join(map(repr, part['row'].head(2)))}. "
                f"All of them: {file}. Mend {part['file'].iloc[0]}, or raise data.max_bad_fraction"
            )


def _count_reasons(bad: pd.DataFrame) -> str:
    """For example `3 rows: label is empty; 1 row: …`."""
    counts = bad["reason"].value_counts()
    return "; ".join(f"{count} row{'s' * (count > 1)}: {reason}" for reason, count in counts.items())


def count_duplicates(rows: DataFrame, keys: Sequence[str]) -> dict[str, int]:
    """How often the same text stands twice in canonical rows of the splits `train` (whole) and `dev`.

    Returns:
        `data/duplicates_train_dev`: dev rows whose text stands in train too; `data/duplicates_train`: repeated rows of
        train; `data/contradictions_train`: texts of train with more than one label.

    """
    is_train = F.col("split") == "train"
    texts = rows.groupBy(*keys).agg(
        F.count_if(is_train).alias("train"),
        F.count_if(~is_train).alias("dev"),
        F.count_distinct(F.when(is_train, F.col("label"))).alias("labels"),
    )
    counts = texts.agg(
        F.sum(F.when(F.col("train") > 0, F.col("dev"))).alias("data/duplicates_train_dev"),
        F.sum(F.when(F.col("train") > 1, F.col("train") - 1)).alias("data/duplicates_train"),
        F.count_if(F.col("labels") > 1).alias("data/contradictions_train"),
    )
    return {name: int(count or 0) for name, count in counts.collect()[0].asDict().items()}
