"""A model has the same confidence interval in every command, regardless of row order."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, TrainConfig
from distilspark.evaluation.findings import Variant, compare_variants
from distilspark.evaluation.predictions import Predictions
from distilspark.evaluation.report import evaluate
from distilspark.workflows.promote import decide
from helpers.made_runs import made_classifier, made_regressor

CONFIG = EvaluationConfig(confidence=0.9, resamples=300, seed=7, examples=3)
MODELS = {"cola": made_classifier(200, 0.8, 1), "stsb": made_regressor(200, 0.7, 1)}


def stored(predictions: Predictions) -> Predictions:
    """Return the predictions in another row order, as another command reads them."""
    frame = predictions.to_frame()
    return Predictions.from_frame(frame.sample(frac=1, random_state=0).reset_index(drop=True))


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_train_evaluate_compare_and_promote_show_the_same_interval(
    compose_config: Callable[..., TrainConfig], task: str
) -> None:
    config, predictions = compose_config(f"task={task}", "model=tiny").task, MODELS[task]
    trained = evaluate(config, predictions, predictions.labels, (), CONFIG)
    evaluated = evaluate(config, stored(predictions), predictions.labels, (), CONFIG)
    variants = [Variant("this", {"1": stored(predictions)}), Variant("other", {"1": stored(predictions)})]
    compared = compare_variants(config, "", variants, CONFIG).scores["this"]
    promoting = SimpleNamespace(task=config, evaluation=CONFIG)
    promoted = decide(promoting, [(SimpleNamespace(), stored(predictions))]).numbers  # type: ignore[arg-type]
    low, high = trained.intervals[config.metric]
    assert low < trained.metrics[config.metric] < high
    assert evaluated.intervals == trained.intervals
    assert {name: score.interval for name, score in compared.items()} == trained.intervals
    assert (promoted["low"], promoted["high"]) == (low, high)
    assert np.ptp([promoted["challenger"], compared[config.metric].mean, trained.metrics[config.metric]]) < 1e-12
