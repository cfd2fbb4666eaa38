"""`predict` chooses files or a stream, stops Spark before it reports, and names the output if the store is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from distilspark.errors import WorkError
from distilspark.workflows import predict
from distilspark.workflows.predict import log_scored, prepare, score
from distilspark.workflows.runner import Context
from helpers.texts import lines_with

MANIFEST = {
    "rows": {"in": 7, "scored": 5, "failed": 2, "cut": 1},
    "seconds": 4.0,
    "scoring_seconds": 2.0,
    "rows_a_second": 3.5,
}


def scored(**changed: Any) -> Any:
    """Return the figures of a scoring."""
    drift = {"tokens": SimpleNamespace(psi=0.25)}
    figures = {"manifest": MANIFEST, "profile": {}, "drift": drift, "metrics": {"mcc": 0.5}}
    return SimpleNamespace(**figures | changed)


class Session:
    """A stand-in for the background Spark session."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.called.append(name)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Replace fetching and scoring by stand-ins that need no Spark."""
    made = Session()
    monkeypatch.setattr(predict, "load_task_model", lambda *_: SimpleNamespace(found=SimpleNamespace()))
    monkeypatch.setattr(predict, "link_model", lambda found: None)
    for name in ("score_existing", "score_incoming"):
        monkeypatch.setattr(predict, name, lambda *_, name=name: made.called.append(name) or scored())
    return made


@pytest.mark.parametrize("streaming, how", [("false", "score_existing"), ("true", "score_incoming")])
def test_spark_is_stopped_before_the_report(
    session: Session, run: Callable[[], Run], compose_command: Any, streaming: str, how: str
) -> None:
    config = compose_command("predict", "input=a", "output=b", f"predict.streaming={streaming}")
    score(config, session)  # type: ignore[arg-type]
    assert session.called == ["wait", how, "stop"]
    assert run().data.metrics["rows/in"] == 7


def test_lost_store_is_an_error_that_names_the_output(
    session: Session, run: Callable[[], Run], compose_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MlflowException("the server is away")

    monkeypatch.setattr(predict.mlflow, "log_metrics", fail)
    with pytest.raises(WorkError, match=r"/the/output\b.*the server is away"):
        score(compose_command("predict", "input=a", "output=/the/output"), session)  # type: ignore[arg-type]
    assert session.called[-1] == "stop"


def test_figures_are_logged_at_the_step_of_their_batch(run: Callable[[], Run]) -> None:
    log_scored(scored(), 3)
    logged = run()
    assert logged.data.metrics == {
        **{"rows/in": 7, "rows/scored": 5, "rows/failed": 2, "rows/cut": 1},
        **{"scored/mcc": 0.5, "drift/tokens": 0.25},
        **{"time/job": 4.0, "time/scoring": 2.0, "speed/scoring": 3.5},
    }
    (point,) = predict.mlflow.MlflowClient().get_metric_history(logged.info.run_id, "rows/in")
    assert point.step == 3


def test_counts_place_and_metrics_are_printed(
    session: Session, run: Callable[[], Run], compose_command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    score(compose_command("predict", "input=a", "output=/the/output"), session)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    for facts in (("rows", 7, 2, 3.5), ("/the/output",), ("mcc", 0.5)):
        assert len(lines_with(printed, *facts)) == 1, facts


def test_run_is_named_after_the_task_and_the_output(session: Session, compose_command: Any) -> None:
    config = compose_command("predict", "input=/in/a.txt", "output=/out/scored", "model_uri=models:/mine@best")
    with prepare(config, Context(Path("predict.log"), session)) as job:  # type: ignore[arg-type]
        assert (job.experiment, job.run_name) == ("distilspark-cola-scoring", "cola scored")
        assert "/in/a.txt" in job.title and "models:/mine@best" in job.title
    assert session.called == ["warm_up"]
