"""Session fixtures that many e2e tests share: one tiny training of each head, and one ablation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distilspark.paths import ROOT
from helpers.keys import make_keys
from helpers.processes import TINY, Place
from helpers.sweeping import Swept, parents
from helpers.trained import Trained

MLFLOW = str(Path(sys.executable).with_name("mlflow"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A working folder with a cache and an MLflow store, shared by these tests."""
    return Place(tmp_path_factory.mktemp("e2e"))


def _train(place: Place, task: str, *overrides: str, folder: str | None = None) -> Trained:
    output = place.folder / "out" / (folder or task)
    ended = place.train(f"task={task}", f"hydra.run.dir={output}", *overrides)
    assert ended.returncode == 0, ended.stderr
    run_id = ended.stdout.partition("\nrun ")[2].split()[0]
    return Trained(place, place.client.get_run(run_id), ended, output)


@pytest.fixture(scope="session")
def cola_training(place: Place) -> Trained:
    """A classification training of two epochs."""
    return _train(place, "cola", "training.epochs=2")


@pytest.fixture(scope="session")
def stsb_training(place: Place) -> Trained:
    """A regression training of one epoch: Huber loss, standardized labels, filtered text, mean pooling."""
    changed = [
        "training.loss=huber",
        "training.standardize_labels=true",
        "model.pooling=mean",
        "features.text=filtered",
    ]
    return _train(place, "stsb", *changed, "+spark.settings={spark.log.level: ERROR}")


@pytest.fixture(scope="session")
def int8_training(place: Place) -> Trained:
    """A classification training of one epoch with a tuned threshold, packaged in int8 and signed."""
    changed = ["scoring.precision=int8", "training.threshold=tuned", "registry.name=int8"]
    changed.append(f"registry.signing_key={make_keys(place.keys, 'int8')[0]}")
    return _train(place, "cola", *changed, folder="int8")


@pytest.fixture(scope="session")
def ablation(place: Place) -> Swept:
    """`mlflow run -e ablate`; its second job has the settings of `cola_training`."""
    given = [*TINY, "training.epochs=2", "training.seed=1", "training.class_weights=off,balanced"]
    given += ["task=cola", "experiment=class_weights", "registry.name=ablation"]
    given += [f"registry.signing_key={make_keys(place.keys, 'ablation')[0]}"]
    given += [f"hydra.sweep.dir={place.folder / 'out' / 'ablation'}"]
    passed = [part for parameter in given for part in ("-P", parameter)]
    options = ["--env-manager", "local", "--experiment-name", "an ablation"]
    ended = place.run(MLFLOW, "run", str(ROOT), "-e", "ablate", *options, *passed)
    assert ended.returncode == 0, ended.stderr
    (parent,) = parents(place, "ablation", "an ablation")
    return Swept(place, ended, parent)
