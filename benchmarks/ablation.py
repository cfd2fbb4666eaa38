"""The result of an ablation on the real data: the finding, the table and the jobs' metrics of a finished sweep.

`python benchmarks/ablation.py --parent RUN_ID --name cola_class_weights` reads the sweep's parent run in the project's
own MLflow store, and writes `results/ablation_cola_class_weights.json`.
"""

from __future__ import annotations

import argparse
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from distilspark.tracking.runs import use_project_store
from distilspark.tracking.sweeps import children
from results_file import write_results

METRICS = ("dev/", "val/kept_")
PARAMS = ("task.name", "model.name", "data.source", "training.")


def main() -> None:
    """Read the sweep and write its results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", required=True, help="the id of the sweep's parent run")
    parser.add_argument("--name", required=True, help="of the file: ablation_NAME.json")
    arguments = parser.parse_args()
    use_project_store()
    parent = mlflow.get_run(arguments.parent)
    jobs = children(parent)
    table = mlflow.artifacts.load_dict(f"{parent.info.artifact_uri}/comparison/differences.json")
    figures = {
        "commit": ", ".join(sorted({job.data.tags.get(MLFLOW_GIT_COMMIT, "unknown")[:12] for job in jobs})),
        "finding": parent.data.tags["finding"],
        "differences": [dict(zip(table["columns"], row, strict=True)) for row in table["data"]],
        "params": _starting_with(PARAMS, parent.data.params),
        "jobs": sorted(map(_job, jobs), key=lambda job: str(job["job"])),
    }
    write_results(f"ablation_{arguments.name}", figures)


def _job(run: Run) -> dict[str, Any]:
    return {"job": run.data.tags["sweep.job"], "status": run.info.status, **_starting_with(METRICS, run.data.metrics)}


def _starting_with(prefixes: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sorted(values.items()) if name.startswith(prefixes)}


if __name__ == "__main__":
    main()
