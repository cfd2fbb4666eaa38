"""The command and environment of `mlflow server`, and what prevents its start."""

from __future__ import annotations

import configparser
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from distilspark.config import ServerConfig, from_hydra
from distilspark.errors import UserError, WorkError
from distilspark.paths import CONF, ROOT
from distilspark.tracking import server, server_auth
from distilspark.tracking.server import allowed_hosts, allowed_origins, check_address, serve, server_command
from distilspark.tracking.server_auth import authentication, read_or_create_secret
from distilspark.tracking.store import check_database

Composer = Callable[..., ServerConfig]


@pytest.fixture
def server_config(monkeypatch: pytest.MonkeyPatch) -> Composer:
    """Compose `conf/server.yaml` with a free port."""
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def compose_(*overrides: str) -> ServerConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return from_hydra(ServerConfig, compose("server", [f"port={port}", *overrides]))

    return compose_


class StartedError(Exception):
    """Raised in place of the process that `serve` becomes."""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command and environment of the server's process; the project's store is a temporary one."""
    caught: dict[str, Any] = {}

    def execve(path: str, command: list[str], environment: dict[str, str]) -> None:
        caught.update(path=path, command=command, environment=environment)
        raise StartedError

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(server, "project_store", lambda: f"sqlite:///{tmp_path / 'mlflow.db'}")
    return caught


def test_default_server_has_the_projects_store_and_listens_on_localhost(
    server_config: Composer, started: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_RUN_ID", "MLFLOW_AUTH_ADMIN_PASSWORD"):
        monkeypatch.setenv(name, "of a client")
    config = server_config()
    port = config.port
    with pytest.raises(StartedError):
        serve(config)
    environment = started["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "of a client" not in environment.values()
    assert started["path"] == sys.executable
    assert started["command"][1:] == [
        *("-m", "mlflow", "server", "--serve-artifacts", "--host=127.0.0.1", f"--port={port}"),
        *("--workers=2", "--default-artifact-root=mlflow-artifacts:/", f"--artifacts-destination={ROOT / 'mlruns'}"),
        f"--allowed-hosts=localhost,localhost:{port},127.0.0.1,127.0.0.1:{port},[::1],[::1]:{port}",
    ]


def test_allowed_hosts_are_localhost_the_host_and_the_configured_names(
    server_config: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = allowed_hosts(server_config("port=80"))
    open_to_all = server_config("port=80", "host=MLflow.example", "auth=on", "allowed_hosts=[10.0.0.7,proxy:8443]")
    assert own == ["localhost", "localhost:80", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"]
    named = ["mlflow.example", "mlflow.example:80", "10.0.0.7", "10.0.0.7:80", "proxy:8443"]
    assert allowed_hosts(open_to_all) == [*own, *named]
    assert allowed_origins(open_to_all) == [f"{scheme}://{name}" for name in named for scheme in ("http", "https")]
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "*.team.example, [fd00::1]")
    assert server_config().allowed_hosts == ["*.team.example", "[fd00::1]"]


@pytest.mark.parametrize("name", ["*", "10.*", "192.168.*", "a b", "http://mlflow.example", ""])
def test_host_pattern_that_matches_foreign_names_is_refused(server_config: Composer, name: str) -> None:
    with pytest.raises(UserError, match="allowed_hosts"):
        server_config(f"allowed_hosts=['{name}']")


def test_default_experiment_has_a_local_artifact_folder(
    server_config: Composer, started: dict[str, Any], tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    with pytest.raises(StartedError):
        serve(server_config())
    default = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_experiment("0")
    assert default.artifact_location == f"{(ROOT / 'mlruns').as_uri()}/0"


def test_store_can_be_set_by_the_environment(server_config: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://ann:p%40ss$x{y}@db/mlflow")
    assert server_config().store == "postgresql://ann:p%40ss$x{y}@db/mlflow"


@pytest.mark.parametrize("given, auth", [("on", True), ("true", True), ("off", False), ("false", False)])
def test_auth_setting_adds_basic_auth_to_the_command(server_config: Composer, given: str, auth: bool) -> None:
    config = server_config(f"auth={given}")
    assert config.auth is auth
    assert ("--app-name=basic-auth" in server_command(config)) is auth


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "mlflow.example", "::"])
def test_public_host_without_authentication_is_refused(server_config: Composer, host: str) -> None:
    with pytest.raises(UserError, match=r"network.*auth=on"):
        check_address(server_config(f"host='{host}'"))


def test_public_host_with_authentication_is_accepted(server_config: Composer) -> None:
    check_address(server_config("host=0.0.0.0", "auth=on"))
    check_address(server_config("host=localhost"))


def test_occupied_port_is_named_in_the_error(server_config: Composer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"host=127\.0\.0\.1 port={port}: Address already in use"):
            check_address(server_config(f"port={port}"))


@pytest.mark.parametrize(
    "url, raised, said",
    [
        ("mlruns", UserError, "store=mlruns: "),
        ("http://127.0.0.1:5000", UserError, "store=http://127.0.0.1:5000: "),
        ("postgres://ann:secret@db/x", UserError, "postgresql://USER:PASSWORD@HOST/DATABASE"),
        ("postgresql+psycopg2://ann:secret@db:port/x", UserError, "store=postgresql+psycopg2://ann:***@db:port/x: "),
        ("postgresql+psycopg2://ann:sec@ret@db/x", UserError, "%40"),
        ("postgresql+psycopg2://ann:secret@127.0.0.1:9/x", WorkError, "Connection refused"),
        ("sqlite:////no/such/folder/x.db", WorkError, "unable to open database file"),
    ],
)
def test_unusable_database_is_named_without_its_password(url: str, raised: type[Exception], said: str) -> None:
    with pytest.raises(raised) as refused:
        check_database(url, "store")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value) and "ret@" not in str(refused.value)


def test_secret_is_created_once_with_private_permissions(tmp_path: Path) -> None:
    secret = read_or_create_secret(tmp_path / "key")
    assert len(secret) >= 32
    assert read_or_create_secret(tmp_path / "key") == secret != read_or_create_secret(tmp_path / "another")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"key", "another"}


def test_authentication_settings_are_written_and_escaped_for_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_auth, "_make_admin", lambda kept: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    url = "postgresql+psycopg2://ann:p%40ss%25@db/mlflow"
    environment = authentication(url, "READ", tmp_path / "secret")
    parser = configparser.ConfigParser()
    parser.read(environment["MLFLOW_AUTH_CONFIG_PATH"])
    assert parser["mlflow"]["database_uri"] == url
    assert parser["mlflow"]["default_permission"] == "READ"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o700
    assert environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] == (tmp_path / "secret" / "secret_key").read_text()
