"""Versions are registered with aliases and tags in a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from distilspark.tracking.model_card import GATE_HEADING
from distilspark.tracking.registry import register
from helpers.stores import tracking_in


@pytest.fixture
def store(tmp_path: Path) -> Iterator[mlflow.MlflowClient]:
    """A store for one test."""
    with tracking_in(tmp_path):
        yield mlflow.MlflowClient()


def logged_model(folder: Path) -> str:
    """Log a model without code and return its URI."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return str(
        mlflow.pyfunc.log_model(name="model", loader_module="json", data_path=str(data), pip_requirements=[]).model_uri
    )


def test_every_version_becomes_challenger_and_only_the_first_that_beats_the_baseline_champion(
    store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    uri = logged_model(tmp_path)
    got = [
        register(uri, "a model", {"dev.mcc": "0.5"}, "# Its card", beats_baseline=beats)
        for beats in (False, True, True, False)
    ]
    assert got == [
        ("1", ("challenger",)),
        ("2", ("challenger", "champion")),
        ("3", ("challenger",)),
        ("4", ("challenger",)),
    ]
    aliases = store.get_registered_model("a model").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"challenger": "4", "champion": "2"}
    third = store.get_model_version("a model", "3")
    assert (third.tags.keys(), third.tags["dev.mcc"]) == ({"dev.mcc", "package.sha256"}, "0.5")
    assert third.description == "# Its card"
    second = store.get_model_version("a model", "2")
    assert second.tags["gate.verdict"] == "promoted"
    card, verdict = second.description.split(GATE_HEADING)
    assert card == "# Its card" and verdict.startswith("promoted")


def test_each_registered_model_has_its_own_champion(store: mlflow.MlflowClient, tmp_path: Path) -> None:
    uri = logged_model(tmp_path)
    assert register(uri, "one", {}, "", beats_baseline=True)[1] == ("challenger", "champion")
    assert register(uri, "two", {}, "", beats_baseline=True) == ("1", ("challenger", "champion"))
