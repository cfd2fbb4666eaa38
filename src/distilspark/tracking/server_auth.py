"""Basic authentication of the tracking server: its users' database, its key, and the admin's first password."""

from __future__ import annotations

import os
import secrets
import warnings
from pathlib import Path

from mlflow.environment_variables import (
    MLFLOW_AUTH_ADMIN_PASSWORD,
    MLFLOW_AUTH_CONFIG_PATH,
    MLFLOW_FLASK_SERVER_SECRET_KEY,
)
from mlflow.exceptions import MlflowException

from distilspark.console import print_line
from distilspark.errors import UserError
from distilspark.tracking.store import first_line

ADMIN = "admin"
CACHE_SECONDS = 60  # seconds that a worker caches a correct password, and may miss that it was changed


def authentication(store: str, permission: str, folder: Path) -> dict[str, str]:
    """Create an admin if there is none, and return the environment for `mlflow server --app-name basic-auth`.

    Args:
        store: the database's URL; it also stores the users.
        permission: every user's default permission for others' resources.
        folder: for secrets; accessible by this user only.

    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = folder / "basic_auth.ini"
    _write_private(settings, _settings(store, permission))  # with the database's password, if it has one
    key = MLFLOW_FLASK_SERVER_SECRET_KEY.get() or read_or_create_secret(folder / "secret_key")
    environment = {MLFLOW_AUTH_CONFIG_PATH.name: str(settings), MLFLOW_FLASK_SERVER_SECRET_KEY.name: key}
    os.environ.update(environment)
    _make_admin(folder / "admin_password")
    return environment


def _settings(store: str, permission: str) -> str:
    return f"""[mlflow]
database_uri = {store.replace("%", "%%")}
default_permission = {permission}
admin_username = {ADMIN}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = {CACHE_SECONDS}
"""


def _make_admin(kept: Path) -> None:
    """Create an admin if there is none, with the caller's password, or with one that is printed once and kept."""
    # `mlflow server` creates an admin before its workers start, too, but takes the password from its environment or
    # settings, and cannot tell us whether there is an admin, for whom no password must be made and printed
    with warnings.catch_warnings(action="ignore"):
        from mlflow.server import auth  # reads the settings on import

    auth.store.init_db(auth.auth_config.database_uri)
    given = MLFLOW_AUTH_ADMIN_PASSWORD.get()
    if auth.store.has_user(ADMIN):
        return
    password = given or read_or_create_secret(kept)
    try:
        auth.create_admin_user(ADMIN, password)
    except MlflowException as error:
        raise UserError(f"{MLFLOW_AUTH_ADMIN_PASSWORD.name}: {first_line(error)}") from error
    if not given:
        print_line(f"the password of the user {ADMIN} is {password} (printed once, and kept in {kept})")


def read_or_create_secret(file: Path) -> str:
    """Return the file's random secret, created if missing; only this user can read it."""
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(24))
    return file.read_text(encoding="utf-8")


def _write_private(file: Path, text: str) -> None:
    """Replace the file atomically; only this user can ever read it."""
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    partial.replace(file)
