"""A sweep's name and identity, its shared settings, and which of its jobs are launched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run
from omegaconf import OmegaConf

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.metrics import METRICS
from distilspark.tracking.sweeps import children
from distilspark.workflows import sweep
from distilspark.workflows.sweep import (
    Hydra,
    Overrides,
    SweepPlan,
    check_tasks,
    describe_sweep,
    launch_missing,
    open_parent,
    report_jobs,
)

Composer = Callable[..., TrainConfig]
SEEDS = ("training.seed",)


def plan(varied: tuple[str, ...] = SEEDS, **settings: Any) -> SweepPlan:
    return SweepPlan([], varied, 3, [], True, lambda so_far, metric: iter(()), settings)


def hydra(experiment: Any = None, launch: Any = None, **shared: Any) -> Hydra:
    """Return a Hydra whose composed config is `shared`."""
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"experiment": experiment}}}})
    return Hydra(config, lambda overrides: OmegaConf.create({"hydra": {}, **shared}), launch)


@pytest.mark.parametrize(
    "experiment, varied, name",
    [
        ("class_weights", SEEDS, "class_weights"),
        (["paper", "search"], SEEDS, "paper+search"),
        (None, ("model", "training.seed"), "model+training.seed"),
        (None, (), "one job"),
    ],
)
def test_sweep_is_named_after_its_experiment_or_its_keys(experiment: Any, varied: tuple[str, ...], name: str) -> None:
    assert describe_sweep(hydra(experiment), plan(varied), []).name == name


def test_identity_depends_on_shared_settings_but_not_on_varied_values() -> None:
    first = describe_sweep(hydra(training={"seed": 1, "epochs": 3}), plan(), []).identity
    assert describe_sweep(hydra(training={"seed": 2, "epochs": 3}), plan(), []).identity == first
    assert describe_sweep(hydra(training={"seed": 1, "epochs": 4}), plan(), []).identity != first
    assert describe_sweep(hydra(training={"seed": 1, "epochs": 3}), plan(space="x"), []).identity != first


@pytest.mark.parametrize(
    "others, named",
    [(("task=rte",), "task=cola,rte: "), (("task=cola", "task.metric=f1"), r"task\.metric=f1,mcc: ")],
)
def test_jobs_of_two_tasks_or_metrics_are_refused(
    compose_config: Composer, others: tuple[str, ...], named: str
) -> None:
    configs = [compose_config("model=tiny", *given) for given in (("task=cola",), others)]
    with pytest.raises(UserError, match=f"^{named}"):
        check_tasks(configs)
    check_tasks(configs[:1])


@pytest.fixture
def parent(run: Callable[[], Run]) -> Run:
    """Open a sweep's run."""
    mlflow.set_tags({"sweep.id": "a-sweep", "sweep.parent": "true"})
    return run()


def child(parent: Run, job: str, status: str = "FINISHED", kept: float = 0.0) -> Run:
    """Log a job's run."""
    client = mlflow.MlflowClient()
    tags = {"mlflow.parentRunId": parent.info.run_id, "sweep.job": job}
    made = client.create_run(parent.info.experiment_id, tags=tags)
    client.log_metric(made.info.run_id, "val/kept_mcc", kept)
    client.log_param(made.info.run_id, "registry.name", "mine")
    client.set_terminated(made.info.run_id, status) if status != "RUNNING" else None
    return client.get_run(made.info.run_id)


@pytest.fixture
def launch(parent: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that launches batches of jobs and returns the failures."""
    monkeypatch.setattr(sweep, "standard_output", lambda terminal: nullcontext())
    monkeypatch.setattr(sweep, "log_to_stderr", lambda: None)

    def run(launched: Callable[..., Any], *batches: Sequence[Overrides]) -> list[str]:
        every: Iterator[Sequence[Overrides]] = iter(batches)
        return launch_missing(hydra(launch=launched), plan().label, every, ["task=cola"], parent, 1)

    return run


def seed(number: int) -> Overrides:
    return [f"training.seed={number}"]


def test_only_unfinished_jobs_are_launched_with_their_numbers(launch: Callable[..., list[str]], parent: Run) -> None:
    child(parent, "training.seed=1")
    child(parent, "training.seed=2", "FAILED")
    launched: list[Any] = []

    def each(jobs: Sequence[Overrides], first: int) -> list[Any]:
        launched.append((first, jobs))
        return [SimpleNamespace(return_value="a reason" if "training.seed=3" in job else None) for job in jobs]

    failures = launch(each, [seed(1), seed(2), seed(3)], [seed(1)], [seed(4)])
    shared = ["task=cola"], [f"hydra.sweeper.parent={parent.info.run_id}"]
    assert launched == [
        (0, [[*shared[0], *seed(number), *shared[1]] for number in (2, 3)]),
        (2, [[*shared[0], *seed(4), *shared[1]]]),
    ]
    assert failures == ["training.seed=3: a reason"]


def test_jobs_of_an_interrupted_launcher_are_ended(launch: Callable[..., list[str]], parent: Run) -> None:
    def interrupted(jobs: Sequence[Overrides], first: int) -> list[Any]:
        child(parent, "training.seed=1", "RUNNING")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(interrupted, [seed(1)])
    assert [each.info.status for each in children(parent)] == ["KILLED"]


def test_job_that_is_best_on_validation_is_registered(
    parent: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered: list[Any] = []
    monkeypatch.setattr(sweep, "register_run", lambda *what: registered.append(what) or ("7", ["challenger"]))
    child(parent, "training.seed=1", kept=0.2)
    best = child(parent, "training.seed=2", kept=0.4)
    child(parent, "training.seed=3", "FAILED", kept=0.9)
    report_jobs(parent, METRICS["mcc"], "a key")
    assert registered == [(best.info.run_id, "mine", METRICS["mcc"], "a key")]
    assert mlflow.get_run(parent.info.run_id).data.tags["sweep.best"] == best.info.run_id
    printed = capsys.readouterr().out
    assert all(f"training.seed={number}" in printed for number in (1, 2, 3)) and "mine version 7" in printed


def test_nothing_is_registered_if_all_jobs_failed(parent: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "register_run", lambda *what: pytest.fail("registered"))
    child(parent, "training.seed=1", "FAILED", kept=0.9)
    report_jobs(parent, METRICS["mcc"], None)
    assert "sweep.best" not in mlflow.get_run(parent.info.run_id).data.tags


def test_parent_has_the_settings_that_all_jobs_share(
    store: mlflow.MlflowClient, compose_config: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    (tmp_path / "sweep.log").touch()
    configs = [compose_config("model=tiny", f"training.seed={number}") for number in (1, 2)]
    with open_parent(describe_sweep(hydra(), plan(), []), configs, tmp_path / "sweep.log") as active:
        pass
    logged = store.get_run(active.info.run_id)
    assert "training.seed" not in logged.data.params and logged.data.params["model.name"] == "tiny"
    assert logged.data.tags["sweep.parent"] == "true" and logged.data.tags["task"] == "cola"
