"""`mlflow run .` as in the README: how -P parameters arrive, and which run is used."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from distilspark.config import TrainConfig
from distilspark.paths import ROOT
from helpers.processes import TINY, Place, train_command
from helpers.trained import Trained

pytestmark = pytest.mark.slow
MLFLOW = str(Path(sys.executable).with_name("mlflow"))
NASTY = 'it\'s a "model" $(touch PWNED) `touch PWNED`; touch PWNED & \\n'


def mlflow_run(place: Place, experiment: str, *parameters: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start `mlflow run` on the project, with `-P` before each parameter."""
    passed = [part for parameter in parameters for part in ("-P", parameter)]
    command = [MLFLOW, "run", str(ROOT), "--env-manager", "local", "--experiment-name", experiment, *passed]
    return place.run(*command, **environment)


def only_run(place: Place, experiment: str) -> Run:
    """Return the experiment's only run."""
    (run,) = place.runs(experiment)
    return run


@pytest.mark.parametrize("parameters", [[], ["training.epochs=7"]], ids=["none", "one"])
def test_failure_is_recorded_in_the_run_that_mlflow_opened(
    place: Place, tmp_path: Path, parameters: list[str], compose_config: Callable[..., TrainConfig]
) -> None:
    """With an unwritable cache, a run with all defaults fails before it downloads or trains.

    Without hub and package index, model=auto is MiniLM.
    """
    (tmp_path / "file").write_text("")
    experiment = f"fails-{len(parameters)}"
    without_index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    cache = str(tmp_path / "file" / "cache")
    ended = mlflow_run(place, experiment, *parameters, DISTILSPARK_CACHE=cache, **without_index)
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("distilspark: ")]
    assert f"cannot write {tmp_path}/file/cache" in line and "DISTILSPARK_CACHE" in line
    run = only_run(place, experiment)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("UserError: cannot write ")
    assert run.data.tags["mlflow.runName"] == "cola minilm seed 1"
    expected = compose_config("task=cola", "model=minilm", *parameters).training.epochs
    assert run.data.params["training.epochs"] == str(expected)
    assert parameters == [] or expected == 7
    assert run.data.params["task"] == run.data.params["task.name"] == "cola"
    overrides = yaml.safe_load(place.artifact(run, "config/overrides.yaml").read_text())
    assert overrides == ["task=cola", *parameters]
    assert "Traceback" in place.artifact(run, "train.log").read_text()


@pytest.fixture(scope="module")
def passed(place: Place) -> Any:
    """A whole training with many parameters; one has shell metacharacters."""
    given = [*TINY, "task=stsb", "training.learning_rate=5e-4", f"registry.name={NASTY}", "data.path="]
    return mlflow_run(place, "passes", *given, f"hydra.run.dir={place.folder / 'out' / 'passes'}")


def test_parameters_with_shell_metacharacters_arrive_unchanged(place: Place, passed: Any) -> None:
    assert passed.returncode == 0, passed.stderr
    run = only_run(place, "passes")
    assert run.info.status == "FINISHED"
    params = run.data.params
    # MLflow logged these first, quoted for the shell
    assert shlex.split(params["registry.name"]) == [NASTY]
    assert shlex.split(params["spark.master"]) == ["local[2]"]
    assert params["task"] == params["task.name"] == "stsb"
    assert params["training.learning_rate"] == "5e-4"
    assert params["data.sample_rows.train"] == "300"
    assert len(params) > 70
    config = yaml.safe_load(place.artifact(run, "config/config.yaml").read_text())
    assert config["registry"]["name"] == NASTY
    assert config["training"]["learning_rate"] == 5e-4
    assert config["data"]["path"] is None
    overrides = yaml.safe_load(place.artifact(run, "config/overrides.yaml").read_text())
    assert len(overrides) == len(TINY) + 3  # the empty one is dropped
    assert str(place.client.get_registered_model(NASTY).aliases["challenger"]) == "1"


def test_parameters_are_not_executed_by_a_shell(place: Place, passed: Any) -> None:
    assert passed.returncode == 0
    assert not [folder for folder in (place.folder, ROOT, Path.cwd()) if (folder / "PWNED").exists()]


def test_artifacts_and_metrics_are_in_the_run_that_mlflow_opened(place: Place, passed: Any) -> None:
    run = only_run(place, "passes")
    assert {"train.log", "config/config.yaml", "evaluation/metrics.png"} <= set(place.artifacts(run))
    assert run.data.metrics["dev/pearson_low"] <= run.data.metrics["dev/pearson_high"]


def test_relative_paths_resolve_against_the_callers_folder(cola_training: Trained, tmp_path: Path) -> None:
    """The relative store URI too; the project's folder is another one."""
    place = cola_training.place
    caller = tmp_path / "the caller \u65e5"
    caller.mkdir()
    (caller / "rows.txt").write_text("The dog sleeps.\nDog the.\n")
    given = ["input=rows.txt", "output=out/scored", f"model_uri={cola_training.model_uri}", "hydra.run.dir=logs"]
    given += ["spark.master=local[1]", "spark.driver_memory=1g"]
    passed = [part for parameter in given for part in ("-P", parameter)]
    options = ["--env-manager", "local", "--run-name", "my own name", "--experiment-name", "my experiment"]
    ended = subprocess.run(
        [MLFLOW, "run", str(ROOT), "-e", "predict", *options, *passed],
        cwd=caller,
        env=place.environment
        | {"MLFLOW_TRACKING_URI": f"sqlite:///{os.path.relpath(place.folder / 'mlflow.db', caller)}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert len(pd.read_parquet(caller / "out" / "scored")) == 2
    assert f"written to {caller}/out/scored" in ended.stdout.replace("\n", "")
    assert (caller / "logs" / "predict.log").is_file()
    run = only_run(place, "my experiment")
    assert (run.info.run_name, run.info.status) == ("my own name", "FINISHED")
    config = yaml.safe_load(place.artifact(run, "config/config.yaml").read_text())
    assert config["input"] == str(caller / "rows.txt")


def test_experiment_of_the_environment_is_used_without_mlflow_run(place: Place, tmp_path: Path) -> None:
    ended = place.run(
        *train_command(f"hydra.run.dir={tmp_path}", "model.path=/nowhere"), MLFLOW_EXPERIMENT_NAME="theirs"
    )
    assert ended.returncode == 2, ended.stderr
    assert only_run(place, "theirs").info.status == "FAILED"
