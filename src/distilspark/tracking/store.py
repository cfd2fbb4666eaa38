"""The tracking store: choose it, and check that it and a run's artifacts can be reached."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import mlflow
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from psycopg2 import OperationalError, extensions  # type: ignore[import-untyped]
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from distilspark.errors import UserError, WorkError
from distilspark.paths import ROOT, from_caller
from distilspark.redaction import redact

STORE_URLS = "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FOLDER/FILE.db"
DATABASE = re.compile(r"(postgresql|mysql|mssql|sqlite)(\+\w+)?://")
CONNECT_SECONDS = 10  # for an answer of the store when a command starts


def use_project_store() -> None:
    """Use the store of MLFLOW_TRACKING_URI, else MLflow's default one in the project's root.

    A relative SQLite URI starts from the caller's folder: `mlflow run` passes it on unchanged.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the log would contain its every step
    given = mlflow.environment_variables.MLFLOW_TRACKING_URI.get()
    if not given:
        mlflow.set_tracking_uri(project_store())
    elif relative := re.fullmatch(r"(sqlite:///)([^/].*)", given):
        mlflow.set_tracking_uri(relative[1] + from_caller(relative[2]))
    else:
        mlflow.set_tracking_uri(with_driver(given))


def project_store() -> str:
    """Return the URI of the store in the project's root."""
    return f"sqlite:///{ROOT / 'mlflow.db'}"


def check_store() -> None:
    """Check that the tracking store answers, without MLflow's minutes of retries.

    Raises:
        UserError: the server requires another user or password, or the URI is no store's.
        WorkError: it does not answer, or is damaged.

    """
    use_project_store()
    if DATABASE.match(mlflow.get_tracking_uri()):
        check_database(mlflow.get_tracking_uri(), "MLFLOW_TRACKING_URI")
    try:
        with few_retries():
            mlflow.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        store = redact(mlflow.get_tracking_uri())
        if _is_refusal(error):
            raise UserError(
                f"the tracking server {store} refuses {_describe_user()}. "
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a user of it; its admin adds users"
            ) from error
        raise WorkError(
            f"the tracking store {store} does not answer: {first_line(error)}. "
            "Start it, or set MLFLOW_TRACKING_URI to another one"
        ) from error


def with_driver(url: str) -> str:
    """Name the PostgreSQL driver of the lock file; SQLAlchemy 2.1 uses another one by default.

    >>> with_driver("postgresql://ann@db.example/mlflow"), with_driver("sqlite:////data/mlflow.db")
    ('postgresql+psycopg2://ann@db.example/mlflow', 'sqlite:////data/mlflow.db')
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def check_database(url: str, key: str) -> None:
    """Connect once, so that a mistake is reported early, in one line and without the password.

    Args:
        url: of the database.
        key: the setting that gave it.

    Raises:
        UserError: it is no URL of a database with an installed driver.
        WorkError: the database does not answer, refuses the login, or is damaged.

    """
    shown = redact(url)
    if re.match(r"[^/]+://[^/]*@[^/]*@", url):
        raise UserError(f"{key}={shown}: an @ in a password is written as %40")
    patience = {} if url.startswith("sqlite") else {"connect_timeout": CONNECT_SECONDS}
    limit_waits(CONNECT_SECONDS)
    try:
        with create_engine(url, connect_args=patience).connect() as connection:
            if not patience:
                connection.exec_driver_sql("PRAGMA schema_version")  # SQLite reads the file's first page only now
    except (ArgumentError, ImportError, ValueError) as error:
        raise UserError(f"{key}={shown}: {first_line(error)}. A database's URL is {STORE_URLS}") from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise WorkError(
            f"the database {shown} cannot be used: {first_line(cause)}. Repair it, or set {key} to another one"
        ) from error
    finally:
        limit_waits(MLFLOW_HTTP_REQUEST_TIMEOUT.get())


def limit_waits(seconds: float) -> None:
    """Set the timeout of this process's PostgreSQL queries; psycopg2 has none of its own."""

    def wait(connection: Any) -> None:
        poll = select.poll()
        while (state := connection.poll()) != extensions.POLL_OK:
            poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
            if not poll.poll(seconds * 1000):
                raise OperationalError(f"no answer for {seconds:g} seconds")

    extensions.set_wait_callback(wait)


def _is_refusal(error: Exception) -> bool:
    refused = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return isinstance(error, MlflowException) and error.get_http_status_code() in refused


def _describe_user() -> str:
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"the user {user} with this password" if user else "requests without a username and a password"


@contextmanager
def few_retries() -> Iterator[None]:
    """Limit MLflow to one retry and a short timeout; keep lower settings."""
    limits = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, MLFLOW_HTTP_REQUEST_TIMEOUT: CONNECT_SECONDS}
    before = {setting.name: os.environ.get(setting.name) for setting in limits}
    os.environ.update({setting.name: str(min(setting.get(), most)) for setting, most in limits.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def check_artifacts(artifact_uri: str) -> None:
    """Raise `UserError` if this process cannot reach a run's artifacts, or would write them elsewhere."""
    over_http = mlflow.get_tracking_uri().startswith("http")
    if not over_http and artifact_uri.startswith("mlflow-artifacts:"):
        raise UserError(
            "this experiment's artifacts are kept by a tracking server. Set MLFLOW_TRACKING_URI to its address "
            "(`make server` starts it on http://127.0.0.1:5000), or take another experiment or store"
        )
    if over_http and is_local_uri(artifact_uri) and not _is_here(artifact_uri):
        raise UserError(
            f"this experiment's artifacts are in {artifact_uri}, on the tracking server's own disk: it was not made "
            "through the server. Take another experiment (`mlflow run --experiment-name`), or start the server on "
            "another store (`make server STORE=...`)"
        )


def _is_here(artifact_uri: str) -> bool:
    """Return whether the folder that holds `EXPERIMENT/RUN/artifacts` exists here; a first run makes the latter."""
    return Path(local_file_uri_to_path(artifact_uri)).parents[2].is_dir()


def first_line(error: Exception) -> str:
    """Return an exception's message in one line of at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
