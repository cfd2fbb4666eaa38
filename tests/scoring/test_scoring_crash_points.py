"""Scoring survives a failure or a kill at every operation on its files."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from distilspark.config import PredictConfig
from distilspark.errors import UserError, WorkError
from distilspark.scoring.model_udf import make_udf
from distilspark.workflows import predict
from helpers.crash_points import KilledError, crash_points, operations
from helpers.scorings import Scoring

pytestmark = pytest.mark.slow
TEXTS = [f"Line {number}." for number in range(24)]
OLDER = ["An older line."]
MOST = 3  # number of crash points without --all-crash-points


def texts(folder: Path) -> list[str]:
    return list(pd.read_parquet(folder)["sentence1"])


def keep(config: PredictConfig) -> PredictConfig:
    """Return the config with overwrite switched off."""
    return replace(config, predict=replace(config.predict, overwrite=False))  # type: ignore[type-var]


def test_scoring_resumes_after_every_crash_point_without_lost_or_duplicate_rows(
    score: Scoring, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scoring replaces an older output, which stays until the new one is complete."""
    place = score.folder / "place"
    output, replaced, staging = (place / name for name in ("scored", ".scored.replaced", ".scored.staging"))
    settings = [f"output='{output}'", "predict.overwrite=true", "predict.rows_per_chunk=12"]
    config = score.config(score.text(TEXTS), *settings)
    model = score.fetch(config)
    udf = cache(lambda: make_udf(score.spark, config, model))
    monkeypatch.setattr(predict, "make_udf", lambda *arguments: udf())

    def prepare() -> None:
        shutil.rmtree(place, ignore_errors=True)
        output.mkdir(parents=True)
        pd.DataFrame({"sentence1": OLDER}).to_parquet(output / "part-0.parquet")
        (output / "_manifest.json").write_text("{}")

    prepare()
    with operations(place) as counted:
        predict.score_existing(score.spark, config, model)
    expected = pd.read_parquet(output)
    assert expected["sentence1"].tolist() == TEXTS and list(place.iterdir()) == [output]
    points = crash_points(len(counted.done), None if request.config.getoption("--all-crash-points") else MOST)
    for k, kind in points:
        prepare()
        with operations(place, k, kind) as failing, suppress(UserError, WorkError, KilledError):
            predict.score_existing(score.spark, config, model)
        where = f"{kind} at {k}: {failing.done[k - 1]}"
        left = texts(output if output.exists() else replaced)
        assert left in (OLDER, TEXTS), where
        is_published = left == TEXTS and staging.exists()
        predict.score_existing(score.spark, keep(config) if is_published else config, model)
        pd.testing.assert_frame_equal(pd.read_parquet(output), expected, obj=where)
        assert list(place.iterdir()) == [output], where
    with capsys.disabled():
        print(f" [scoring: {len(counted.done)} operations, {len(points)} crash points]", end="")
