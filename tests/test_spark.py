"""The Spark session has the settings of its config."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

import distilspark.spark
from distilspark.config import SparkConfig, TrainConfig
from distilspark.errors import UserError
from distilspark.paths import ROOT
from distilspark.spark import _settings, for_workers, open_session

Composer = Callable[..., TrainConfig]


@pytest.fixture
def local(compose_config: Composer) -> SparkConfig:
    return compose_config("model=tiny").spark


def test_config_values_become_spark_settings(local: SparkConfig) -> None:
    settings = _settings(local)
    assert settings["spark.driver.memory"] == "4g"
    assert settings["spark.executor.cores"] == "1"
    assert settings["spark.sql.shuffle.partitions"] == "8"
    assert settings["spark.dynamicAllocation.enabled"] == "false"
    assert settings["spark.ui.enabled"] == "false"
    assert settings["spark.sql.session.timeZone"] == "UTC"


def test_spark_settings_of_the_user_override_others_nested_or_dotted(compose_config: Composer) -> None:
    dotted = compose_config("model=tiny", "+spark.settings={spark.ui.enabled: true, spark.task.cpus: 2}").spark
    nested = compose_config("model=tiny", "+spark.settings.spark.task.cpus=2", "+spark.settings.spark.x=y").spark
    assert _settings(dotted)["spark.ui.enabled"] == "true"
    assert _settings(dotted)["spark.task.cpus"] == _settings(nested)["spark.task.cpus"] == "2"
    assert _settings(nested)["spark.x"] == "y"


def test_session_has_the_settings_and_workers_run_this_python(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.shuffle.partitions") == "2"
    assert spark.sparkContext.master == "local[2]"
    assert os.environ["PYSPARK_PYTHON"] == os.environ["PYSPARK_DRIVER_PYTHON"] == sys.executable
    where = spark.range(2).rdd.map(lambda _: __import__("sys").executable).collect()
    assert where == [sys.executable] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_session_is_stopped_with_and_without_an_error(
    local: SparkConfig, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    events: list[str] = []

    class Session:
        def stop(self) -> None:
            events.append("stopped")

    def session(config: SparkConfig, name: str) -> Any:
        events.append(f"{config.master} {name}")
        return Session()

    monkeypatch.setattr(distilspark.spark, "session", session)
    try:
        with open_session(replace(local, master="local[3]"), "a name"):
            events.append("used")
            if fails:
                raise ValueError("inside")
    except ValueError:
        assert fails
    assert events == ["local[3] a name", "used", "stopped"]


@pytest.mark.parametrize("name", ["standalone", "kubernetes", "yarn"])
def test_training_workers_of_a_cluster_are_static_executors(compose_config: Composer, name: str) -> None:
    config = compose_config("model=tiny", f"spark={name}").spark
    settings = _settings(for_workers(config, 3))
    assert settings["spark.dynamicAllocation.enabled"] == "false"
    assert [key for key in settings if "dynamicAllocation" in key] == ["spark.dynamicAllocation.enabled"]
    assert settings["spark.executor.instances"] == "3"
    assert settings["spark.task.cpus"] == settings["spark.executor.cores"] == "2"
    assert settings["spark.cores.max"] == "6"
    assert for_workers(config, 3).master == config.master


@pytest.mark.parametrize("master, there", [("local", 1), ("local[2]", 2), ("local[2,4]", 2)])
def test_more_workers_than_local_tasks_are_refused(local: SparkConfig, master: str, there: int) -> None:
    assert for_workers(replace(local, master=master), there).master.startswith("local")
    with pytest.raises(UserError, match=rf"training\.workers=3: .*\b{there}\b.*local\[3\]"):
        for_workers(replace(local, master=master), 3)


@pytest.mark.slow
def test_scoring_workers_have_imported_the_models_packages(tmp_path: Path) -> None:
    code = """
import sys
import pyarrow as pa
from distilspark.config import SparkConfig
from distilspark.spark import for_scoring, open_session

def modules(batches):
    import sys
    for batch in batches:
        there = {"mlflow.pyfunc", "onnxruntime"} <= sys.modules.keys() and "distilspark" not in sys.modules
        yield pa.RecordBatch.from_pydict({"there": [there]})

with open_session(for_scoring(SparkConfig("local[1]", "1g", "1g", 1, 2, False, 1800, {})), "workers") as spark:
    print("there:", spark.range(0, 1, 1, 1).mapInArrow(modules, "there boolean").collect()[0]["there"])
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "there: True" in ended.stdout
