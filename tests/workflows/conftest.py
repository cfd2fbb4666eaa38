"""Shared fixtures: one store for all tests of workflows, and configs of every command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import mlflow
import pytest
from hydra import compose, initialize_config_dir
from mlflow.entities import Run

from distilspark.config import from_hydra
from distilspark.paths import CONF
from distilspark.workflows.runner import CONFIGS


@pytest.fixture
def run(store: mlflow.MlflowClient) -> Iterator[Callable[[], Run]]:
    """Open a run; return a function that reads it from the store."""
    with mlflow.start_run() as active:
        yield lambda: store.get_run(active.info.run_id)


@pytest.fixture(scope="session")
def compose_command() -> Callable[..., Any]:
    """`compose_command(command, *overrides)` returns the command's config."""

    @lru_cache(None)
    def compose_(command: str, *overrides: str) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return from_hydra(CONFIGS[command], compose(command, [*overrides]))

    return compose_
