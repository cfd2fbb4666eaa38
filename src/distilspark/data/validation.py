"""Report bad rows, and count duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from distilspark.console import print_line
from distilspark.errors import UserError


def check_bad_rows(bad: pd.DataFrame, rows_read: dict[str, int], max_fraction: float, file: Path) -> None:
    """Write the bad rows (`split, file, row, reason`) to a CSV file, and print their number and reasons.

    Raises:
        UserError: a split has more bad rows than `max_fraction`; the message has counts by reason, two rows and a file.

    """
    if bad.empty:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    bad.to_csv(file, index=False)
    for split, part in bad.groupby("split"):
        if len(part) > max_fraction * rows_read[str(split)]:
            raise UserError(
                f"{len(part)} of {rows_read[str(split)]} rows of {split} are bad, more than data.max_bad_fraction="
                f"{max_fraction:g}: {_count_reasons(part)}. For example {', '.join(map(repr, part['row'].head(2)))}. "
                f"All of them: {file}. Correct {part['file'].iloc[0]}, or raise data.max_bad_fraction"
            )
    print_line(f"{len(bad)} bad rows are left out ({_count_reasons(bad)}): {file}")


def _count_reasons(bad: pd.DataFrame) -> str:
    """Return, for example, `3 rows: label is empty; 1 row: …`."""
    counts = bad["reason"].value_counts()
    return "; ".join(f"{count} row{'s' * (count > 1)}: {reason}" for reason, count in counts.items())


def count_duplicates(rows: DataFrame, keys: Sequence[str]) -> dict[str, int]:
    """Count repeated texts in canonical rows of the splits `train` (before splitting) and `dev`.

    Returns:
        `data/duplicates_train_dev`: dev rows whose text is also in train; `data/duplicates_train`: repeated rows of
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
