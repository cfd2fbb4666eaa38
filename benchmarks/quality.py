"""Quality on the real data: `mlflow run` over several seeds, and the mean and spread of the dev metrics.

`python benchmarks/quality.py --task cola --seeds 1 2 3 -- model=minilm data=files data.path=../shared/glue/CoLA`
writes `results/quality_cola.json`, or with `--name` another file, for other settings. The runs are in the project's own
MLflow store. `--keep` trains only the seeds that the file lacks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from distilspark.paths import ROOT
from distilspark.tracking.runs import use_project_store
from results_file import RESULTS, machine, write_results
from sentences import predict_sentences

KEPT = ("dev/", "val/", "baseline/", "train/best_epoch", "time/")


def main() -> None:
    """Train once a seed, one after the other, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--name", help="of the file with the results: quality_NAME.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--keep", action="store_true", help="the runs of the same settings that the file has")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of `train`")
    arguments = parser.parse_args()
    before, name = machine(), arguments.name or arguments.task
    known = known_runs(name) if arguments.keep else {}
    runs = [known.get(seed) or train(arguments.task, seed, arguments.overrides) for seed in arguments.seeds]
    check_settings(runs)
    figures = {"seeds": arguments.seeds, "summary": summarise(runs), "runs": runs}
    write_results(f"quality_{name}", {"machine": before, **figures})


def train(task: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Run one training as a user would start it; return its metrics, and its predictions of example sentences."""
    parameters = [f"task={task}", f"training.seed={seed}", *overrides]
    options = ["--env-manager", "local", "--experiment-name", f"distilspark-{task}"]
    command = ["mlflow", "run", ".", *options, *(word for each in parameters for word in ("-P", each))]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    use_project_store()
    newest = mlflow.search_runs(experiment_names=[f"distilspark-{task}"], max_results=1, output_format="list")[0]
    metrics = {name: value for name, value in newest.data.metrics.items() if name.startswith(KEPT)}
    commit = newest.data.tags.get(MLFLOW_GIT_COMMIT, "unknown")[:12]
    sentences = predict_sentences(task, f"models:/{newest.outputs.model_outputs[0].model_id}")
    settings = _settings(newest.data.params)
    return {"seed": seed, "commit": commit, "params": settings, **dict(sorted(metrics.items())), "sentences": sentences}


def known_runs(name: str) -> dict[int, dict[str, Any]]:
    """Return the runs in the results file, by seed."""
    file = RESULTS / f"quality_{name}.json"
    return {run["seed"]: run for run in json.loads(file.read_text(encoding="utf-8"))["runs"]} if file.is_file() else {}


def check_settings(runs: list[dict[str, Any]]) -> None:
    """Raise if runs differ in more than their seed, because their spread would be meaningless."""
    settings = [run["params"] | {"training.seed": None} for run in runs]
    if differing := {name for each in settings for name in each if each[name] != settings[0].get(name)}:
        raise SystemExit(f"the runs differ in {', '.join(sorted(differing))}: train all of them anew, without --keep")


def _settings(params: dict[str, str]) -> dict[str, str]:
    wanted = (
        "training.",
        "model.name",
        "model.pooling",
        "model.layers",
        "model.freeze",
        "data.source",
        "features.text",
    )
    return {name: value for name, value in sorted(params.items()) if name.startswith(wanted)}


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean, lowest, highest and, for several seeds, sample standard deviation of each dev metric."""
    names = [name for name in runs[0] if name.startswith("dev/") and not name.endswith(("_low", "_high"))]
    return {name: _spread([run[name] for run in runs]) for name in names}


def _spread(values: list[float]) -> dict[str, float]:
    figures = {"mean": mean(values), "lowest": min(values), "highest": max(values)}
    if len(values) > 1:
        figures["sd"] = stdev(values)
    return {name: round(figure, 4) for name, figure in figures.items()}


if __name__ == "__main__":
    main()
