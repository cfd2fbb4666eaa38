"""Slices partition the rows, and their metrics are computed on their rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Predictions
from distilspark.evaluation.slices import length_bands, score_bands, slice_metrics
from distilspark.heads import CLASSIFICATION

Builder = Callable[..., Predictions]


def test_cola_is_sliced_by_domain_source_and_length(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(300)
    table = slice_metrics(cola, predictions, {"ks08", "bc01", "unseen in dev"})
    assert list(table.columns) == ["slice", "value", "rows", *CLASSIFICATION.metrics]
    assert table.groupby("slice")["rows"].sum().to_dict() == {"domain": 300, "source": 300, "length": 300}
    assert set(table.loc[table["slice"] == "source", "value"]) == {"ks08", "bc01", "new"}
    out = (predictions.rows["source"] == "new").to_numpy()
    line = table.set_index(["slice", "value"]).loc[("domain", "out")]
    assert line["rows"] == out.sum()
    expected = CLASSIFICATION.compute_metrics(predictions.labels[out], predictions.outputs[out])
    assert line[list(expected)].to_dict() == pytest.approx(expected)


def test_stsb_is_sliced_by_length_and_score_band(stsb: TaskConfig, regressed: Builder) -> None:
    predictions = regressed(300)
    table = slice_metrics(stsb, predictions, set())
    assert list(table["slice"].unique()) == ["length", "score band"]
    bands = table[table["slice"] == "score band"].set_index("value")
    assert list(bands.index) == ["0-1", "1-2", "2-3", "3-4", "4-5"]
    high = predictions.labels >= 4
    assert bands.loc["4-5", "rows"] == high.sum()
    assert bands.loc["4-5", "mae"] == pytest.approx(np.abs(predictions.outputs - predictions.labels)[high].mean())


def test_slices_match_rows_by_position_and_not_by_index(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(120)
    shuffled = replace(predictions, rows=predictions.rows.set_axis(np.arange(120)[::-1] % 7))
    sources = {"ks08"}
    pd.testing.assert_frame_equal(slice_metrics(cola, shuffled, sources), slice_metrics(cola, predictions, sources))


def test_missing_source_is_in_the_slice_unknown(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(90)
    predictions.rows.loc[:9, "source"] = None
    table = slice_metrics(cola, predictions, {"ks08"}).set_index(["slice", "value"])
    assert table.loc[("source", "unknown"), "rows"] == 10
    assert table.loc[("domain", "unknown"), "rows"] == 10
    assert table.loc["domain", "rows"].sum() == 90


def test_there_is_no_domain_slice_if_training_has_no_sources(cola: TaskConfig, classified: Builder) -> None:
    assert set(slice_metrics(cola, classified(60), set())["slice"]) == {"source", "length"}


def test_score_bands_include_their_lower_end_and_the_last_also_its_upper_end() -> None:
    bands = score_bands([0.0, 2.5], np.array([0.0, 0.99, 1.0, 2.0, 2.5, 2.6]))
    assert list(bands) == ["0-1", "0-1", "1-2", "2-2.5", "2-2.5", "2-2.5"]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([7, 7, 7], {"7 tokens": 3}),
        ([5, 5, 5, 5, 9], {"5 tokens": 4, "9 tokens": 1}),
        ([3, 4, 5, 6, 7, 8], {"3-4 tokens": 2, "5-6 tokens": 2, "7-8 tokens": 2}),
        ([12], {"12 tokens": 1}),
    ],
)
def test_rows_of_equal_length_are_in_one_band(tokens: list[int], expected: dict[str, int]) -> None:
    assert length_bands(np.array(tokens)).value_counts(sort=False).to_dict() == expected


def test_about_half_of_colas_dev_rows_are_in_domain(cola: TaskConfig, glue: Path) -> None:
    columns = ["source", "label", "mark", "sentence1"]
    train, dev = (
        pd.read_csv(glue / "CoLA" / f"{split}.tsv", sep="\t", names=columns, quoting=csv.QUOTE_NONE)
        for split in ("train", "dev")
    )
    rows = dev.assign(id=dev.index, sentence2=None, tokens=dev["sentence1"].str.split().str.len())
    labels = dev["label"].to_numpy(float)
    table = slice_metrics(cola, Predictions(rows, labels, np.eye(2)[dev["label"]]), set(train["source"]))
    domain = table[table["slice"] == "domain"].set_index("value")
    assert domain["rows"].to_dict() == {"in": 527, "out": 516}
    assert (domain["accuracy"] == 1).all()
