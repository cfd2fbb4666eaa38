"""Label scale and class weights against hand-computed values, for each head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.training.targets import LabelScale, balanced_weights, make_target_transform


def test_label_scale_has_an_inverse() -> None:
    scale = LabelScale(2.5, 1.5)
    values = np.array([0.0, 2.5, 5.0])
    np.testing.assert_allclose(scale.standardize(values), [-5 / 3, 0, 5 / 3])
    np.testing.assert_allclose(scale.rescale(scale.standardize(values)), values)
    np.testing.assert_array_equal(LabelScale().rescale(values), values)


def test_balanced_weights_equal_hand_computed_values() -> None:
    assert balanced_weights(np.array([0, 0, 0, 1.0])) == pytest.approx({0: 4 / (2 * 3), 1: 2.0})
    assert balanced_weights(np.array([0.0, 1, 2, 2])) == pytest.approx({0: 4 / 3, 1: 4 / 3, 2: 2 / 3})
    labels = np.array([0] * 30 + [1] * 70, dtype=float)
    weights = balanced_weights(labels)
    assert 30 * weights[0] == pytest.approx(70 * weights[1]) == pytest.approx(50)
    assert balanced_weights(np.ones(4)) == {1: 1.0}


@pytest.mark.parametrize(
    "overrides, weighted, scaled",
    [
        (["task=cola"], True, False),
        (["task=cola", "training.class_weights=off"], False, False),
        (["task=cola", "training.standardize_labels=true"], True, False),
        (["task=stsb"], False, False),
        (["task=stsb", "training.standardize_labels=true"], False, True),
    ],
)
def test_config_selects_class_weights_and_label_scale(
    compose_config: Callable[..., TrainConfig], overrides: list[str], weighted: bool, scaled: bool
) -> None:
    config = compose_config("model=tiny", *overrides)
    transform = make_target_transform(np.array([0.0, 1, 1, 1]), config.task, config.training)
    assert transform.class_weights == ({0: 2.0, 1: pytest.approx(2 / 3)} if weighted else None)
    assert transform.scale == (LabelScale(0.75, np.sqrt(3) / 4) if scaled else LabelScale())
