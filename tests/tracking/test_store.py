"""Checks of the tracking store and of access to its artifacts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED
from psycopg2 import extensions
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from distilspark.errors import UserError, WorkError
from distilspark.tracking import store
from distilspark.tracking.store import check_artifacts, check_store, few_retries, first_line, limit_waits, with_driver
from helpers.fake_hub import silent_hub
from helpers.postgres import binaries, cluster

HTTP = "http://127.0.0.1:9"


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database for one test, set as the tracking store."""
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    mlflow.set_tracking_uri(database)
    yield database
    mlflow.set_tracking_uri(before)


def test_artifacts_of_a_server_are_refused_without_its_uri(tracking: str) -> None:
    with pytest.raises(UserError, match=r"tracking server.*MLFLOW_TRACKING_URI"):
        check_artifacts("mlflow-artifacts:/1/0123/artifacts")
    check_artifacts("file:///anywhere/1/0123/artifacts")
    check_artifacts("s3://bucket/1/0123/artifacts")


def test_artifact_folder_of_a_remote_server_must_be_on_this_machine(tracking: str, tmp_path: Path) -> None:
    mlflow.set_tracking_uri(HTTP)
    check_artifacts("mlflow-artifacts:/1/0123/artifacts")
    check_artifacts("s3://bucket/1/0123/artifacts")
    check_artifacts((tmp_path / "new experiment" / "0123" / "artifacts").as_uri())
    with pytest.raises(UserError, match=r"file:///not/here/mlruns/1/0123/artifacts\b"):
        check_artifacts("file:///not/here/mlruns/1/0123/artifacts")


def test_store_that_answers_passes_the_check(tracking: str) -> None:
    check_store()


@pytest.mark.parametrize(
    "made, said",
    [
        ("folder", "unable to open database file"),
        ("garbage", "file is not a database"),
        ("a newer schema", "schema"),
        ("missing/folder", "unable to open database file"),
    ],
)
def test_unusable_sqlite_store_is_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str, made: str, said: str
) -> None:
    file = tmp_path / made
    if made == "folder":
        file.mkdir()
    elif made == "garbage":
        file.write_bytes(b"not a database" * 100)
    elif made == "a newer schema":
        check_store()
        with sqlite3.connect(shutil.copyfile(tmp_path / "mlflow.db", file)) as database:
            database.execute("UPDATE alembic_version SET version_num = 'newer'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    with pytest.raises(WorkError, match=said) as raised:
        check_store()
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_unreachable_database_server_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, tracking: str, scheme: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann@127.0.0.1:9/mlflow")
    with pytest.raises(WorkError, match=r"127\.0\.0\.1:9/mlflow .*refused"):
        check_store()


@pytest.mark.parametrize(
    "error, raised, said",
    [
        (MlflowException("You are not authenticated.", error_code=UNAUTHENTICATED), UserError, "MLFLOW_TRACKING_"),
        (MlflowException("Permission denied", error_code=PERMISSION_DENIED), UserError, "MLFLOW_TRACKING_"),
        (MlflowException("no such table"), WorkError, "no such table"),
        (ConnectionRefusedError("Connection refused"), WorkError, "Connection refused"),
    ],
)
def test_store_error_is_a_user_error_only_for_denied_access(
    tracking: str, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception], said: str
) -> None:
    def search(max_results: int) -> None:
        raise error

    monkeypatch.setattr(store.mlflow, "search_experiments", search)
    with pytest.raises(raised, match=said):
        check_store()


@pytest.mark.parametrize("name", ["MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"])
def test_few_retries_restores_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    with few_retries():
        assert os.environ[name] in ("1", "10")
    assert name not in os.environ
    monkeypatch.setenv(name, "3")
    with pytest.raises(OSError), few_retries():
        raise OSError
    assert os.environ[name] == "3"


def test_server_that_does_not_answer_is_named_within_seconds(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CONNECT_SECONDS", 1)
    with silent_hub() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        started = time.monotonic()
        with pytest.raises(WorkError, match=f"the tracking store {url} does not answer: .*Read timed"):
            check_store()
        assert time.monotonic() - started < 10


def test_connection_to_a_database_that_does_not_answer_ends(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CONNECT_SECONDS", 1)
    with silent_hub() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url.replace("http", "postgresql") + "/mlflow")
        with pytest.raises(WorkError, match=r"/mlflow cannot be used: no answer for 1 seconds"):
            check_store()


@pytest.mark.slow
def test_query_of_a_database_that_stops_answering_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    with cluster(found) as url, create_engine(with_driver(url)).connect() as connection:
        limit_waits(1)
        backend = psutil.Process(connection.scalar(text("SELECT pg_backend_pid()")))
        backend.suspend()
        try:
            with pytest.raises(OperationalError, match="no answer for 1 seconds"):
                connection.execute(text("SELECT 1"))
        finally:
            backend.resume()
            extensions.set_wait_callback(None)


def test_first_line_of_an_error_is_short_and_never_empty() -> None:
    assert first_line(ValueError("one.\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("x" * 1000))) == 300
