"""Packages as training writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import mlflow
import pytest
from packages import make_network
from pyspark.sql import SparkSession
from scorings import Scoring, compose_predict

from distilspark.config import Precision, TrainConfig
from distilspark.model.network import export_arrays
from distilspark.package.build import SOURCE, signature, write_package


@pytest.fixture(scope="session")
def package(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, compose_config: Callable[..., TrainConfig]
) -> Callable[..., Path]:
    """`package(task, stop_words, precision)`: the folder that `distilspark.package.pyfunc` loads; read only."""

    @cache
    def write(task: str, stop_words: Sequence[str] = (), precision: Precision = "float32") -> Path:
        config = compose_config(f"task={task}", "model=tiny", "model.max_length=16")
        folder = tmp_path_factory.mktemp(task)
        network = make_network(tiny_folder, config.task.head, len(config.task.labels) or 1, "cls")
        arrays = export_arrays(network)
        write_package(folder, arrays, tiny_folder, config.task, config.model, stop_words, precision)
        return folder

    return write


@pytest.fixture(scope="session")
def saved(package: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A task's package as an MLflow model in a folder."""

    @cache
    def save(task: str) -> Path:
        folder = tmp_path_factory.mktemp("saved") / task
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module="distilspark.package.pyfunc",
            data_path=str(package(task)),
            code_paths=[str(SOURCE)],
            signature=signature(compose_predict(f"task={task}", "input=x", "output=y").task),
            pip_requirements=[],
        )
        return folder

    return save


@pytest.fixture
def score(spark: SparkSession, tmp_path: Path, saved: Callable[[str], Path]) -> Scoring:
    """Scores files below the test's folder."""
    return Scoring(spark, tmp_path, saved)
