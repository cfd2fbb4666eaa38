"""Packages of the tiny model without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np

from distilspark.model.network import build_network


def make_network(checkpoint: Path, head: str, units: int, pooling: str) -> keras.Model:
    """Return a network whose head's weights are large enough for errors to show in its outputs."""
    keras.utils.set_random_seed(5)
    network = build_network(checkpoint, head, units, pooling=pooling)
    for name in ("pre_classifier", "classifier"):
        layer = network.get_layer(name)
        layer.kernel.assign(layer.kernel * 20)
        layer.bias.assign(np.linspace(-1, 1, layer.bias.shape[0]))
    return network


def save_as_of_0_1_0(model: Path, folder: Path) -> Path:
    """Copy a saved model as version 0.1.0 saved it: another loader module, and no head in its settings."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "code/distilspark/package").rename(folder / "code/distilspark/scoring")
    for file in (folder / "MLmodel", *folder.glob("code/**/*.py")):
        file.write_text(file.read_text().replace("distilspark.package", "distilspark.scoring"))
    scorer = folder / "data" / next((folder / "data").iterdir()).name / "scorer.json"
    settings = json.loads(scorer.read_text())
    del settings["head"]
    scorer.write_text(json.dumps(settings))
    return folder
