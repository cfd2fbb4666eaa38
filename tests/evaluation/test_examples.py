"""The example table has the best and the worst rows, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from distilspark.config import TaskConfig
from distilspark.evaluation.examples import example_table
from distilspark.evaluation.predictions import Predictions

Builder = Callable[..., Predictions]


def test_examples_of_a_classifier_are_the_most_confident_right_and_wrong_rows(
    cola: TaskConfig, classified: Builder
) -> None:
    everything = classified(400)
    predictions = everything.where((everything.labels == 1) | (np.arange(400) < 40))
    table = example_table(cola, predictions, 10)
    assert list(table.columns) == ["kind", "id", "sentence1", "label", "prediction", "confidence", "loss"]
    best, worst = table[table["kind"] == "best"], table[table["kind"] == "worst"]
    assert (best["label"] == best["prediction"]).all()
    assert best["label"].value_counts().to_dict() == {"acceptable": 5, "unacceptable": 5}
    assert (worst["label"] != worst["prediction"]).all()
    assert worst["confidence"].is_monotonic_decreasing
    wrong = predictions.predicted != predictions.labels
    assert worst["confidence"].iloc[0] == pytest.approx(predictions.outputs[wrong].max())
    assert len(best) == len(worst) == 10


def test_loss_is_that_of_the_true_label(mnli: TaskConfig, classified: Builder) -> None:
    predictions = classified(200, 3)
    table = example_table(mnli, predictions, 5)
    assert "sentence2" in table
    row = table.iloc[-1]
    place = predictions.rows["id"].tolist().index(row["id"])
    probability = predictions.outputs[place, mnli.labels.index(row["label"])]
    assert row["loss"] == pytest.approx(-np.log(probability), rel=1e-5)
    assert row["sentence1"] == predictions.rows["sentence1"][place]


def test_examples_of_a_regressor_have_the_smallest_and_largest_errors(stsb: TaskConfig, regressed: Builder) -> None:
    predictions = regressed(300)
    table = example_table(stsb, predictions, 4)
    assert list(table.columns) == ["kind", "id", "sentence1", "sentence2", "label", "prediction", "error"]
    errors = np.sort(np.abs(predictions.outputs - predictions.labels))
    assert table["error"].abs().tolist() == pytest.approx([*errors[:4], *errors[::-1][:4]])
    assert table["error"].tolist() == pytest.approx((table["prediction"] - table["label"]).tolist())


def test_no_row_is_both_best_and_worst(stsb: TaskConfig, regressed: Builder) -> None:
    table = example_table(stsb, regressed(5), 20)
    assert table["kind"].tolist() == ["best"] * 3 + ["worst"] * 2
    assert table["id"].is_unique


def test_a_model_without_errors_has_no_worst_rows(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(30)
    perfect = replace(predictions, outputs=np.eye(2)[predictions.labels.astype(int)])
    table = example_table(cola, perfect, 4)
    assert table["kind"].tolist() == ["best"] * 4
    assert table["loss"].tolist() == [0] * 4
