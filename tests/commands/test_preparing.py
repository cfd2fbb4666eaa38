"""What of the data is where when a training begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from distilspark.commands.fine_tuning import Prepared, prepare_data
from distilspark.config import TrainConfig
from distilspark.features.encoding import load_tokenizer

Prepare = Callable[..., Prepared]


@pytest.fixture
def prepare(
    spark: SparkSession,
    tiny_folder: Path,
    compose_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Prepare]:
    """`prepare(*overrides)`: as a training does, in a run of its own."""
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILSPARK_CACHE", str(tmp_path / "cache"))
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")

    def run(*overrides: str) -> Prepared:
        settings = ("task=cola", "model=tiny", "data=sample", "data.sample_rows={train: 200, dev: 50}")
        config = compose_config(*settings, *overrides)
        with mlflow.start_run():
            return prepare_data(config, spark, load_tokenizer(tiny_folder), tmp_path)

    yield run
    mlflow.set_tracking_uri(before)


def test_texts_that_workers_train_on_do_not_come_to_the_driver(prepare: Prepare) -> None:
    alone, team = prepare(), prepare("training.workers=2")
    assert set(alone.splits) == {"train", "validation", "dev"}
    assert set(team.splits) == {"validation", "dev"}
    assert set(team.fitted.columns) == {"id", "label", "source"}
    assert team.fitted.equals(alone.fitted[team.fitted.columns])
    assert team.rows.count() == len(team.fitted) + len(team.splits["validation"].rows)
    first, second = (mlflow.get_run(run.info.run_id) for run in mlflow.search_runs(output_format="list"))
    assert first.data.metrics == second.data.metrics
    assert first.inputs.dataset_inputs[0].dataset.digest == second.inputs.dataset_inputs[0].dataset.digest


def test_rows_are_in_the_same_order_whatever_the_partitions(prepare: Prepare, spark: SparkSession) -> None:
    key = "spark.sql.shuffle.partitions"
    before, prepared = spark.conf.get(key), []
    for partitions in ("2", "7"):
        spark.conf.set(key, partitions)
        spark.catalog.clearCache()  # or the second would be the first's
        prepared.append(prepare())
    spark.conf.set(key, before)
    few, many = prepared
    assert all(few.splits[name].rows.equals(many.splits[name].rows) for name in few.splits)
