"""The prepared data of a training: where it is collected, its order, and that texts are tokenized once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.functions import pandas_udf

from distilspark.config import TrainConfig
from distilspark.features.encoding import load_tokenizer
from distilspark.workflows import preparation
from distilspark.workflows.preparation import PreparedData, prepare_data
from helpers.stores import tracking_in

pytestmark = pytest.mark.slow
PARTITIONS = "spark.sql.shuffle.partitions"
SETTINGS = ("task=cola", "model=tiny", "data=sample", "data.sample_rows={train: 200, dev: 50}")


@dataclass(frozen=True)
class Begun:
    """Prepared data and the run that logged it."""

    prepared: PreparedData
    run: Run


@pytest.fixture(scope="module")
def begin(
    spark: SparkSession,
    tiny_folder: Path,
    compose_config: Callable[..., TrainConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Begun]:
    """`begin(partitions, *overrides)` prepares the data in its own run."""
    folder = tmp_path_factory.mktemp("preparing")

    def prepare(partitions: str, *overrides: str) -> Begun:
        before = spark.conf.get(PARTITIONS)
        spark.catalog.clearCache()  # otherwise the second preparation would reuse the first one's rows
        spark.conf.set(PARTITIONS, partitions)
        try:
            with tracking_in(folder):
                with mlflow.start_run() as run:
                    config = compose_config(*SETTINGS, *overrides)
                    prepared = prepare_data(config, spark, load_tokenizer(tiny_folder), folder)
                return Begun(prepared, mlflow.get_run(run.info.run_id))
        finally:
            spark.conf.set(PARTITIONS, before)

    return prepare


@pytest.fixture(scope="module")
def alone(begin: Callable[..., Begun]) -> Begun:
    """Data for training in one process."""
    return begin("2")


@pytest.fixture(scope="module")
def together(begin: Callable[..., Begun]) -> Begun:
    """Data for training on two workers, with another number of partitions."""
    return begin("7", "training.workers=2")


def test_driver_does_not_collect_training_texts_when_workers_train(alone: Begun, together: Begun) -> None:
    assert set(alone.prepared.splits) == {"train", "validation", "dev"}
    assert set(together.prepared.splits) == {"validation", "dev"}
    assert set(together.prepared.train_labels.columns) == {"id", "label", "source"}


def test_order_of_rows_does_not_depend_on_partitions(alone: Begun, together: Begun) -> None:
    for name, split in together.prepared.splits.items():
        same = alone.prepared.splits[name]
        assert split.rows.equals(same.rows)
        for ids, expected in zip(split.encoded.token_ids, same.encoded.token_ids, strict=True):
            np.testing.assert_array_equal(ids, expected)
    assert together.prepared.train_labels.equals(alone.prepared.train_labels[together.prepared.train_labels.columns])


def test_runs_log_the_same_with_workers(alone: Begun, together: Begun) -> None:
    assert together.run.data.metrics == alone.run.data.metrics
    assert alone.run.data.metrics["data/train"] == len(alone.prepared.train_labels)
    inputs = [
        {each.dataset.name: each.dataset for each in begun.run.inputs.dataset_inputs} for begun in (alone, together)
    ]
    assert len(inputs[0]) == 3
    assert inputs[0] == inputs[1]


def test_every_text_is_tokenized_once(
    begin: Callable[..., Begun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts are written to files just before they are tokenized, in whichever process that happens."""
    written = str(tmp_path)

    def write_down(texts: pd.Series) -> pd.Series:
        file = Path(written) / uuid4().hex
        file.write_text("\n".join(texts))
        return texts

    with_model_texts = preparation.with_model_texts

    def with_written_texts(*arguments: Any) -> DataFrame:
        texts = with_model_texts(*arguments)
        return texts.withColumn("text1", pandas_udf(write_down, "string")("text1"))

    monkeypatch.setattr(preparation, "with_model_texts", with_written_texts)
    begun = begin("3", "training.workers=2")
    begun.prepared.training_rows.select("id", "token_ids").collect()  # as the workers do
    tokenized = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    metrics = begun.run.data.metrics
    assert len(tokenized) == sum(metrics[f"data/{split}"] for split in ("train", "validation", "dev"))
