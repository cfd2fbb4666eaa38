"""Fixtures for tasks, data configs and loaded datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from distilspark.config import DataConfig, TaskConfig, TrainConfig
from distilspark.data.loading import Datasets, load_datasets

Compose = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def task_of(compose_config: Compose) -> Callable[[str], TaskConfig]:
    """Return a task by its name."""
    return lambda name: compose_config(f"task={name}", "model=tiny").task


@pytest.fixture(scope="session")
def cola(task_of: Callable[[str], TaskConfig]) -> TaskConfig:
    return task_of("cola")


@pytest.fixture(scope="session")
def stsb(task_of: Callable[[str], TaskConfig]) -> TaskConfig:
    return task_of("stsb")


@pytest.fixture
def load(spark: SparkSession, compose_config: Compose, tmp_path: Path) -> Callable[..., Datasets]:
    """Load a folder as `data=files`, with overrides."""

    def load_(folder: Path | str, *overrides: str, task: str = "cola") -> Datasets:
        config = compose_config(f"task={task}", "model=tiny", "data=files", f"data.path='{folder}'", *overrides)
        return load_datasets(spark, config.task, config.data, tmp_path / "bad_rows.csv")

    return load_


@pytest.fixture
def data_config(compose_config: Compose) -> Callable[..., DataConfig]:
    """Compose the data config with overrides, for example `data=files`."""
    return lambda *overrides: compose_config("model=tiny", *overrides).data
