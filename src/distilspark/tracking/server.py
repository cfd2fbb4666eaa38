"""`mlflow server` for a team: what it serves, to whom, and what is checked before it starts."""

from __future__ import annotations

import os
import re
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from distilspark.config import ServerConfig
from distilspark.console import say
from distilspark.errors import UserError, WorkError
from distilspark.paths import ROOT
from distilspark.redaction import redact
from distilspark.tracking.server_auth import authentication
from distilspark.tracking.store import first_line, project_store

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",  # every process of the server would tell
}
NOT_FOR_THE_SERVER = ("MLFLOW_TRACKING_", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_", "MLFLOW_AUTH_ADMIN_")
STORE_URLS = "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FOLDER/FILE.db"


def serve(config: ServerConfig) -> NoReturn:
    """Become `mlflow server`: this process is replaced, and its signals and exit code are MLflow's.

    The store's URL, which may hold a password, goes by the environment, where `ps` does not show it.
    """
    check_address(config)
    store = with_driver(config.store or project_store())
    check_database(store)
    if not config.store:
        _make_project_store()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(NOT_FOR_THE_SERVER)}
    environment |= SETTINGS | {"MLFLOW_BACKEND_STORE_URI": store}
    if config.auth:
        os.umask(0o077)  # what the server writes, its users' database too, is readable by its owner alone
        for file in _database_files(store):
            file.chmod(0o600)
        environment |= authentication(store, config.permission, Path(config.folder or ROOT / ".server"))
    say(f"serving {redact(store)}; Ctrl-C ends it")
    say(f"clients set MLFLOW_TRACKING_URI=http://{config.host}:{config.port}")
    sys.stdout.flush()
    os.execve(sys.executable, server_command(config), environment)


def _database_files(store: str) -> list[Path]:
    """Return the files of an SQLite database."""
    path = make_url(store).database if store.startswith("sqlite") else None
    return [file for file in Path(path).parent.glob(f"{Path(path).name}*") if file.is_file()] if path else []


def server_command(config: ServerConfig) -> list[str]:
    """The command line; every artifact of a new experiment goes through the server."""
    options = {
        "host": config.host,
        "port": config.port,
        "workers": config.workers,
        "default-artifact-root": "mlflow-artifacts:/",
        "artifacts-destination": config.artifacts or ROOT / "mlruns",
    } | ({"app-name": "basic-auth"} if config.auth else {})
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", *given]


def check_address(config: ServerConfig) -> None:
    """Raise `UserError` where the address is taken, or is open to a network without authentication."""
    if not config.auth and not _is_loopback(config.host):
        raise UserError(
            f"host={config.host} lets the network in, where everyone could read, change and delete everything: "
            "set auth=on too (`make server AUTH=on`), and put TLS in front of it"
        )
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        socket.create_server((config.host, config.port), family=family).close()
    except OSError as error:
        problem = str(error.strerror).partition(" (")[0]
        raise UserError(
            f"host={config.host} port={config.port}: {problem}. Choose another one (`make server PORT=5001`)"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_driver(url: str) -> str:
    """PostgreSQL's URL with the driver that the lock has: SQLAlchemy 2.1 takes another one by default.

    >>> with_driver("postgresql://ann@db.example/mlflow"), with_driver("sqlite:////data/mlflow.db")
    ('postgresql+psycopg2://ann@db.example/mlflow', 'sqlite:////data/mlflow.db')
    """
    return re.sub(r"^postgresql://", "postgresql+psycopg2://", url)


def check_database(url: str) -> None:
    """Connect once, so that what is wrong is said at once, in one line and without the password.

    Raises:
        UserError: it is no URL of a database that there is a driver for.
        WorkError: the database does not answer, or does not let us in.

    """
    shown = redact(url)
    if re.match(r"[^/]+://[^/]*@[^/]*@", url):
        raise UserError(f"store={shown}: an @ in a password is written as %40")
    try:
        create_engine(url).connect().close()
    except (ArgumentError, ImportError, ValueError) as error:
        raise UserError(f"store={shown}: {first_line(error)}. A database's URL is {STORE_URLS}") from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise WorkError(f"the database {shown} cannot be used: {first_line(cause)}") from error


def _make_project_store() -> None:
    """Its tables, with `mlflow run`'s Default experiment kept where commands without a server can write."""
    SqlAlchemyStore(project_store(), (ROOT / "mlruns").as_uri())
