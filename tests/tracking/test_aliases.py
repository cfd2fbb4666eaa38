"""Aliases move all together, in order, and only if no other process has moved them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from distilspark.errors import UserError, WorkError
from distilspark.tracking import aliases
from distilspark.tracking.aliases import lock_aliases, move_aliases, read_aliases
from helpers.stores import tracking_in

NAME = "a model"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[mlflow.MlflowClient]:
    """A store with three versions: the first is champion, the second challenger."""
    with tracking_in(tmp_path):
        made = mlflow.MlflowClient()
        made.create_registered_model(NAME)
        for _ in range(3):
            made.create_model_version(NAME, source=str(tmp_path))
        made.set_registered_model_alias(NAME, "champion", "1")
        made.set_registered_model_alias(NAME, "challenger", "2")
        yield made


def test_aliases_move_in_the_given_order(client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    real = mlflow.MlflowClient.set_registered_model_alias
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "set_registered_model_alias",
        lambda self, *what: moved.append(what[1:]) or real(self, *what),
    )
    move_aliases(NAME, read_aliases(NAME), {"previous": "1", "champion": "2"})
    assert moved == [("previous", "1"), ("champion", "2")]
    assert read_aliases(NAME) == {"challenger": "2", "champion": "2", "previous": "1"}


@pytest.mark.parametrize("alias, version", [("champion", "3"), ("challenger", "3"), ("previous", "3")])
def test_no_alias_moves_if_one_has_moved_since_it_was_read(
    client: mlflow.MlflowClient, alias: str, version: str
) -> None:
    seen = read_aliases(NAME)
    client.set_registered_model_alias(NAME, alias, version)
    with pytest.raises(WorkError, match=rf"@{alias} (1|2|nobody) .*@{alias} 3\b"):
        move_aliases(NAME, seen, {"previous": "1", "champion": "2"})
    assert read_aliases(NAME) == seen | {alias: version}


def test_second_mover_waits_and_then_sees_the_moved_alias(client: mlflow.MlflowClient) -> None:
    seen = read_aliases(NAME)
    outcome: list[object] = []

    def move() -> None:
        try:
            move_aliases(NAME, seen, {"champion": "2"})
        except WorkError as error:
            outcome.append(error)

    with lock_aliases(NAME):
        other = threading.Thread(target=move)
        other.start()
        other.join(0.5)
        assert other.is_alive() and read_aliases(NAME) == seen
        client.set_registered_model_alias(NAME, "champion", "3")
    other.join(60)
    assert len(outcome) == 1, "what it had seen is not so any more"
    assert read_aliases(NAME)["champion"] == "3"


def test_mover_that_does_not_end_is_named_in_the_error(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aliases, "LOCK_SECONDS", 0.2)
    with lock_aliases(NAME), ThreadPoolExecutor() as pool:
        other = pool.submit(move_aliases, NAME, read_aliases(NAME), {"champion": "2"})
        with pytest.raises(WorkError, match=f"has been moving the aliases of {NAME} for 0.2 seconds"):
            other.result(60)


def test_only_one_of_several_concurrent_movers_succeeds(client: mlflow.MlflowClient) -> None:
    seen = read_aliases(NAME)
    start, failed = threading.Barrier(4), []

    def move(version: str) -> None:
        start.wait()
        try:
            move_aliases(NAME, seen, {"previous": "1", "champion": version})
        except WorkError:
            failed.append(version)

    movers = [threading.Thread(target=move, args=(version,)) for version in ("2", "3", "2", "3")]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join(60)
    now = read_aliases(NAME)
    assert len(failed) == 3
    assert now["previous"] == "1" and now["champion"] in ("2", "3")


def test_missing_registered_model_is_a_user_error(client: mlflow.MlflowClient) -> None:
    with pytest.raises(UserError, match=r"\bnobody's\b"):
        read_aliases("nobody's")
