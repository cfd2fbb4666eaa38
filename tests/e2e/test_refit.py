"""`training.refit=true`: epochs are chosen on validation, then train and validation are trained on; survives a kill."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from mlflow.entities import Run

from distilspark.training.checkpoint.store import CheckpointFolder
from helpers.processes import Place, end_group, train_command
from helpers.texts import has_facts, lines_with

pytestmark = pytest.mark.slow
TRAINING = (
    "task=cola",
    "training.refit=true",
    "training.epochs=4",
    "training.batch_size=8",
    "training.early_stopping.patience=4",
    "training.threshold=tuned",
    "training.checkpoint_every=5 steps",
)


def run_named(place: Place, name: str) -> Run:
    (run,) = [run for run in place.runs("distilspark-cola") if run.data.params.get("registry.name") == name]
    return run


def steps(place: Place, run: Run, metric: str) -> list[int]:
    return [point.step for point in place.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="module")
def refitted(place: Place) -> tuple[Run, str]:
    """A training without interruption, and its output."""
    ended = place.train(*TRAINING, "registry.name=refitted")
    assert ended.returncode == 0, ended.stderr
    return run_named(place, "refitted"), ended.stdout


def test_refit_trains_the_best_number_of_epochs_on_train_and_validation(
    place: Place, refitted: tuple[Run, str]
) -> None:
    run, printed = refitted
    metrics = run.data.metrics
    best, rows = int(metrics["train/best_epoch"]), int(metrics["data/train"] + metrics["data/validation"])
    (announced,) = lines_with(printed, "refit", "rows", best, rows)
    places = [printed.index(each) for each in ("kept ", announced, f"refit epoch {best}/{best} ")]
    assert places == sorted(places)
    assert f"refit epoch {best + 1}" not in printed
    assert steps(place, run, "refit/loss") == list(range(1, best + 1))
    assert steps(place, run, "val/loss") == steps(place, run, "train/loss") == [1, 2, 3, 4]
    history = place.client.get_metric_history(run.info.run_id, "val/mcc")
    assert metrics["val/kept_mcc"] == max(point.value for point in history)
    assert metrics["time/refit"] > 0


def test_precision_is_chosen_before_the_refit_and_checked_again_after_it(refitted: tuple[Run, str]) -> None:
    run, printed = refitted
    assert {"parity/flips", "parity_refit/flips", "package/max_difference"} <= set(run.data.metrics)
    assert run.data.metrics["parity/float32"] != run.data.metrics["parity_refit/float32"], "two networks"
    assert len(lines_with(printed, "packaged", "float32")) == 2


def test_profile_after_a_refit_is_computed_on_dev(place: Place, refitted: tuple[Run, str]) -> None:
    """The refitted network was trained on validation but has not seen dev."""
    run, _ = refitted
    profile = json.loads(place.artifact(run, "package/profile.json").read_text())
    assert profile["rows"] == run.data.metrics["data/dev"] != run.data.metrics["data/validation"]


def kill_within_refit(folder: Path, process: subprocess.Popen[str]) -> None:
    """Kill the process once the refit has a checkpoint."""
    end = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < end:
        if list(folder.glob("*/refit/*.npz")):
            return end_group(process)
        time.sleep(0.02)
    process.kill()
    return pytest.fail(f"no checkpoint within the refit: {process.communicate()}")


def test_killed_refit_resumes_with_the_same_weights(place: Place, refitted: tuple[Run, str], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    command = train_command(*TRAINING, "registry.name=refit-killed", f"training.checkpoints={folder}")
    kill_within_refit(folder, place.start(*command))
    killed = run_named(place, "refit-killed")
    assert killed.info.status == "RUNNING"
    first, second = (CheckpointFolder(path).latest for path in (*folder.glob("*/"), *folder.glob("*/refit")))
    assert first and second and first.state["origin"] == second.state["origin"], "both begin with the same network"
    ended = place.run(*command)
    assert ended.returncode == 0, ended.stderr
    run, whole = run_named(place, "refit-killed"), refitted[0]
    assert (run.info.run_id, run.info.status) == (killed.info.run_id, "FINISHED")
    assert len(lines_with(ended.stdout, run.data.tags["resumed.after"], "checkpoint")) == 1
    assert has_facts(run.data.tags["resumed.after"], "refit", "epoch 1")
    assert "\nepoch 1/4" not in ended.stdout, "the first training was finished"
    assert run.data.tags["model.weights_sha256"] == whole.data.tags["model.weights_sha256"]
    for metric in ("train/loss", "val/loss", "refit/loss"):
        assert steps(place, run, metric) == steps(place, whole, metric)
    dev = {name: value for name, value in run.data.metrics.items() if name.startswith(("dev/", "val/"))}
    assert dev and all(whole.data.metrics[name] == value for name, value in dev.items())
    assert list(folder.iterdir()) == []
