"""The promotion's aliases, its verdict in the store, and its exit; the gate's decisions have their own tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from distilspark.errors import UserError
from distilspark.promotion.gate import Verdict
from distilspark.tracking.aliases import read_aliases
from distilspark.workflows import promote
from distilspark.workflows.promote import alias_moves, log_verdict, prepare, roll_back
from distilspark.workflows.runner import Context, Outcome
from helpers.texts import has_facts


@pytest.fixture
def name(store: mlflow.MlflowClient, tmp_path: Path) -> str:
    """A registered model with two versions: the second is champion, the first was it before."""
    store.create_registered_model(tmp_path.name)
    for _ in range(2):
        store.create_model_version(tmp_path.name, source=str(tmp_path))
    store.set_registered_model_alias(tmp_path.name, "champion", "2")
    store.set_registered_model_alias(tmp_path.name, "previous", "1")
    return tmp_path.name


def test_promotion_keeps_the_old_champion_as_previous_before_the_new_one() -> None:
    moves = alias_moves({"champion": "1", "challenger": "3", "previous": "2"})
    assert list(moves.items()) == [("previous", "1"), ("champion", "3")]
    assert alias_moves({"challenger": "3"}) == {"champion": "3"}


def test_second_rollback_undoes_the_first(name: str, run: Callable[[], Run], compose_command: Any) -> None:
    config, client = compose_command("promote", f"registry.name='{name}'"), mlflow.MlflowClient()
    assert roll_back(config)
    assert read_aliases(name) == {"champion": "1", "previous": "2"}
    assert client.get_model_version(name, "2").tags["gate.verdict"] == "rolled back"
    assert "gate.verdict" not in client.get_model_version(name, "1").tags
    assert roll_back(config)
    assert read_aliases(name) == {"champion": "2", "previous": "1"}
    assert client.get_model_version(name, "1").tags["gate.verdict"] == "rolled back"
    assert run().data.tags["gate.verdict"] == "rolled back"


def test_rollback_without_a_previous_champion_is_refused(
    name: str, store: mlflow.MlflowClient, run: Callable[[], Run], compose_command: Any
) -> None:
    store.delete_registered_model_alias(name, "previous")
    with pytest.raises(UserError, match=f"^{name} .*@previous"):
        roll_back(compose_command("promote", f"registry.name='{name}'"))
    assert read_aliases(name) == {"champion": "2"}


@pytest.mark.parametrize("promoted, decision", [(True, "promoted"), (False, "not promoted")])
def test_verdict_is_in_the_run_the_version_and_the_output(
    name: str,
    run: Callable[[], Run],
    compose_command: Any,
    capsys: pytest.CaptureFixture[str],
    promoted: bool,
    decision: str,
) -> None:
    log_verdict(
        compose_command("promote", f"registry.name='{name}'"), "2", Verdict(promoted, "a reason", {"low": 0.25})
    )
    logged, version = run(), mlflow.MlflowClient().get_model_version(name, "2")
    assert logged.data.metrics == {"gate/low": 0.25}
    for tags in (logged.data.tags, version.tags):
        assert (tags["gate.verdict"], tags["gate.reason"]) == (decision, "a reason")
    assert version.tags["gate.run_id"] == logged.info.run_id
    assert json.loads(version.tags["gate.numbers"]) == {"low": 0.25}
    file = mlflow.artifacts.load_dict(f"{logged.info.artifact_uri}/verdict.json")
    assert file == {"verdict": decision, "reason": "a reason", "low": 0.25}
    assert has_facts(capsys.readouterr().out, "version 2", decision, "a reason")


@pytest.mark.parametrize(
    "is_champion, required, fails", [(True, True, False), (False, True, True), (False, False, False)]
)
def test_command_fails_only_if_a_required_promotion_is_refused(
    compose_command: Any, monkeypatch: pytest.MonkeyPatch, is_champion: bool, required: bool, fails: bool
) -> None:
    monkeypatch.setattr(promote, "promote", lambda config, folder: is_champion)
    config = compose_command("promote", f"promote.require={str(required).lower()}")
    with prepare(config, Context(Path("promote.log"), None)) as job:
        outcome = job.work()
    assert isinstance(outcome, Outcome) and bool(outcome.failure) is fails
    assert (job.experiment, job.run_name) == ("distilspark-cola-promotion", "cola promotion")
