"""MLflow's own functions on a test's own store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest


@contextmanager
def tracking_in(folder: Path, database: Path | None = None) -> Iterator[None]:
    """Work in the folder on its `mlflow.db` or another database, and restore MLflow's settings afterwards."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(folder)
        changed.setenv("DISTILSPARK_CACHE", str(folder / "cache"))
        changed.setenv("MLFLOW_EXPERIMENT_ID", "0")
        changed.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # another store's
        mlflow.set_tracking_uri(f"sqlite:///{database or folder / 'mlflow.db'}")
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)
