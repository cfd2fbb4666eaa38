"""The Spark aggregate over scored rows equals the same figures computed in pandas."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig, TrainConfig
from distilspark.drift import summary
from distilspark.drift.profile import profile_of
from distilspark.drift.summary import BINS, Summary, count_cells, sum_summaries, summarize
from distilspark.errors import WorkError
from distilspark.scoring.chunks import Chunk, check_row_counts
from distilspark.scoring.labelled import labelled_metrics
from helpers.scorings import count_jobs

MAX_LENGTH = 16
ROWS = 500
SCHEMA = (
    "row bigint, truth double, prediction double, label string, score double, error string, tokens bigint, "
    "unknown_tokens bigint, repeated boolean"
)


@pytest.fixture(params=["cola", "stsb"])
def task(request: pytest.FixtureRequest, compose_config: Callable[..., TrainConfig]) -> TaskConfig:
    return compose_config(f"task={request.param}", "model=tiny").task


def make_rows(task: TaskConfig, seed: int, *, labels: float = 0.6) -> pd.DataFrame:
    """Return random scored rows: a fifth have an error, a share `labels` has a label."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(2, size=ROWS)
    answers = {
        "classification": {"prediction": ids, "label": np.array(task.labels or ["", ""])[ids]},
        "regression": {"prediction": draw.normal(2.5, 2, ROWS), "label": None},
    }
    truths = {"classification": draw.integers(2, size=ROWS), "regression": draw.choice([0, 0.2, 2.5, 5], ROWS)}
    rows = pd.DataFrame({"row": seed * 2**33 + np.arange(ROWS), "truth": truths[task.head], **answers[task.head]})
    rows["score"] = draw.choice([0.5, 0.50001, 0.95, 1.0], ROWS) if task.labels else None
    rows["tokens"] = draw.integers(3, 30, ROWS)
    rows["unknown_tokens"] = draw.integers(3, size=ROWS)
    rows["repeated"] = draw.random(ROWS) < 0.1
    kinds = ["sentence1 is empty", *(f"sentence1 has {n} characters, more than 10000" for n in (10001, 20000))]
    rows["error"] = np.where(draw.random(ROWS) < 0.2, draw.choice(kinds, ROWS), "")
    rows = rows.astype({"truth": float, "prediction": float, "score": object, "label": object})
    rows.loc[draw.random(ROWS) > labels, "truth"] = None
    rows.loc[rows["error"] != "", ["prediction", "label", "score"]] = None
    return rows


def to_spark(spark: SparkSession, rows: pd.DataFrame, task: TaskConfig) -> object:
    """Return the rows in three partitions, with the columns of the task's chunks."""
    values = rows[[part.split()[0] for part in SCHEMA.split(", ")]].astype(object)
    frame = spark.createDataFrame(values.where(values.notna(), None).values.tolist(), SCHEMA).repartition(3)
    return frame if task.labels else frame.drop("label", "score")


def summary_of(spark: SparkSession, rows: pd.DataFrame, task: TaskConfig) -> Summary:
    return summarize(count_cells(to_spark(spark, rows, task), task, len(rows)), MAX_LENGTH)


def known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["error"] == "") & rows["truth"].notna()]


def outputs(rows: pd.DataFrame, task: TaskConfig) -> np.ndarray:
    predicted = rows["prediction"].to_numpy(float)
    return np.eye(2)[predicted.astype(int)] if task.labels else predicted


def test_counts_equal_those_of_pandas(spark: SparkSession, task: TaskConfig) -> None:
    rows = make_rows(task, 1)
    found, good = summary_of(spark, rows, task), rows[rows["error"] == ""]
    assert (found.rows, found.scored, found.failed) == (ROWS, len(good), ROWS - len(good))
    assert found.cut == (good["tokens"] > MAX_LENGTH).sum() > 0
    assert (found.tokens, found.unknown) == (good["tokens"].sum(), good["unknown_tokens"].sum())
    assert found.labelled == len(known(rows)) > 0
    kinds = rows["error"].str.replace(r"\d+ characters", "too many characters", regex=True)
    assert found.errors == kinds[kinds != ""].value_counts().to_dict()
    assert len(found.errors) == 2
    assert found.lengths == counts(good["tokens"])
    assert found.repeated == good["repeated"].sum() > 0
    assert found.answers == (counts(good["label"]) if task.labels else {})
    value, low, high = ("score", 0, 1) if task.labels else ("prediction", 0, 5)
    place = np.floor((good[value].astype(float) - low) / (high - low) * BINS).clip(0, BINS - 1)
    assert found.bins == counts(place.astype(int))


def counts(values: pd.Series) -> dict[str, int]:
    return {str(value): count for value, count in values.value_counts().items()}


def test_metrics_equal_those_of_all_labelled_rows(spark: SparkSession, task: TaskConfig) -> None:
    rows = make_rows(task, 2)
    found = labelled_metrics(summary_of(spark, rows, task), to_spark(spark, rows, task), task)
    wanted = task.head_kind.compute_metrics(known(rows)["truth"].to_numpy(), outputs(known(rows), task))
    assert found == pytest.approx(wanted, rel=1e-12)


def test_rows_without_labels_have_no_metrics(spark: SparkSession, task: TaskConfig) -> None:
    rows = make_rows(task, 3, labels=0)
    assert labelled_metrics(summary_of(spark, rows, task), to_spark(spark, rows, task), task) == {}


def test_summaries_of_parts_add_up_to_that_of_the_whole(spark: SparkSession, task: TaskConfig) -> None:
    """The parts go through JSON, as in a chunk's marker file."""
    parts = [make_rows(task, seed) for seed in (4, 5, 6)]
    marks = [json.loads(json.dumps(asdict(summary_of(spark, part, task)))) for part in parts]
    whole, every = sum_summaries(Summary(**mark) for mark in marks), pd.concat(parts)
    assert whole == summary_of(spark, every, task)
    assert profile_of(whole, task) == profile_of(summary_of(spark, every, task), task)
    wanted = task.head_kind.compute_metrics(known(every)["truth"].to_numpy(), outputs(known(every), task))
    assert labelled_metrics(whole, to_spark(spark, every, task), task) == pytest.approx(wanted, rel=1e-12)


def test_partitions_of_a_large_chunk_are_counted_together(
    spark: SparkSession, task: TaskConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(task, 7)
    alone = summary_of(spark, rows, task)
    monkeypatch.setattr(summary, "ROWS_PER_PARTITION", ROWS // 3)
    assert summary_of(spark, rows, task) == alone


def test_lost_or_duplicated_row_raises(spark: SparkSession, task: TaskConfig) -> None:
    """Also if one lost row and one duplicate with another answer leave the row count unchanged."""
    rows = make_rows(task, 8)
    chunk = Chunk("00000", [], ROWS)
    check_row_counts(count_cells(to_spark(spark, rows, task), task, ROWS), chunk)
    again = rows.iloc[[0]].assign(tokens=99)
    for broken in (rows.iloc[1:], pd.concat([rows, again]), pd.concat([rows.iloc[:-1], again])):
        with pytest.raises(WorkError, match="chunk 00000 has 500 rows"):
            check_row_counts(count_cells(to_spark(spark, broken, task), task, ROWS), chunk)


def test_a_chunk_is_counted_in_one_spark_job(spark: SparkSession, task: TaskConfig) -> None:
    rows = to_spark(spark, make_rows(task, 9), task).cache()
    rows.count()
    before = count_jobs(spark)
    count_cells(rows, task, ROWS)
    assert count_jobs(spark) - before == 1
