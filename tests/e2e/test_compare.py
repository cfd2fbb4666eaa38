"""`compare` as a user starts it, on made-up runs: its output, its MLflow run and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from PIL import Image

from distilspark.config import TaskConfig, TrainConfig
from helpers.made_runs import MadeStore, made_classifier, made_regressor
from helpers.processes import Place
from helpers.texts import has_facts, higher_of

pytestmark = pytest.mark.slow
Composer = Callable[..., TrainConfig]
TABLES = {"differences", "metrics", "agreement", "disagreements", "settings"}
FIGURES = {"differences", "metrics", "curves", "agreement"}


@dataclass(frozen=True)
class Stored:
    """A working folder with a sweep, and a model of another task."""

    place: Place
    made: MadeStore
    parent: str
    other_task: str

    def compare(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        return self.place.run(sys.executable, "-m", "distilspark", "compare", *overrides)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, compose_config: Composer) -> Stored:
    place = Place(tmp_path_factory.mktemp("compare"))
    made = MadeStore(place.folder)
    cola, stsb = (_task(compose_config, name) for name in ("cola", "stsb"))
    said = {
        value: {seed: made_classifier(400, skill, seed) for seed in (1, 2, 3)}
        for value, skill in {"off": 0.7, "balanced": 0.8}.items()
    }
    parent = made.sweep(cola, "training.class_weights", said, "a-sweep")
    return Stored(place, made, parent, made.training(stsb, made_regressor(50, 0.5, 1)))


def _task(compose_config: Composer, name: str) -> TaskConfig:
    return compose_config(f"task={name}", "model=tiny").task


@pytest.fixture(scope="module")
def compared(stored: Stored) -> subprocess.CompletedProcess[str]:
    return stored.compare(f"sweep={stored.parent}", f"output={stored.place.folder / 'written'}")


def comparison(stored: Stored) -> Run:
    """Return the run of the `compare` command."""
    return next(run for run in stored.place.runs("distilspark-cola") if "finding" in run.data.tags)


def test_compare_prints_the_finding(stored: Stored, compared: subprocess.CompletedProcess[str]) -> None:
    assert compared.returncode == 0, compared.stderr
    finding = comparison(stored).data.tags["finding"]
    assert finding in compared.stdout.splitlines()
    assert has_facts(finding, "class weights", "MCC", 95, 3) and higher_of(finding, "balanced", "off") == "balanced"
    assert str(stored.place.folder / "written") in compared.stdout


def test_compare_writes_a_report_with_tables_and_figures(
    stored: Stored, compared: subprocess.CompletedProcess[str]
) -> None:
    assert compared.returncode == 0, compared.stderr
    folder = stored.place.folder / "written"
    assert {file.stem for file in folder.glob("*.png")} == FIGURES
    assert {file.stem for file in folder.glob("*.csv")} == TABLES
    text = (folder / "comparison.md").read_text()
    assert all(f"({name}.png)" in text for name in FIGURES)
    assert "Sentence number " in text
    for name in FIGURES:
        with Image.open(folder / f"{name}.png") as image:
            assert image.width > 1000


def test_compare_logs_a_run_in_the_tasks_experiment(stored: Stored, compared: subprocess.CompletedProcess[str]) -> None:
    run = comparison(stored)
    assert (run.info.run_name, run.info.status) == ("cola compare class weights", "FINISHED")
    assert run.data.tags["finding"] in compared.stdout
    assert run.data.tags["mlflow.note.content"].startswith(f"**{run.data.tags['finding']}**")
    artifacts = set(stored.place.artifacts(run, "comparison"))
    assert artifacts >= {f"comparison/{name}.json" for name in TABLES} | {f"comparison/{name}.png" for name in FIGURES}
    assert "comparison/comparison.md" in artifacts
    ids = json.loads(stored.place.artifact(run, "comparison/runs.json").read_text())
    assert {label: len(each) for label, each in ids.items()} == {"off": 3, "balanced": 3}
    images = [path for path in stored.place.artifacts(run, "images") if "comparison~differences" in path]
    assert images
    assert run.data.params["sweep"] == stored.parent


def test_runs_of_different_tasks_exit_with_2_and_log_no_run(stored: Stored) -> None:
    before = len(stored.place.runs("distilspark-cola"))
    child = stored.place.client.search_runs(
        [stored.made.experiment("distilspark-cola")], "tags.`sweep.variant` LIKE '%off'"
    )[0]
    ended = stored.compare(f"runs=[{child.info.run_id},{stored.other_task}]")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("distilspark: runs: ") and ended.stderr.count("\n") == 1
    assert has_facts(ended.stderr, "cola", child.info.run_id, stored.other_task)
    assert len(stored.place.runs("distilspark-cola")) == before


def test_report_sweep_logs_the_comparison_to_the_sweep_run(stored: Stored, tmp_path: Path) -> None:
    """The sweep run gets the table, the plot and the finding, and stays open."""
    code = """
import sys
from pathlib import Path
import mlflow
from distilspark.workflows.compare import report_sweep
from distilspark.config import EvaluationConfig
config = EvaluationConfig(confidence=0.95, resamples=2000, seed=1, examples=20)
with mlflow.start_run(run_id=sys.argv[1]) as parent:
    print(report_sweep(parent, config, Path(sys.argv[2])))
    assert mlflow.active_run().info.run_id == sys.argv[1]
"""
    ended = stored.place.python(code, stored.parent, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    run = stored.place.client.get_run(stored.parent)
    assert run.data.tags["finding"] == ended.stdout.splitlines()[-1]
    assert higher_of(run.data.tags["finding"], "balanced", "off") == "balanced"
    assert "| balanced | 3 | ." in run.data.tags["mlflow.note.content"]
    assert set(stored.place.artifacts(run, "comparison")) >= {
        "comparison/differences.png",
        "comparison/differences.json",
    }
    assert (tmp_path / "comparison.md").is_file()
