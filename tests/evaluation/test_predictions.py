"""Predictions are stored as a table and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distilspark.evaluation.predictions import Predictions

Builder = Callable[..., Predictions]


@pytest.mark.parametrize("builder, sizes", [("classified", (9, 3)), ("classified", (9, 2)), ("regressed", (9,))])
def test_predictions_are_unchanged_after_a_round_trip_through_parquet(
    request: pytest.FixtureRequest, tmp_path: Path, builder: str, sizes: tuple[int, ...]
) -> None:
    build: Builder = request.getfixturevalue(builder)
    predictions = build(*sizes)
    shuffled = predictions.where(np.arange(9) != 4)  # an index with a gap
    shuffled.to_frame().to_parquet(tmp_path / "predictions.parquet")
    again = Predictions.from_frame(pd.read_parquet(tmp_path / "predictions.parquet"))
    assert again.outputs.shape == (8, *sizes[1:])
    np.testing.assert_array_equal(again.outputs, shuffled.outputs)
    np.testing.assert_array_equal(again.labels, shuffled.labels)
    pd.testing.assert_frame_equal(again.rows, shuffled.rows.reset_index(drop=True))
