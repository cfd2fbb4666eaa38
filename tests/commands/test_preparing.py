"""What of the data is where, and in which order, when a training begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from pyspark.sql import SparkSession

from distilspark.commands.fine_tuning import Prepared, prepare_data
from distilspark.config import TrainConfig
from distilspark.features.encoding import load_tokenizer
from stores import tracking_in

pytestmark = pytest.mark.slow
PARTITIONS = "spark.sql.shuffle.partitions"
SETTINGS = ("task=cola", "model=tiny", "data=sample", "data.sample_rows={train: 200, dev: 50}")


@dataclass(frozen=True)
class Begun:
    """A training that has its data."""

    prepared: Prepared
    run: Run


@pytest.fixture(scope="module")
def begin(
    spark: SparkSession,
    tiny_folder: Path,
    compose_config: Callable[..., TrainConfig],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Begun]:
    """`begin(partitions, *overrides)`: in a run of its own."""
    folder = tmp_path_factory.mktemp("preparing")

    def prepare(partitions: str, *overrides: str) -> Begun:
        before = spark.conf.get(PARTITIONS)
        spark.catalog.clearCache()  # or the second's rows would be the first's
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
    """In one process."""
    return begin("2")


@pytest.fixture(scope="module")
def together(begin: Callable[..., Begun]) -> Begun:
    """On workers, and in other partitions."""
    return begin("7", "training.workers=2")


def test_texts_that_workers_train_on_do_not_come_to_the_driver(alone: Begun, together: Begun) -> None:
    assert set(alone.prepared.splits) == {"train", "validation", "dev"}
    assert set(together.prepared.splits) == {"validation", "dev"}
    assert set(together.prepared.fitted.columns) == {"id", "label", "source"}


def test_rows_are_in_the_same_order_whatever_the_partitions(alone: Begun, together: Begun) -> None:
    for name, split in together.prepared.splits.items():
        assert split.rows.equals(alone.prepared.splits[name].rows)
    assert together.prepared.fitted.equals(alone.prepared.fitted[together.prepared.fitted.columns])


def test_their_runs_tell_the_same(alone: Begun, together: Begun) -> None:
    assert together.run.data.metrics == alone.run.data.metrics
    assert alone.run.data.metrics["data/train"] == len(alone.prepared.fitted)
    inputs = [
        {each.dataset.name: each.dataset for each in begun.run.inputs.dataset_inputs} for begun in (alone, together)
    ]
    assert len(inputs[0]) == 3
    assert inputs[0] == inputs[1]
