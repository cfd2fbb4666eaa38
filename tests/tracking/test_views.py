"""The saved view of a sweep; tests/e2e/test_browser.py checks how the UI shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH

from distilspark.metrics import METRICS
from distilspark.tracking.sweeps import Sweep, children
from distilspark.tracking.views import (
    SAVED_VIEW,
    charts,
    list_state,
    save_experiment_view,
    save_sweep_view,
    sections,
    sweep_state,
    varied_params,
)
from helpers.stores import tracking_in

SWEEP = Sweep("loss", ("model", "training.seed"), "0123456789ab")


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Run]:
    """A sweep's run with two children."""
    with tracking_in(tmp_path):
        with mlflow.start_run(run_name="cola tiny loss", tags=SWEEP.tags) as run:
            for seed in (1, 2):
                with mlflow.start_run(nested=True):
                    mlflow.log_params({"model.name": "tiny", "model.dropout": 0.1, "training.seed": seed})
                    mlflow.log_metrics({"dev/mcc": 0.5, "time/train": 1.0, "system/memory": 1.0})
        yield mlflow.get_run(run.info.run_id)


def test_view_of_a_sweep_is_saved_once(parent: Run) -> None:
    pages = {save_sweep_view(parent, children(parent), METRICS["mcc"]) for _ in range(2)}
    (page,) = pages
    assert page.startswith("#/experiments/0/runs?viewStateShareKey=0123456789ab&")
    tags = mlflow.get_experiment("0").tags
    (saved,) = [json.loads(value) for key, value in tags.items() if key.startswith(SAVED_VIEW)]
    assert saved["name"] == "cola tiny loss (0123)"
    assert json.loads(saved["state"]) == sweep_state(parent, children(parent), METRICS["mcc"])


def test_view_of_an_experiment_has_all_its_runs(parent: Run) -> None:
    page = save_experiment_view("0", METRICS["mcc"])
    assert page.startswith("#/experiments/0/runs?viewStateShareKey=results&compareRunsMode=TABLE&")
    saved = json.loads(mlflow.get_experiment("0").tags[f"{SAVED_VIEW}results"])
    assert json.loads(saved["state"]) == list_state(
        ["model.name", "training.learning_rate", "training.batch_size", "training.seed"], METRICS["mcc"]
    )
    assert "searchFilter" not in json.loads(saved["state"])


def test_filter_of_the_sweep_view_finds_its_jobs(parent: Run) -> None:
    state = sweep_state(parent, children(parent), METRICS["mcc"])
    found = mlflow.search_runs(["0"], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"])
    assert set(found["run_id"]) == {run.info.run_id for run in children(parent)}
    assert state["selectedColumns"][:3] == ["params.`model.name`", "params.`training.seed`", "metrics.`dev/mcc`"]


def test_views_sort_the_best_runs_first() -> None:
    ascending = {metric.name: list_state((), metric)["orderByAsc"] for metric in METRICS.values()}
    assert {name for name, is_ascending in ascending.items() if is_ascending} == {"mse", "mae"}


def test_view_of_a_sweep_fits_into_a_tag(parent: Run) -> None:
    """MLflow refuses tags of more than 20,000 characters."""
    with mlflow.start_run(parent_run_id=parent.info.run_id):
        mlflow.log_metrics({f"folder_{number}/metric": 0.0 for number in range(60)})
    save_sweep_view(parent, children(parent), METRICS["mcc"])
    tag = mlflow.get_experiment("0").tags[f"{SAVED_VIEW}{SWEEP.identity}"]
    shown = json.loads(json.loads(tag)["state"])["compareRunSections"]
    assert {f"folder_{number}" for number in range(60)} < {section["name"] for section in shown}, "nothing was cut"
    assert len(tag) < MAX_EXPERIMENT_TAG_VAL_LENGTH / 2, "there is room for more"


def test_varied_params_are_found_for_keys_and_config_groups(parent: Run) -> None:
    assert varied_params(children(parent), ["model", "training.seed"]) == ["model.name", "training.seed"]
    assert varied_params(children(parent), ["spark.settings.a"]) == []


def test_charts_of_a_sweep_are_in_their_own_section() -> None:
    first, *rest = charts(["training.seed"], "pearson")
    assert (first["type"], first["selectedParams"]) == ("PARALLEL", ["training.seed"])
    assert first["selectedMetrics"] == ["val/kept_pearson", "dev/pearson"]
    names = [section["uuid"] for section in sections(["dev/pearson", "system/memory"])]
    assert names == ["sweep", "evaluation", "dev", "profile", "training", "System metrics"]
    assert {chart["metricSectionId"] for chart in (first, *rest)} == {"sweep"}
    assert len({chart["uuid"] for chart in (first, *rest)}) == 4
