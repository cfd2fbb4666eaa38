"""For an error metric, the lowest value is the best: for epochs, jobs, views and promotion."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distilspark.metrics import METRICS
from distilspark.tracking.registry import register_run
from distilspark.tracking.views import SAVED_VIEW
from helpers.processes import TINY, Place, train_command
from helpers.stores import tracking_in
from helpers.sweeping import Swept, parents
from helpers.texts import has_facts, higher_of, lines_with

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.slow
EXPERIMENT = "distilspark-stsb"
TASK = ("task=stsb", "task.metric=mse")
HOPELESS, BETTER = "1e-07", "0.01"  # learning rates: with the first, predictions stay at zero


@pytest.fixture(scope="module")
def swept(place: Place) -> Swept:
    """A sweep of two learning rates, the one that is too low first."""
    own = ("registry.name=errors", f"hydra.sweep.dir={place.folder / 'out' / 'errors'}", "training.epochs=2")
    ended = place.run(*train_command(*TASK, *own, f"training.learning_rate={HOPELESS},{BETTER}"), "--multirun")
    assert ended.returncode == 0, ended.stderr
    return Swept(place, ended, parents(place, "errors", EXPERIMENT)[0])


@pytest.fixture(scope="module")
def jobs(swept: Swept) -> Iterator[dict[str, Run]]:
    """The sweep's runs by their learning rates."""
    yield {label.rpartition("=")[2]: run for label, run in swept.children.items()}


def test_best_epoch_has_the_lowest_error(swept: Swept, jobs: dict[str, Run]) -> None:
    assert set(jobs) == {BETTER, HOPELESS}
    for run in jobs.values():
        history = swept.place.client.get_metric_history(run.info.run_id, "val/mse")
        assert run.data.metrics["val/kept_mse"] == min(point.value for point in history)


def test_the_job_with_the_lowest_error_is_registered(swept: Swept, jobs: dict[str, Run]) -> None:
    assert jobs[BETTER].data.metrics["val/kept_mse"] < jobs[HOPELESS].data.metrics["val/kept_mse"]
    assert swept.parent.data.tags["sweep.best"] == jobs[BETTER].info.run_id
    (version,) = swept.place.client.search_model_versions("name='errors'")
    assert version.run_id == jobs[BETTER].info.run_id


def test_finding_and_saved_views_rank_the_lower_error_first(swept: Swept) -> None:
    finding = swept.parent.data.tags["finding"]
    assert has_facts(finding, "learning rate", "MSE", "better") and higher_of(finding, BETTER, HOPELESS) == HOPELESS
    tags = swept.place.client.get_experiment(swept.parent.info.experiment_id).tags
    states = [json.loads(json.loads(value)["state"]) for key, value in tags.items() if key.startswith(SAVED_VIEW)]
    assert states and all(state["orderByKey"] == "metrics.`dev/mse`" and state["orderByAsc"] for state in states)


def test_model_worse_than_predicting_the_mean_is_not_promoted(
    swept: Swept, jobs: dict[str, Run], tmp_path: Path
) -> None:
    """Register the job that was not registered, as `train` does."""
    place, hopeless = swept.place, jobs[HOPELESS]
    assert hopeless.data.metrics["dev/mse_low"] > hopeless.data.metrics["baseline/mse"], "worse beyond chance"
    with tracking_in(tmp_path, place.folder / "mlflow.db"):
        register_run(hopeless.info.run_id, "worse", METRICS["mse"], None)
    assert set(place.client.get_registered_model("worse").aliases) == {"challenger"}
    small = [each for each in TINY if not each.startswith(("model=", "scoring."))]
    command = [sys.executable, "-m", "distilspark", "promote", *small, *TASK, "registry.name=worse"]
    ended = place.run(*command, f"hydra.run.dir={place.folder / 'out' / 'promote_worse'}")
    assert ended.returncode == 0, ended.stderr
    assert len(lines_with(ended.stdout, "version 1", "not promoted", "mse")) == 1
    assert set(place.client.get_registered_model("worse").aliases) == {"challenger"}
