"""Test the status and records of runs that end in different ways, in a real store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
import yaml
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from distilspark.config import TrainConfig, flatten
from distilspark.console import new_log
from distilspark.errors import UserError
from distilspark.paths import CALLER, ROOT
from distilspark.tracking.runs import (
    drop_earlier_models,
    end_interrupted,
    log_config,
    log_once,
    open_run,
    print_run_link,
    timed,
)
from distilspark.tracking.store import use_project_store
from helpers.crash_points import operations
from helpers.stores import make_store

Composer = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store shared by all tests of this file."""
    folder = tmp_path_factory.mktemp("runs")
    make_store(folder / "mlflow.db", folder)
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def log(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A log file in the folder of the artifacts."""
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow.set_tracking_uri(database)
    file = tmp_path / "train.log"
    file.write_text("what was logged\n")
    yield file
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


def stored(run_id: str) -> Run:
    return mlflow.MlflowClient().get_run(run_id)


def has_log(run_id: str) -> bool:
    return "train.log" in {item.path for item in mlflow.MlflowClient().list_artifacts(run_id)}


def test_run_without_an_error_ends_as_finished(log: Path, tmp_path: Path) -> None:
    with open_run(tmp_path.name, "a name", log) as run:
        assert stored(run.info.run_id).info.status == "RUNNING"
    ended = stored(run.info.run_id)
    assert ended.info.status == "FINISHED"
    assert (ended.info.run_name, has_log(run.info.run_id)) == ("a name", True)
    assert mlflow.active_run() is None


@pytest.mark.parametrize("error", [UserError("data.path=x: no such file"), ValueError("deep inside"), SystemExit(3)])
def test_exception_ends_the_run_as_failed_and_is_raised_again(log: Path, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), open_run(tmp_path.name, "fails", log) as run:
        mlflow.log_metric("before", 1)
        raise error
    ended = stored(run.info.run_id)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["error"] == f"{type(error).__name__}: {error}"
    assert ended.data.metrics["before"] == 1
    assert has_log(run.info.run_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_as_killed(log: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path.name, "killed", log) as run:
        os.kill(os.getpid(), number)
        for _ in range(10_000_000):
            pass
    assert stored(run.info.run_id).info.status == "KILLED"
    assert has_log(run.info.run_id)
    assert {each: signal.getsignal(each) for each in before} == before


def test_missing_log_does_not_hide_the_error(log: Path, tmp_path: Path) -> None:
    log.unlink()
    with pytest.raises(ValueError, match="the reason"), open_run(tmp_path.name, "no log", log) as run:
        raise ValueError("the reason")
    assert stored(run.info.run_id).info.status == "FAILED"


@pytest.mark.parametrize("error", [MlflowException("the server is away"), KeyboardInterrupt()])
def test_unreachable_store_is_not_retried_and_does_not_hide_the_error(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    retries: list[str | None] = []

    def away(*arguments: object, **named: object) -> None:
        retries.append(os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES"))
        raise MlflowException("away still")

    with pytest.raises(type(error)) as passed, open_run(tmp_path.name, "away", log):
        for name in ("set_tag", "log_artifact", "set_terminated"):
            monkeypatch.setattr(mlflow.MlflowClient, name, away)
        raise error
    assert passed.value is error
    assert retries and set(retries) == {"1"}
    assert mlflow.active_run() is None


def test_run_has_a_true_status_when_the_disk_is_full_while_artifacts_are_logged(log: Path, tmp_path: Path) -> None:
    """Each file and folder of the artifacts cannot be created once; the last ones are those of the log."""
    artifacts = tmp_path / "mlruns"
    mlflow.create_experiment(tmp_path.name, artifacts.as_uri())

    def work() -> None:
        with open_run(tmp_path.name, "full", log):
            mlflow.log_dict({"rows": 1}, "deep/manifest.json")

    with operations(artifacts) as counted:
        work()
    points = [k for k, operation in enumerate(counted.done, start=1) if operation.startswith("create")]
    raised = []
    for k in points:
        with operations(artifacts, k):
            try:
                work()
            except OSError as error:
                raised.append(error)
    runs = mlflow.search_runs(experiment_names=[tmp_path.name], output_format="list")
    failed = [run for run in runs if run.info.status == "FAILED"]
    assert raised and len(failed) == len(raised)
    assert all("No space left on device" in run.data.tags["error"] for run in failed)
    assert {run.info.status for run in runs} == {"FAILED", "FINISHED"}


def test_run_with_unreachable_artifacts_fails_at_its_start(log: Path, tmp_path: Path) -> None:
    mlflow.create_experiment(tmp_path.name, "mlflow-artifacts:/1")  # as a server creates it
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"), open_run(tmp_path.name, "out of reach", log):
        pytest.fail("the run goes on")
    (run,) = mlflow.search_runs(experiment_names=[tmp_path.name], output_format="list")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize("given, expected", [("theirs", "theirs"), (None, "our name")])
def test_run_of_mlflow_run_is_used_and_keeps_a_given_name(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    opened = mlflow.MlflowClient().create_run(mlflow.create_experiment(f"{tmp_path.name}-theirs"))
    if given:
        mlflow.MlflowClient().set_tag(opened.info.run_id, "mlflow.runName", given)  # as `mlflow run` does it
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # as in a fresh process
    with open_run(f"{tmp_path.name}-ours", "our name", log) as run:
        assert run.info.run_id == opened.info.run_id
    ended = stored(opened.info.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", expected)
    assert mlflow.get_experiment_by_name(f"{tmp_path.name}-ours") is None


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process without an active experiment."""
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    return monkeypatch


@pytest.mark.parametrize("is_there", [True, False])
def test_experiment_of_the_environment_takes_precedence(
    log: Path, tmp_path: Path, fresh: pytest.MonkeyPatch, is_there: bool
) -> None:
    theirs = f"{tmp_path.name}-theirs"
    if is_there:
        mlflow.create_experiment(theirs)
    fresh.setenv("MLFLOW_EXPERIMENT_NAME", theirs)
    with open_run(f"{tmp_path.name}-ours", "a name", log) as run:
        assert mlflow.get_experiment(run.info.experiment_id).name == theirs
    assert mlflow.get_experiment_by_name(f"{tmp_path.name}-ours") is None


def test_experiment_of_the_environment_may_be_an_id(log: Path, tmp_path: Path, fresh: pytest.MonkeyPatch) -> None:
    theirs = mlflow.create_experiment(tmp_path.name)
    fresh.setenv("MLFLOW_EXPERIMENT_ID", theirs)
    with open_run(f"{tmp_path.name}-ours", "a name", log) as run:
        assert run.info.experiment_id == theirs


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "both"])
def test_deleted_or_conflicting_experiment_is_a_user_error(
    log: Path, tmp_path: Path, fresh: pytest.MonkeyPatch, variable: str
) -> None:
    gone = mlflow.create_experiment(tmp_path.name)
    if variable == "both":
        fresh.setenv("MLFLOW_EXPERIMENT_NAME", f"{tmp_path.name}-other")
        fresh.setenv("MLFLOW_EXPERIMENT_ID", gone)
    else:
        mlflow.delete_experiment(gone)
        fresh.setenv(variable, tmp_path.name if variable.endswith("NAME") else gone)
    with pytest.raises(UserError, match="MLFLOW_EXPERIMENT"), open_run(f"{tmp_path.name}-ours", "a name", log):
        pytest.fail("the run goes on")


def test_log_of_a_later_run_in_the_same_folder_is_not_mixed_in(log: Path, tmp_path: Path) -> None:
    before = os.dup(2)
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)  # as `output_to` does
        try:
            with open_run(tmp_path.name, "first", log) as run:
                os.write(2, b"of the first\n")
                new_log(log)
                log.write_text("of the second\n")
        finally:
            os.dup2(before, 2)
            os.close(before)
    first = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/train.log")
    assert first.startswith("what was logged\n") and "of the first" in first and "of the second" not in first
    assert log.read_text() == "of the second\n"


@pytest.mark.parametrize("status", ["RUNNING", "KILLED", "FAILED"])
def test_interrupted_run_is_resumed(log: Path, tmp_path: Path, status: str) -> None:
    client = mlflow.MlflowClient()
    begun = client.create_run(mlflow.create_experiment(tmp_path.name), run_name="begun", tags={"error": "of then"})
    client.set_terminated(begun.info.run_id, status)
    with open_run("another experiment", "another name", log, begun.info.run_id) as run:
        assert run.info.run_id == begun.info.run_id
        assert stored(run.info.run_id).info.status == "RUNNING"
    ended = stored(begun.info.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", "begun")
    assert "error" not in ended.data.tags
    assert mlflow.get_experiment_by_name("another experiment") is None


def test_finished_deleted_or_missing_run_is_not_resumed(log: Path, tmp_path: Path) -> None:
    client, ids = mlflow.MlflowClient(), []
    experiment = mlflow.create_experiment(tmp_path.name)
    for end in (client.set_terminated, client.delete_run, lambda run_id: None):
        ids.append(client.create_run(experiment).info.run_id)
        end(ids[-1])
    ids[-1] = "0" * 32  # a run of another store
    for before in ids:
        with open_run(tmp_path.name, "new", log, before) as run:
            assert run.info.run_id not in ids
            assert stored(run.info.run_id).info.run_name == "new"
    assert stored(ids[0]).info.status == "FINISHED"


def test_run_of_mlflow_run_continues_an_interrupted_one(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiment = mlflow.MlflowClient(), mlflow.create_experiment(tmp_path.name)
    begun, opened = (client.create_run(experiment).info.run_id for _ in range(2))
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # as in a fresh process
    with open_run("ours", "our name", log, begun) as run:
        assert run.info.run_id == opened
    left = stored(begun)
    assert (left.info.status, left.data.tags["continued_by"]) == ("KILLED", opened)


def test_child_run_is_in_the_experiment_of_its_parent(log: Path, tmp_path: Path) -> None:
    with open_run(tmp_path.name, "parent", log) as parent:
        with open_run("an experiment that is not made", "child", log, parent=parent) as child:
            assert mlflow.active_run().info.run_id == child.info.run_id
        assert mlflow.active_run().info.run_id == parent.info.run_id
        with pytest.raises(ValueError), open_run("another", "fails", log, parent=parent) as failed:
            raise ValueError
        with open_run("another", "goes on", log, failed.info.run_id, parent=parent) as again:
            assert again.info.run_id == failed.info.run_id
    ended = stored(child.info.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", "child")
    assert ended.info.experiment_id == parent.info.experiment_id
    assert ended.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert stored(parent.info.run_id).info.status == stored(failed.info.run_id).info.status == "FINISHED"
    assert mlflow.get_experiment_by_name("an experiment that is not made") is None


def test_resumed_child_run_moves_to_its_new_parent(log: Path, tmp_path: Path) -> None:
    with (
        open_run(tmp_path.name, "first", log) as first,
        pytest.raises(KeyboardInterrupt),
        open_run("any", "child", log, parent=first) as child,
    ):
        raise KeyboardInterrupt
    with open_run(tmp_path.name, "second", log) as second, open_run("any", "new name", log, child.info.run_id, second):
        pass
    ended = stored(child.info.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", "child")
    assert ended.data.tags["mlflow.parentRunId"] == second.info.run_id


def test_system_metrics_are_monitored(log: Path, tmp_path: Path) -> None:
    with open_run(tmp_path.name, "watched", log) as run:
        assert run is not None
        from mlflow.tracking import fluent

        assert run.info.run_id in fluent.run_id_to_system_metrics_monitor


def test_config_is_logged_as_params_and_files(log: Path, tmp_path: Path, compose_config: Composer) -> None:
    config = compose_config("model=tiny", "data.path='a $(b) \"c\"'", "+spark.settings={spark.log.level: ERROR}")
    with open_run(tmp_path.name, "config", log) as run:
        mlflow.log_param("training.learning_rate", "1e-03")  # as `mlflow run` writes it
        log_config(run, config, ["model=tiny", "data.path='a b'"])
    params = stored(run.info.run_id).data.params
    assert params == {key: str(value) for key, value in flatten(config).items()} | {"training.learning_rate": "1e-03"}
    text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/config/config.yaml")
    assert yaml.safe_load(text)["spark"]["settings"] == {"spark.log.level": "ERROR"}
    assert yaml.safe_load(text)["data"]["path"] == 'a $(b) "c"'
    overrides = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/config/overrides.yaml")
    assert yaml.safe_load(overrides) == ["model=tiny", "data.path='a b'"]


def test_time_and_speed_are_logged_for_successful_blocks(log: Path, tmp_path: Path) -> None:
    with open_run(tmp_path.name, "timed", log) as run:
        with timed("fast", rows=100):
            pass
        with timed("unsized"):
            pass
        with pytest.raises(ValueError), timed("failed"):
            raise ValueError
    metrics = stored(run.info.run_id).data.metrics
    assert metrics["speed/fast"] == pytest.approx(100 / metrics["time/fast"])
    assert "time/unsized" in metrics and "speed/unsized" not in metrics
    assert "time/failed" not in metrics


def test_default_store_is_that_of_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = mlflow.get_tracking_uri()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(None)
    try:
        use_project_store()
        assert mlflow.get_tracking_uri() == f"sqlite:///{ROOT / 'mlflow.db'}"
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    "given, expected", [("sqlite:///own.db", "/caller/own.db"), ("sqlite:////x/own.db", "/x/own.db")]
)
def test_relative_store_path_resolves_against_the_callers_folder(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    monkeypatch.setenv(CALLER, "/caller")
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    try:
        use_project_store()
        assert mlflow.get_tracking_uri() == f"sqlite:///{expected}"
    finally:
        mlflow.set_tracking_uri(before)


def test_link_to_the_run_is_printed(
    log: Path, tmp_path: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_run(tmp_path.name, "seen", log) as run:
        pass
    print_run_link(run)
    said = capsys.readouterr().out
    assert f"run {run.info.run_id} in experiment {tmp_path.name}" in said
    assert f"`make ui STORE={database}`, then http://127.0.0.1:5000" in said


class Model(mlflow.pyfunc.PythonModel):
    """A model that returns its input."""

    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


@pytest.mark.slow
def test_resumed_run_logs_each_result_once(log: Path, tmp_path: Path) -> None:
    """As after a kill between the last metric and the end of the run."""
    with open_run(tmp_path.name, "a run", log) as run:
        for _ in range(2):
            log_once({"dev/mcc": 0.5, "dev/f1": 0.6}, 3)
            drop_earlier_models()
            mlflow.pyfunc.log_model(name="model", python_model=Model())
    client, experiment = mlflow.MlflowClient(), run.info.experiment_id
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "dev/mcc")] == [(3, 0.5)]
    assert len(client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'")) == 1


def test_run_of_a_killed_process_ends_as_killed_and_names_its_successor(log: Path, tmp_path: Path) -> None:
    client = mlflow.MlflowClient()
    with open_run(tmp_path.name, "the next", log) as run:
        killed, finished = (client.create_run(run.info.experiment_id).info.run_id for _ in range(2))
        client.set_terminated(finished)
        for each in (killed, finished, run.info.run_id, None, "of another store"):
            end_interrupted(each, run.info.run_id)
        ends = [client.get_run(each) for each in (killed, finished, run.info.run_id)]
    assert [each.info.status for each in ends] == ["KILLED", "FINISHED", "RUNNING"]
    assert [each.data.tags.get("continued_by") for each in ends] == [run.info.run_id, None, None]


def test_open_runs_of_dead_processes_are_ended_by_the_next_run(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock, which changes the start times that psutil computes for running processes."""
    client = mlflow.MlflowClient()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with open_run("abandoned", "living", log) as living:
        here, pid, began = stored(living.info.run_id).data.tags["process"].split()
        processes = {
            "gone": f"{here} {ended.pid} {began}",
            "another of this number": f"{here} {pid} 7.5",
            "elsewhere": f"elsewhere/ {ended.pid} {began}",
        }
        others = {
            name: client.create_run(living.info.experiment_id, tags={"process": process}).info.run_id
            for name, process in processes.items()
        }
        untagged = client.create_run(living.info.experiment_id).info.run_id
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: 12345.0)
        with open_run("abandoned", "next", log, parent=stored(living.info.run_id)):
            pass
        found = {name: stored(run_id).info.status for name, run_id in others.items()}
        assert found == {"gone": "KILLED", "another of this number": "KILLED", "elsewhere": "RUNNING"}
        assert stored(living.info.run_id).info.status == stored(untagged).info.status == "RUNNING"
