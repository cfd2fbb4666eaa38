"""A model's interval is the same in train, evaluate, promote and compare, as a user starts them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from mlflow.entities import Run
from processes import TINY

if TYPE_CHECKING:
    from conftest import Trained

pytestmark = pytest.mark.slow
OF_TRAINING_ONLY = ("model=", "scoring.")
SMALL = [each for each in TINY if not each.startswith(OF_TRAINING_ONLY)]
REGISTER = """
import sys, mlflow
version = mlflow.register_model(sys.argv[1], "same").version
mlflow.MlflowClient().set_registered_model_alias("same", "challenger", version)
"""


def run_of(trained: Trained, experiment: str, *command: str) -> Run:
    """The run of a command that ends well."""
    ended = trained.place.run(sys.executable, "-m", "distilspark", *command)
    assert ended.returncode == 0, ended.stderr
    return trained.place.runs(experiment)[0]


def test_four_commands_show_the_same_interval(cola_training: Trained, int8_training: Trained, tmp_path: Path) -> None:
    trained: dict[str, Any] = cola_training.run.data.metrics
    low, high = trained["dev/mcc_low"], trained["dev/mcc_high"]
    assert low < high

    uri = cola_training.model_uri
    evaluate = ["evaluate", *SMALL, f"model_uri={uri}", f"hydra.run.dir={tmp_path / 'evaluate'}"]
    evaluated = run_of(cola_training, "distilspark-cola-evaluation", *evaluate).data.metrics
    assert (evaluated["dev/mcc_low"], evaluated["dev/mcc_high"]) == (low, high)

    assert cola_training.place.python(REGISTER, uri).returncode == 0
    promote = ["promote", *SMALL, "registry.name=same", f"hydra.run.dir={tmp_path / 'promote'}"]
    promoted = run_of(cola_training, "distilspark-cola-promotion", *promote)
    verdict = json.loads(cola_training.place.artifact(promoted, "verdict.json").read_text())
    assert (verdict["low"], verdict["high"]) == (low, high)

    compare = ["compare", f"models=[{uri},{int8_training.model_uri}]", f"output={tmp_path / 'compared'}"]
    run_of(cola_training, "distilspark-cola", *compare)
    table = pd.read_csv(tmp_path / "compared" / "differences.csv")
    assert table.loc[0, ["low", "high"]].tolist() == [low, high]
