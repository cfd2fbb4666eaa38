"""Sweeps as a user starts them: one parent run, a child run for each job, the best registered; failures and kills."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from distilspark.evaluation.predictions import Predictions
from distilspark.tracking.views import SAVED_VIEW
from helpers.clusters import DRIVER, on_cluster, two_workers
from helpers.processes import Place, end_group, train_command
from helpers.sweeping import Swept, children, parents
from helpers.texts import lines_with, numbers_in
from helpers.trained import Trained

pytestmark = pytest.mark.slow
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def sweep_command(place: Place, registry: str, *overrides: str) -> list[str]:
    """Return the command of a tiny `train --multirun`."""
    own = (f"registry.name={registry}", f"hydra.sweep.dir={place.folder / 'out' / registry}", *overrides)
    return [*train_command("task=cola", *own), "--multirun"]


def sweep(place: Place, registry: str, *overrides: str, **environment: str) -> Swept:
    """Run a sweep to its end."""
    ended = place.run(*sweep_command(place, registry, *overrides), **environment)
    return Swept(place, ended, parents(place, registry)[0])


def versions(place: Place, registry: str) -> list[str]:
    """Return the ids of the runs whose models are registered."""
    return [str(version.run_id) for version in place.client.search_model_versions(f"name='{registry}'")]


def test_run_that_mlflow_opened_is_the_parent(ablation: Swept) -> None:
    assert ablation.parent.info.status == "FINISHED"
    assert ablation.parent.data.params["task"] == "cola"
    assert ablation.parent.data.params["training.epochs"] == "2"
    assert ablation.parent.info.run_name == "cola tiny class_weights"
    assert len(ablation.place.runs("an ablation")) == 3
    tags = ablation.parent.data.tags
    assert (tags["sweep.name"], tags["sweep.varied"]) == ("class_weights", '["training.class_weights"]')
    assert {"sweep.log", "sweep/jobs.json"} <= set(ablation.place.artifacts(ablation.parent))


def test_children_have_tags_and_params_to_filter_and_compare(ablation: Swept) -> None:
    assert set(ablation.children) == {"training.class_weights=balanced", "training.class_weights=off"}
    for label, child in ablation.children.items():
        assert child.info.status == "FINISHED"
        assert child.data.tags["sweep.variant"] == label
        assert child.data.tags["sweep.id"] == ablation.parent.data.tags["sweep.id"]
        assert child.data.tags["task"] == child.data.params["task.name"] == "cola"
        assert child.data.params["training.class_weights"] == label.partition("=")[2]
        assert child.data.params["training.seed"] == "1" and len(child.data.params) > 70
        assert child.info.run_name == f"cola tiny class_weights={label.partition('=')[2]}"
        assert {"train.log", "config/overrides.yaml", "evaluation/predictions.parquet"} <= set(
            ablation.place.artifacts(child)
        )


def test_only_the_job_best_on_validation_is_registered(ablation: Swept) -> None:
    kept = {run.info.run_id: run.data.metrics["val/kept_mcc"] for run in ablation.children.values()}
    (registered,) = versions(ablation.place, "ablation")
    assert kept[registered] == max(kept.values())
    assert ablation.parent.data.tags["sweep.best"] == registered
    assert "registered ablation version 1 (@challenger" in ablation.ended.stdout
    assert ablation.ended.stdout.count("registered ") == 1


def test_job_of_a_sweep_predicts_the_same_as_a_single_training(ablation: Swept, cola_training: Trained) -> None:
    """The second job of a process too: the first leaves no state in Keras, NumPy or Spark."""
    import pandas as pd

    child = ablation.children["training.class_weights=balanced"]
    frames = [
        pd.read_parquet(ablation.place.artifact(run, "evaluation/predictions.parquet"))
        for run in (child, cola_training.run)
    ]
    pd.testing.assert_frame_equal(*frames)
    assert len(Predictions.from_frame(frames[0]).labels) == 100


def test_job_table_lists_every_child(ablation: Swept) -> None:
    table = json.loads(ablation.place.artifact(ablation.parent, "sweep/jobs.json").read_text())
    assert table["columns"][:4] == ["job", "status", "val/kept_mcc", "dev/mcc"]
    shown = {row[0]: row[3] for row in table["data"]}
    assert shown == {label: f"{run.data.metrics['dev/mcc']:.4f}" for label, run in ablation.children.items()}
    for value in shown.values():
        assert value in ablation.ended.stdout


def test_parent_run_shows_the_finding_and_the_comparison(ablation: Swept) -> None:
    tags = ablation.parent.data.tags
    assert tags["sweep.baseline"] == "training.class_weights=off"
    assert tags["finding"].startswith("class weights") and "1 seed" in tags["finding"]
    assert tags["finding"] in ablation.ended.stdout
    assert tags["mlflow.note.content"].startswith(f"**{tags['finding']}**")
    view = f"#/experiments/{ablation.parent.info.experiment_id}/runs?viewStateShareKey={tags['sweep.id']}&"
    assert view in tags["mlflow.note.content"] and f"/{view}" in ablation.ended.stdout
    experiment = ablation.place.client.get_experiment(ablation.parent.info.experiment_id)
    assert {f"{SAVED_VIEW}results", f"{SAVED_VIEW}{tags['sweep.id']}"} <= set(experiment.tags)
    there = set(ablation.place.artifacts(ablation.parent, "comparison"))
    assert {"comparison/comparison.md", "comparison/differences.png", "comparison/differences.json"} <= there
    table = json.loads(ablation.place.artifact(ablation.parent, "comparison/differences.json").read_text())
    column = table["columns"].index("mcc")
    shown = {row[0]: row[column] for row in table["data"]}
    expected = {
        run.data.params["training.class_weights"]: run.data.metrics["dev/mcc"] for run in ablation.children.values()
    }
    assert list(shown) == ["off", "balanced"]
    assert shown == pytest.approx(expected, abs=1e-6)
    assert (ablation.place.folder / "out" / "ablation" / "comparison" / "comparison.md").is_file()


def test_killed_sweep_resumes_with_the_jobs_that_are_not_finished(place: Place) -> None:
    """The third job is killed; the second and the fourth fail without stopping the others."""
    varied = ("training.seed=1,2", "model.path=null,/nowhere", "training.checkpoint_every=null")
    process = place.start(*sweep_command(place, "broken_off", *varied))
    try:
        assert process.stdout is not None and process.stderr is not None
        epochs = (line for line in process.stdout if line.startswith("epoch 1/"))
        if not (next(epochs, None) and next(epochs, None)):
            pytest.fail(process.stderr.read())
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        end_group(process)
    assert process.returncode == 130
    (killed,) = parents(place, "broken_off")
    before = {run.data.tags["sweep.job"]: run.info for run in children(place, killed)}
    assert killed.info.status == "KILLED"
    finished, broken, missing, second = (
        f"model.path={path} training.seed={seed}" for seed in (1, 2) for path in ("null", "/nowhere")
    )
    assert {label: info.status for label, info in before.items()} == {
        finished: "FINISHED",
        broken: "FAILED",
        missing: "KILLED",
    }
    assert versions(place, "broken_off") == []

    swept = sweep(place, "broken_off", *varied)
    assert swept.ended.returncode == 1
    first, *failures = swept.ended.stderr.splitlines()
    assert first.startswith("distilspark: ") and numbers_in(first) == [2, 4]
    assert [line.partition(": ")[0] for line in failures] == [f"- {broken}", f"- {second}"]
    assert len(lines_with(swept.ended.stdout, "jobs", 4, 1)) == 1
    assert swept.ended.stdout.count("epoch 1/") == 1
    assert swept.parent.info.status == "FAILED"
    assert {label: run.info.status for label, run in swept.children.items()} == {
        finished: "FINISHED",
        broken: "FAILED",
        missing: "FINISHED",
        second: "FAILED",
    }
    assert swept.children[finished].info.run_id == before[finished].run_id
    assert {run.info.run_id for run in children(place, killed)} == {before[broken].run_id, before[missing].run_id}
    assert len(versions(place, "broken_off")) == 1


def test_parallel_jobs_work_on_a_new_store_and_report_failures(tmp_path: Path) -> None:
    """Two jobs at once, in separate processes, are the first to write to the store."""
    place = Place(tmp_path)
    swept = sweep(place, "parallel", "model.path=null,/nowhere", "training.seed=1,2", *JOBLIB)
    assert swept.ended.returncode == 1, swept.ended.stderr
    summary, failure, _ = swept.ended.stderr.splitlines()
    assert summary.startswith("distilspark: ") and numbers_in(summary) == [2, 4]
    assert failure.startswith("- model.path=/nowhere training.seed=1: ")
    assert swept.ended.stderr.count("\n") == 3
    assert "Traceback" not in swept.ended.stdout
    for seed in (1, 2):
        assert f"\npath=null seed {seed}: epoch 1/" in swept.ended.stdout, "whose epoch it is"
    by_status = sorted((run.info.status, label) for label, run in swept.children.items())
    assert by_status == [
        ("FAILED", "model.path=/nowhere training.seed=1"),
        ("FAILED", "model.path=/nowhere training.seed=2"),
        ("FINISHED", "model.path=null training.seed=1"),
        ("FINISHED", "model.path=null training.seed=2"),
    ]
    first, second = sorted(
        (run.info for run in swept.children.values() if run.info.status == "FINISHED"), key=lambda info: info.start_time
    )
    assert second.start_time < first.end_time
    assert len(versions(place, "parallel")) == 1


def test_trials_of_a_search_are_child_runs(place: Place) -> None:
    space = ("training.learning_rate=tag(log,interval(1e-4,1e-3))", "training.batch_size=choice(16,32)")
    searched = sweep(place, "search", *space, "hydra/sweeper=optuna", "hydra.sweeper.search.trials=2")
    assert searched.ended.returncode == 0, searched.ended.stderr
    assert searched.parent.data.tags["sweep.varied"] == '["training.batch_size", "training.learning_rate"]'
    assert len(searched.children) == 2
    for label, child in searched.children.items():
        rate, batch = child.data.params["training.learning_rate"], child.data.params["training.batch_size"]
        assert label == f"training.batch_size={batch} training.learning_rate={rate}"
        assert 1e-4 <= float(rate) <= 1e-3 and batch in ("16", "32")
    best = max(searched.children.values(), key=lambda run: run.data.metrics["val/kept_mcc"])
    assert versions(place, "search") == [best.info.run_id]


def test_jobs_run_as_spark_tasks_on_a_cluster(place: Place, tmp_path: Path) -> None:
    """Two jobs run at once, each in its own process."""
    with two_workers(tmp_path / "cluster") as cluster:
        resources = [each.replace("spark.", "hydra.launcher.resources.", 1) for each in on_cluster(cluster)[1:]]
        swept = sweep(place, "spark", "training.seed=1,2", "hydra/launcher=spark", *resources, **DRIVER)
    assert swept.ended.returncode == 0, swept.ended.stderr
    assert {label: run.info.status for label, run in swept.children.items()} == {
        "training.seed=1": "FINISHED",
        "training.seed=2": "FINISHED",
    }
    first, second = sorted((run.info for run in swept.children.values()), key=lambda info: info.start_time)
    assert second.start_time < first.end_time
    assert len(versions(place, "spark")) == 1
