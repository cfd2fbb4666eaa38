"""A network with a folded threshold, and its package, predict label 1 if its probability exceeded the threshold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from distilspark.config import TrainConfig
from distilspark.heads import CLASSIFICATION
from distilspark.model.network import build_network, export_arrays
from distilspark.package.build import write_package
from distilspark.package.pyfunc import Scorer
from distilspark.training.prediction import Predictor
from distilspark.training.threshold import fold_threshold

pytestmark = pytest.mark.slow
WORDS = ("the", "dog", "that", "it", "she", "was", "who", "not")
THRESHOLDS = (0.02, 0.3, 0.5, 0.9)


@pytest.fixture
def network(tiny_folder: Path, toy_rows: Callable[..., Any]) -> Any:
    """A network whose probabilities lie on both sides of any threshold: log odds around 0 with a deviation of 3."""
    keras.utils.set_random_seed(3)
    made = build_network(tiny_folder, "classification", 2)
    odds = np.diff(Predictor(made, 999, 8).raw_outputs(toy_rows(200)[0]))
    last = made.get_layer("classifier")
    last.kernel.assign(last.kernel * (3 / odds.std()))
    last.bias.assign([0.0, -odds.mean() * 3 / odds.std()])
    return made


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_network_with_a_folded_threshold_predicts_by_the_threshold(
    network: Any, toy_rows: Callable[..., Any], threshold: float
) -> None:
    encoded, _ = toy_rows(200)
    before = CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded))
    fold_threshold(network, threshold)
    after = CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded))
    np.testing.assert_array_equal(after.argmax(axis=1), before[:, 1] > threshold)
    assert 0 < after.argmax(axis=1).mean() < 1, "all the same would hide a threshold that does nothing"
    odds = (before[:, 1] / before[:, 0]) * (1 - threshold) / threshold
    np.testing.assert_allclose(after[:, 1] / after[:, 0], odds, rtol=1e-3)


def test_package_with_a_folded_threshold_predicts_by_it_with_scores_above_half(
    network: Any, tiny_folder: Path, compose_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = compose_config("task=cola", "model=tiny")
    words = np.random.default_rng(0).choice(WORDS, (60, 6))
    rows = pd.DataFrame({"sentence1": [" ".join(row) for row in words]})
    said = []
    for threshold in (0.5, 0.9):
        fold_threshold(network, threshold)
        write_package(tmp_path, export_arrays(network), tiny_folder, config.task, config.model, (), threshold=threshold)
        scorer = Scorer(tmp_path)
        said.append((scorer.outputs(rows), scorer.predict(rows)))
    (before, _), (_, answer) = said
    assert answer["prediction"].tolist() == (before[:, 1] > 0.9).astype(int).tolist()
    assert answer["prediction"].nunique() == 2
    assert answer["score"].between(0.5, 1).all()
