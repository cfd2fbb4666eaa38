"""The runner does a command's work in one run, ends the run, and then prints its link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from distilspark.errors import UserError, WorkError
from distilspark.paths import CONF
from distilspark.workflows import compare
from distilspark.workflows.runner import Context, Job, Outcome, run_command
from helpers.texts import lines_with


@pytest.fixture
def start(
    store: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[str]]]:
    """Return a function that runs `compare` with other work; its attribute `events` lists the calls."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    log = tmp_path / "compare.log"
    log.touch()
    before = HydraConfig.instance().cfg

    def run(work: Callable[[], Outcome | None], events: list[str], **of_job: Any) -> None:
        @contextmanager
        def prepare(config: Any, context: Context) -> Iterator[Job]:
            assert config.sweep == "a" and context == Context(log, None)
            try:
                yield Job("a title", f"experiment of {tmp_path.name}", "a name", work, {"own": "tag"}, **of_job)
            finally:
                events.append("closed")

        monkeypatch.setattr(compare, "prepare", prepare)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("compare", ["sweep=a"], return_hydra_config=True)
            HydraConfig.instance().set_config(composed)
            with open_dict(composed):
                del composed["hydra"]
            run_command("compare", composed, log)

    yield run  # type: ignore[misc]
    HydraConfig.instance().cfg = before


def last_run(tmp_path: Path) -> Any:
    (found,) = mlflow.search_runs(experiment_names=[f"experiment of {tmp_path.name}"], output_format="list")
    return found


def test_work_is_done_inside_a_run_with_the_jobs_name_and_tags(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[str] = []

    def work() -> Outcome:
        active = mlflow.active_run()
        assert active is not None
        events.append(active.info.run_id)
        return Outcome("a/page")

    start(work, events)
    run = last_run(tmp_path)
    assert events == [run.info.run_id, "closed"]
    assert (run.info.run_name, run.info.status, run.data.tags["own"]) == ("a name", "FINISHED", "tag")
    assert run.data.params["sweep"] == "a"
    printed = capsys.readouterr().out
    assert printed.startswith("a title\n") and lines_with(printed, run.info.run_id)
    assert printed.rstrip().endswith("/a/page")


def test_failure_of_finished_work_is_raised_after_its_run_is_finished(start: Any, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"^refused$"):
        start(lambda: Outcome(failure="refused"), [])
    assert last_run(tmp_path).info.status == "FINISHED"


def test_error_fails_the_run_and_closes_the_workflow(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[str] = []

    def fail() -> None:
        raise UserError("a reason")

    with pytest.raises(UserError, match=r"^a reason$"):
        start(fail, events)
    run = last_run(tmp_path)
    assert (run.info.status, events) == ("FAILED", ["closed"])
    assert run.info.run_id not in capsys.readouterr().out


def test_job_of_a_sweep_prints_no_link(start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow.set_experiment(f"experiment of {tmp_path.name}")
    with mlflow.start_run() as parent:
        pass
    parent_run = mlflow.get_run(parent.info.run_id)
    start(lambda: None, [], parent=parent_run)
    (child,) = (
        run
        for run in mlflow.search_runs(experiment_names=[f"experiment of {tmp_path.name}"], output_format="list")
        if run.info.run_id != parent.info.run_id
    )
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert capsys.readouterr().out == "a title\n"
