"""MLflow's own functions on a test's own store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pytest
from mlflow import MlflowClient


@contextmanager
def tracking_in(folder: Path, database: Path | None = None) -> Iterator[None]:
    """Work in the folder on its `mlflow.db` or another database, and restore MLflow's settings afterwards."""
    before, database = mlflow.get_tracking_uri(), database or folder / "mlflow.db"
    if not database.exists():
        make_store(database, folder)
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(folder)
        changed.setenv("DISTILSPARK_CACHE", str(folder / "cache"))
        changed.setenv("MLFLOW_EXPERIMENT_ID", "0")
        changed.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # another store's
        mlflow.set_tracking_uri(f"sqlite:///{database}")
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


def make_store(database: Path, folder: Path) -> None:
    """Make an empty store as MLflow does in this working folder, from a copy: its own way takes a second."""
    database.write_bytes(_empty_store())
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", [str(folder / "mlruns" / "0")])


@cache
def _empty_store() -> bytes:
    with TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{database}").search_experiments(max_results=1)
        return database.read_bytes()
