"""Figures of scored rows: one aggregate over each chunk, and their sums over a job."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from distilspark.config import TaskConfig

ROW_NUMBER = "row"
REPEATED = "repeated"
BINS = 20  # of scores (from 0 to 1) and of predicted values (over the task's range)
ROWS_PER_PARTITION = 1_000_000  # of the aggregate
MAX_ERROR_KINDS = 1000  # of errors in a chunk's summary
CELL = ["kind", "tokens", "answer", "bin", "truth"]


@dataclass(frozen=True)
class Summary:
    """Counts over scored rows. Keys of dictionaries are strings, as in JSON."""

    rows: int
    failed: int
    cut: int  # scored rows with more tokens than the model reads
    tokens: int  # of all scored rows, before cutting
    unknown: int  # of these tokens
    labelled: int  # scored rows with a label
    errors: dict[str, int]  # failed rows by kind
    lengths: dict[str, int]  # scored rows by number of tokens
    answers: dict[str, int]  # scored rows by predicted label; empty for regression
    bins: dict[str, int]  # scored rows by bin of the score (classification) or of the prediction (regression)
    confusion: dict[str, int]  # labelled rows by label id and predicted label, as "0 acceptable"; empty for regression
    seconds: float = 0.0
    repeated: int = 0  # scored rows with the answer of another row with the same text

    @property
    def scored(self) -> int:
        """The number of rows with a prediction."""
        return self.rows - self.failed


EMPTY = Summary(0, 0, 0, 0, 0, 0, {}, {}, {}, {}, {})


def sum_summaries(parts: Iterable[Summary]) -> Summary:
    """Sum the figures of disjoint sets of rows.

    >>> one = Summary(2, 1, 0, 9, 1, 1, {"is empty": 1}, {"9": 1}, {"no": 1}, {"12": 1}, {"0 no": 1}, 0.5)
    >>> both = sum_summaries([one, one])
    >>> both.scored, both.tokens, both.errors, both.confusion, both.seconds
    (2, 18, {'is empty': 2}, {'0 no': 2}, 1.0)
    """
    return reduce(_add, parts, EMPTY)


def _add(one: Summary, other: Summary) -> Summary:
    pairs = {each.name: (getattr(one, each.name), getattr(other, each.name)) for each in fields(Summary)}
    return Summary(**{name: _sum(*pair) for name, pair in pairs.items()})


def _sum(one: Any, other: Any) -> Any:
    return dict(Counter(one) + Counter(other)) if isinstance(one, dict) else one + other


def count_cells(scored: DataFrame, task: TaskConfig, rows: int) -> pd.DataFrame:
    """Count scored rows by the columns of `CELL`; one Spark action, without a shuffle up to a million rows.

    Args:
        scored: columns `row`, `truth`, `error`, `tokens`, `unknown_tokens`, `repeated` and the answers, as they were
            written.
        task: its head and labels.
        rows: their approximate number.

    Returns:
        the columns of `CELL`, `rows` (distinct row numbers), `written` (rows; more where a row number occurs twice),
        `unknown` (tokens) and `repeated` (rows).

    """
    cell = [column.alias(name) for name, column in zip(CELL, _cell(task), strict=True)]
    narrow = scored.select(ROW_NUMBER, "unknown_tokens", F.col(REPEATED).cast("long"), *cell)
    once = narrow.coalesce(max(1, math.ceil(rows / ROWS_PER_PARTITION))).groupBy(ROW_NUMBER)
    firsts = [F.first(name).alias(name) for name in (*CELL, "unknown_tokens", REPEATED)]
    cells = once.agg(F.count("*").alias("written"), *firsts).groupBy(*CELL)
    sums = [
        F.sum("written").alias("written"),
        F.sum("unknown_tokens").alias("unknown"),
        F.sum(REPEATED).alias(REPEATED),
    ]
    return cells.agg(F.count("*").alias("rows"), *sums).toPandas()


def _cell(task: TaskConfig) -> list[Column]:
    """Return the expressions of `CELL`; errors that differ only in a number of characters are one kind."""
    kept = task.head_kind.bins(task)
    place = F.floor((F.col(kept.answer) - kept.low) / (kept.high - kept.low) * BINS)
    kind = F.regexp_replace("error", r"\b\d+ characters", "too many characters")
    answer = F.col("label") if task.labels else F.lit(None).cast("string")
    # the values of regression's labels are too many to count
    truth = F.col("truth") if task.labels else F.when(F.col("truth").isNotNull(), F.lit(0.0))
    within = F.greatest(F.lit(0), F.least(F.lit(BINS - 1), place))
    return [F.nullif(kind, F.lit("")), F.col("tokens"), answer, within, truth]


def summarize(cells: pd.DataFrame, max_length: int) -> Summary:
    """Sum up the cells of `count_cells`; the model reads `max_length` tokens of a row."""
    scored = cells[cells["kind"].isna()]
    labelled = scored[scored["truth"].notna()]
    known = labelled[labelled["answer"].notna()]
    errors = _rows_by(cells, cells["kind"])
    return Summary(
        rows=int(cells["rows"].sum()),
        failed=int(cells["rows"].sum() - scored["rows"].sum()),
        cut=int(scored.loc[scored["tokens"] > max_length, "rows"].sum()),
        tokens=int((scored["tokens"] * scored["rows"]).sum()),
        unknown=int(scored["unknown"].sum()),
        repeated=int(scored[REPEATED].sum()),
        labelled=int(labelled["rows"].sum()),
        errors=dict(Counter(errors).most_common(MAX_ERROR_KINDS)),
        lengths=_rows_by(scored, scored["tokens"].astype("Int64")),
        answers=_rows_by(scored, scored["answer"]),
        bins=_rows_by(scored, scored["bin"].astype("Int64")),
        confusion=_rows_by(known, known["truth"].astype("Int64").astype(str) + " " + known["answer"].astype(str)),
    )


def _rows_by(cells: pd.DataFrame, key: pd.Series[Any]) -> dict[str, int]:
    return {str(value): int(rows) for value, rows in cells["rows"].groupby(key).sum().items()}
