"""`mlflow server` for a team: its command, its access rules, and checks before it starts."""

from __future__ import annotations

import os
import re
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import make_url

from distilspark.config import ServerConfig
from distilspark.console import print_line
from distilspark.errors import UserError
from distilspark.paths import ROOT
from distilspark.redaction import redact
from distilspark.tracking.server_auth import authentication
from distilspark.tracking.store import check_database, project_store, with_driver

SERVER_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",  # every process of the server would print it
}
ORIGINS_VARIABLE = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
CLIENT_VARIABLES = ("MLFLOW_TRACKING_", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_", "MLFLOW_AUTH_ADMIN_")


def serve(config: ServerConfig) -> NoReturn:
    """Replace this process with `mlflow server`, so that signals and exit code are MLflow's.

    The store's URL, which may hold a password, is passed in the environment, which `ps` does not show.
    """
    check_address(config)
    store = with_driver(config.store or project_store())
    check_database(store, "store")
    if not config.store:
        _make_project_store()
    environment = {ORIGINS_VARIABLE: ",".join(allowed_origins(config))}
    environment |= {key: value for key, value in os.environ.items() if not key.startswith(CLIENT_VARIABLES)}
    environment |= SERVER_ENVIRONMENT | {"MLFLOW_BACKEND_STORE_URI": store}
    if config.auth:
        os.umask(0o077)  # only the owner can read the server's files, also its users' database
        for file in _database_files(store):
            file.chmod(0o600)
        environment |= authentication(store, config.permission, Path(config.folder or ROOT / ".server"))
    print_line(f"serving {redact(store)}; Ctrl-C ends it")
    print_line(f"clients set MLFLOW_TRACKING_URI=http://{config.host}:{config.port}")
    sys.stdout.flush()
    os.execve(sys.executable, server_command(config), environment)


def _database_files(store: str) -> list[Path]:
    """Return the files of an SQLite database."""
    path = make_url(store).database if store.startswith("sqlite") else None
    return [file for file in Path(path).parent.glob(f"{Path(path).name}*") if file.is_file()] if path else []


def server_command(config: ServerConfig) -> list[str]:
    """Return the command line; every artifact of a new experiment goes through the server."""
    options = {
        "host": config.host,
        "port": config.port,
        "workers": config.workers,
        "default-artifact-root": "mlflow-artifacts:/",
        "artifacts-destination": config.artifacts or ROOT / "mlruns",
        "allowed-hosts": ",".join(allowed_hosts(config)),
    } | ({"app-name": "basic-auth"} if config.auth else {})
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", *given]


def allowed_hosts(config: ServerConfig) -> list[str]:
    """Return the accepted Host headers: loopback's names, `host`, `allowed_hosts`; with the port and without.

    MLflow 3.17's own default, patterns such as `10.*`, also matches names (`10.attacker.example`). A page under such a
    name, once it resolves to this machine (DNS rebinding), could read a server without authentication.
    """
    names = dict.fromkeys([*LOOPBACK, _as_header(config.host), *config.allowed_hosts])
    return [spelling for name in names for spelling in _spellings(name, config.port)]


def allowed_origins(config: ServerConfig) -> list[str]:
    """Return the origins whose pages may send changes, as the UI does; http://localhost always may."""
    names = dict.fromkeys([_as_header(config.host), *config.allowed_hosts])
    hosts = [spelling for name in names for spelling in _spellings(name, config.port)]
    return [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]


def _spellings(name: str, port: int) -> list[str]:
    return [name] if re.search(r":\d+$", name) else [name, f"{name}:{port}"]


def _as_header(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def check_address(config: ServerConfig) -> None:
    """Raise `UserError` if the address is taken, or is open to a network without authentication."""
    if not config.auth and not _is_loopback(config.host):
        raise UserError(
            f"host={config.host} opens the server to the network, where everyone could read, change and delete "
            "everything: set auth=on too (`make server AUTH=on`), and put TLS in front of it"
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


def _make_project_store() -> None:
    """Create its tables, with artifacts of the Default experiment where commands without a server can write."""
    SqlAlchemyStore(project_store(), (ROOT / "mlruns").as_uri())
