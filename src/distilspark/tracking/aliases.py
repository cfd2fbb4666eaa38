"""The aliases of a registered model, and how they are moved safely."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mlflow
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from distilspark.cache import cache_root
from distilspark.errors import UserError, WorkError

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
LOCK_SECONDS = 120
Aliases = dict[str, str]  # alias -> version


def read_aliases(name: str) -> Aliases:
    """Return the aliases of a registered model and the versions that have them.

    Raises:
        UserError: no such model is registered.

    """
    try:
        aliases = mlflow.MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        raise UserError(
            f"no model {name} is registered. Train one (`python -m distilspark train task=TASK`), or set registry.name"
        ) from error
    return {alias: str(version) for alias, version in aliases.items()}


@contextmanager
def lock_aliases(name: str) -> Iterator[None]:
    """Hold a lock on the model's aliases, which other processes of this user on this machine wait for.

    Raises:
        WorkError: another process has had it for `LOCK_SECONDS`; it may be stopped.

    """
    whose = hashlib.sha256(f"{mlflow.get_tracking_uri()}\0{name}".encode()).hexdigest()[:16]
    lock = cache_root() / "locks" / f"aliases-{whose}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(lock, timeout=LOCK_SECONDS).acquire()
    except Timeout as error:
        raise WorkError(
            f"another process has been moving the aliases of {name} for {LOCK_SECONDS} seconds ({lock}). "
            "End it if it does not answer, and run this again"
        ) from error
    with held:
        yield


def move_aliases(name: str, seen: Aliases, moves: Mapping[str, str]) -> None:
    """Move aliases, in the order of `moves`, unless one has moved since `seen` was read.

    MLflow has no compare-and-set: another machine can still move one in the milliseconds between our read and write.
    Moves in the minutes before, while the decision is made, are detected.

    Raises:
        WorkError: an alias has moved.

    """
    with lock_aliases(name):
        now = read_aliases(name)
        if changed := sorted(alias for alias in seen.keys() | now.keys() if seen.get(alias) != now.get(alias)):
            was, became = ([f"@{alias} {of.get(alias, 'nobody')}" for alias in changed] for of in (seen, now))
            raise WorkError(
                f"the aliases of {name} have moved meanwhile: {', '.join(was)} became {', '.join(became)}. "
                "Nothing was changed; run it again"
            )
        for alias, version in moves.items():
            mlflow.MlflowClient().set_registered_model_alias(name, alias, version)
