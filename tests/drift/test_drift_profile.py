"""Training and scoring compute the same profile for the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig, TrainConfig
from distilspark.drift.profile import profile_of, profile_of_outputs
from distilspark.drift.summary import BINS, count_cells, summarize
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.package.build import outputs_of
from distilspark.package.pyfunc import Scorer

TEXTS = [
    "A cat sleeps.",
    "Cat a the sleeps on.",
    "The dog, 3 birds & a cow",
    "Birds",
    "\u4e2d \u6587 \u4e2d",
    "cat " * 40,
]


def profile(spark: SparkSession, scored: pd.DataFrame, task: TaskConfig) -> dict[str, Any]:
    """Return the profile of rows that `Scorer` has scored."""
    rows = spark.createDataFrame(scored.assign(row=range(len(scored)), truth=float("nan"), repeated=False))
    return profile_of(summarize(count_cells(rows, task, len(scored)), max_length=16), task)


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_pandas_and_spark_compute_the_same_profile(
    spark: SparkSession, package: Callable[..., Path], compose_config: Callable[..., TrainConfig], task: str
) -> None:
    config, folder = compose_config(f"task={task}", "model=tiny", "model.max_length=16"), package(task)
    rows = pd.DataFrame({"sentence1": TEXTS, "sentence2": TEXTS[::-1]})
    second = rows["sentence2"].tolist() if config.task.is_pair else None
    encoded = encode(load_tokenizer(folder), TEXTS, second, config.model.max_length)
    reference = profile_of_outputs(encoded, outputs_of(folder, config.task, rows), config.task)
    failed = pd.DataFrame({"sentence1": [""], "sentence2": ["cat"]})
    scored = Scorer(folder).predict(pd.concat([rows, failed]))
    assert profile(spark, scored, config.task) == reference
    assert json.loads(json.dumps(reference)) == reference
    assert reference["rows"] == sum(reference["tokens"].values()) == len(TEXTS)
    assert max(map(int, reference["tokens"])) > config.model.max_length
    assert 0 < reference["unknown_share"] < 1
    assert ("scores" in reference) == (task == "cola")


def test_predictions_outside_the_range_are_in_the_first_or_last_bin(
    spark: SparkSession, compose_config: Callable[..., TrainConfig]
) -> None:
    said = {"prediction": [-1.0, 0.0, 2.6, 5.0, 7.0], "error": "", "tokens": 3, "unknown_tokens": 0}
    task = compose_config("task=stsb", "model=tiny").task
    rows = profile(spark, pd.DataFrame(said), task)["predictions"]["rows"]
    assert {place: count for place, count in enumerate(rows) if count} == {0: 2, BINS // 2: 1, BINS - 1: 2}


def test_profile_without_scored_rows_has_zero_counts(
    spark: SparkSession, compose_config: Callable[..., TrainConfig]
) -> None:
    answers = "label string, score double, error string, tokens bigint, unknown_tokens bigint, repeated boolean"
    schema = f"row bigint, truth double, {answers}"
    task = compose_config("task=cola", "model=tiny").task
    profile = profile_of(summarize(count_cells(spark.createDataFrame([], schema), task, 0), max_length=16), task)
    assert (profile["rows"], profile["tokens"], profile["unknown_share"]) == (0, {}, 0.0)
    assert profile["predictions"] == {"unacceptable": 0, "acceptable": 0}
    assert profile["scores"]["rows"] == [0] * BINS
