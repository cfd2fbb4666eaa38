"""Agreement between models, and the rows on which they disagree, on few rows."""

from __future__ import annotations

import numpy as np
import pytest

from distilspark.config import TaskConfig
from distilspark.evaluation.agreement import agreement, disagreements
from distilspark.evaluation.findings import Variant
from distilspark.evaluation.predictions import Predictions
from distilspark.heads import CLASSIFICATION, REGRESSION
from helpers.made_runs import made_regressor, made_rows

LABELS = np.array([0.0, 0, 1, 1])


def said(*classes: int) -> Predictions:
    """Return predictions of these classes for four rows with the labels 0, 0, 1, 1."""
    return Predictions(made_rows(4), LABELS, np.eye(2)[list(classes)] * 0.8 + 0.1)


def test_agreement_of_classifiers_is_the_share_of_equal_predictions() -> None:
    first = Variant("first", {"1": said(0, 0, 1, 1), "2": said(0, 0, 1, 0)})
    second = Variant("second", {"1": said(1, 0, 1, 1)})
    table = agreement(CLASSIFICATION, [first, second])
    assert list(table.index) == list(table.columns) == ["first", "second"]
    assert table.loc["first", "first"] == 0.75  # between its two seeds
    assert table.loc["second", "second"] == 1  # a single seed
    assert table.loc["first", "second"] == table.loc["second", "first"] == (0.75 + 0.5) / 2


def test_agreement_of_regressors_is_their_correlation() -> None:
    models = [made_regressor(200, noise, 1) for noise in (0.3, 1.0)]
    variants = [Variant(f"{place}", {"1": model}) for place, model in enumerate(models)]
    expected = np.corrcoef(*(model.outputs for model in models))[0, 1]
    assert agreement(REGRESSION, variants).loc["0", "1"] == pytest.approx(expected, abs=1e-5)


def test_disagreements_list_rows_that_only_one_variant_gets_right(cola: TaskConfig) -> None:
    baseline = Variant("off", {"1": said(0, 1, 1, 1), "2": said(0, 1, 1, 1), "3": said(0, 1, 0, 1)})
    other = Variant("on", {"1": said(1, 0, 1, 0), "2": said(1, 0, 1, 1), "3": said(1, 1, 1, 0)})
    table = disagreements(cola, [baseline, other], 5)
    assert list(table.columns) == [
        *("variant", "right", "id", "sentence1", "label"),
        *("baseline says", "variant says"),
    ]
    assert table[["right", "id"]].values.tolist() == [["on", "row-1"], ["off", "row-0"], ["off", "row-3"]]
    assert table.iloc[0][["label", "baseline says", "variant says"]].tolist() == [
        *("unacceptable", "acceptable (3 of 3)"),
        "unacceptable (2 of 3)",
    ]
    assert set(table["variant"]) == {"on"}
    assert len(disagreements(cola, [baseline, other], 1)) == 2  # one each way, the most unanimous


def test_disagreements_of_single_seeds_show_no_votes(cola: TaskConfig) -> None:
    table = disagreements(cola, [Variant("a", {"1": said(0, 0, 1, 1)}), Variant("b", {"2": said(1, 0, 1, 1)})], 5)
    assert table[["baseline says", "variant says"]].values.tolist() == [["unacceptable", "acceptable"]]


def test_disagreements_of_regressors_list_the_rows_with_the_largest_gap_in_error(stsb: TaskConfig) -> None:
    rows = made_rows(3).assign(sentence2="Another.")
    near, far = (
        Predictions(rows, np.array([1.0, 2, 3]), np.array(values, dtype=np.float32))
        for values in ([1.1, 2.0, 4.0], [3.0, 2.0, 3.0])
    )
    table = disagreements(stsb, [Variant("far", {"1": far}), Variant("near", {"1": near})], 5)
    assert table[["right", "id"]].values.tolist() == [["near", "row-0"], ["far", "row-2"]]
    assert table.loc[0, "sentence2"] == "Another."
    assert table.loc[0, ["label", "baseline says", "variant says"]].tolist() == pytest.approx([1, 3, 1.1])


def test_single_variant_has_no_disagreements(cola: TaskConfig) -> None:
    assert disagreements(cola, [Variant("a", {"1": said(0, 0, 1, 1)})], 5).empty
