"""A model has the same confidence interval in train, evaluate, promote and compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run

from helpers.processes import TINY, Place
from helpers.trained import Trained

pytestmark = pytest.mark.slow
OF_TRAINING_ONLY = ("model=", "scoring.")
SMALL = [each for each in TINY if not each.startswith(OF_TRAINING_ONLY)]


def run_of(place: Place, experiment: str, *command: str) -> Run:
    """Return the newest run of an experiment after a successful command."""
    ended = place.run(sys.executable, "-m", "distilspark", *command)
    assert ended.returncode == 0, ended.stderr
    return place.runs(experiment)[0]


def test_four_commands_show_the_same_interval(int8_training: Trained, tmp_path: Path) -> None:
    place, experiment = int8_training.place, "distilspark-cola"
    own = ["registry.name=same", "training.threshold=tuned", f"hydra.run.dir={tmp_path / 'train'}"]
    training = run_of(place, experiment, "train", *TINY, *own)
    low, high = training.data.metrics["dev/mcc_low"], training.data.metrics["dev/mcc_high"]
    assert low < high, "it predicts both labels"

    evaluate = ["evaluate", *SMALL, "model_uri=models:/same/1", f"hydra.run.dir={tmp_path / 'evaluate'}"]
    evaluated = run_of(place, f"{experiment}-evaluation", *evaluate).data.metrics
    assert (evaluated["dev/mcc_low"], evaluated["dev/mcc_high"]) == (low, high)

    if "champion" in place.client.get_registered_model("same").aliases:
        place.client.delete_registered_model_alias("same", "champion")
    promote = ["promote", *SMALL, "registry.name=same", f"hydra.run.dir={tmp_path / 'promote'}"]
    promoted = run_of(place, f"{experiment}-promotion", *promote)
    verdict = json.loads(place.artifact(promoted, "verdict.json").read_text())
    assert (verdict["low"], verdict["high"]) == (low, high)

    run_ids = f"{training.info.run_id},{int8_training.run.info.run_id}"
    run_of(place, experiment, "compare", f"runs=[{run_ids}]", f"output={tmp_path / 'compared'}")
    table = pd.read_csv(tmp_path / "compared" / "differences.csv")
    assert table.loc[0, ["low", "high"]].tolist() == [low, high]
