"""`compare` reads a sweep, runs or models, and a sweep that cannot be compared does not fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run

from distilspark.workflows import compare
from distilspark.workflows.compare import prepare, read_input, report_sweep
from distilspark.workflows.runner import Context


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The rows that were read, and the names that they were read from."""
    called: list[tuple[str, Any]] = []
    for kind in ("sweep", "runs", "models"):
        monkeypatch.setattr(
            compare, f"compared_{kind}", lambda names, *_, kind=kind: called.append((kind, names)) or SimpleNamespace()
        )
    return called


@pytest.mark.parametrize(
    "override, kind, names",
    [("sweep=a", "sweep", "a"), ("runs=[b,c]", "runs", ["b", "c"]), ("models=[models:/d/1,e]", "models", None)],
)
def test_the_given_source_is_read(
    read: list[tuple[str, Any]], compose_command: Any, override: str, kind: str, names: Any
) -> None:
    read_input(compose_command("compare", override))
    assert read == [(kind, names or ["models:/d/1", "e"])]


@pytest.mark.parametrize("topic, name", [("class weights", "class weights"), ("", "2 variants")])
def test_run_is_named_after_the_task_and_the_topic(
    compose_command: Any, monkeypatch: pytest.MonkeyPatch, topic: str, name: str
) -> None:
    task = SimpleNamespace(name="cola", title="CoLA")
    compared = SimpleNamespace(topic=topic, variants=[1, 2], task=task)
    monkeypatch.setattr(compare, "read_input", lambda config: compared)
    with prepare(compose_command("compare", "sweep=a"), Context(Path("compare.log"), None)) as job:
        assert (job.experiment, job.run_name) == ("distilspark-cola", f"cola compare {name}")


def test_sweep_without_finished_jobs_is_answered_with_the_reason(
    run: Callable[[], Run], compose_command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow.set_tags({"sweep.id": "empty", "sweep.parent": "true", "sweep.name": "empty", "sweep.varied": "[]"})
    answer = report_sweep(run(), compose_command("compare", "sweep=a").evaluation, tmp_path / "comparison")
    assert "empty" in answer or run().info.run_id in answer
    assert run().data.tags["finding"].endswith(answer) and answer in capsys.readouterr().out
    assert not (tmp_path / "comparison").exists()
