"""Saved views of the MLflow UI for an experiment and for a sweep: the runs, columns and charts to show.

The UI keeps its saved views as tags of the experiment, and lists them behind its button `Views`. It uses its defaults
for what a view leaves out, and ignores unknown names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from distilspark.metrics import Metric

SAVED_VIEW = "mlflow.sharedViewState."  # the UI's own prefix of such tags; the keys of a view are its own, too
RUN_NAME = "attributes.`Run Name`"
RESULTS = "results"
RECIPE = ("model.name", "training.learning_rate", "training.batch_size", "training.seed")
EVALUATION = "evaluation"  # its images are visible at once
UNFOLDED = ("sweep", EVALUATION)  # sections of charts that are open
IMAGES = ("profile", "training")  # other folders with images


def save_experiment_view(experiment_id: str, metric: Metric) -> str:
    """Save the view of all runs of a task's experiment; return its path below the UI's address."""
    return _save(experiment_id, RESULTS, RESULTS, list_state(RECIPE, metric), "TABLE")


def save_sweep_view(parent: Run, jobs: Sequence[Run], metric: Metric) -> str:
    """Save the view of a sweep's finished jobs; return its path below the UI's address.

    A sweep that is started again keeps its view, which then shows the jobs of the new parent run.
    """
    key = parent.data.tags["sweep.id"]
    name = f"{parent.info.run_name} ({key[:4]})"
    return _save(parent.info.experiment_id, key, name, sweep_state(parent, jobs, metric), "CHART")


def _save(experiment_id: str, key: str, name: str, state: dict[str, Any], mode: str) -> str:
    view = {"name": name, "createdAt": int(time.time() * 1000), "state": json.dumps(state)}
    mlflow.MlflowClient().set_experiment_tag(experiment_id, f"{SAVED_VIEW}{key}", json.dumps(view))
    way = f"viewStateShareKey={key}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?{way}"


def list_state(params: Sequence[str], metric: Metric) -> dict[str, Any]:
    """Return the state of a list of runs with these params and their metrics, the best on dev first."""
    name = metric.name
    scores = (f"dev/{name}", f"dev/{name}_low", f"dev/{name}_high", f"val/kept_{name}", "time/train")
    widths = {f"params.`{name}`": 180 for name in params} | {f"metrics.`{name}`": 120 for name in scores}
    return {
        "orderByKey": f"metrics.`dev/{name}`",
        "orderByAsc": not metric.higher_is_better,
        "selectedColumns": list(widths),
        "columnOrder": [RUN_NAME, *widths],
        "columnWidths": {RUN_NAME: 320} | widths,
        "runsHiddenMode": "SHOW_ALL",
    }


def sweep_state(parent: Run, jobs: Sequence[Run], metric: Metric) -> dict[str, Any]:
    """Return the state of a sweep's view: its jobs with the varied params, as a list and as charts."""
    varied = varied_params(jobs, json.loads(parent.data.tags["sweep.varied"]))
    return list_state(varied, metric) | {
        "searchFilter": f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'",
        "compareRunCharts": [*charts(varied, metric.name), *image_charts(evaluation_images(jobs))],
        "compareRunSections": sections(name for run in jobs for name in run.data.metrics),
        "isAccordionReordered": True,  # else the UI sorts the sections
    }


def varied_params(jobs: Iterable[Run], varied: Iterable[str]) -> list[str]:
    """Return the params of the keys that a sweep varies; for a config group such as `model`, its name."""
    params = {name for run in jobs for name in run.data.params}
    return [name for key in varied for name in (key, f"{key}.name") if name in params]


def charts(varied: Sequence[str], metric: str) -> list[dict[str, Any]]:
    """Return the charts that come first; to other sections the UI adds a chart for every metric and image."""
    wanted: list[dict[str, Any]] = [
        {"type": "PARALLEL", "selectedParams": varied, "selectedMetrics": [f"val/kept_{metric}", f"dev/{metric}"]},
        {"type": "BAR", "metricKey": f"dev/{metric}"},
        {"type": "LINE", "metricKey": f"val/{metric}", "selectedMetricKeys": [f"val/{metric}"]},
        {"type": "LINE", "metricKey": "val/loss", "selectedMetricKeys": ["val/loss"]},
    ]
    shared = {"metricSectionId": UNFOLDED[0], "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    return [{"uuid": f"sweep-{place}", **shared, **chart} for place, chart in enumerate(wanted)]


def evaluation_images(jobs: Sequence[Run]) -> list[str]:
    """Return the names of the evaluation's images, which are the same in all jobs."""
    folder = mlflow.MlflowClient().list_artifacts(jobs[0].info.run_id, EVALUATION) if jobs else []
    return [item.path.removesuffix(".png") for item in folder if item.path.endswith(".png")]


def image_charts(images: Iterable[str]) -> list[dict[str, Any]]:
    """Return a chart for each image of all jobs, without the params that the UI's own charts show above images."""
    shared = {"type": "IMAGE", "metricSectionId": EVALUATION, "step": 0, "showRunParams": False}
    return [{"uuid": image, "imageKeys": [image], **shared} for image in images]


def sections(metrics: Iterable[str]) -> list[dict[str, Any]]:
    """Return the UI's sections, one for each folder in the names of metrics and images; most are collapsed."""
    folders = {name.rpartition("/")[0] for name in metrics}.union(IMAGES) - {"system", *UNFOLDED}
    names = (*UNFOLDED, *sorted(folders), "System metrics")
    return [{"uuid": name, "name": name, "display": name in UNFOLDED} for name in names]
