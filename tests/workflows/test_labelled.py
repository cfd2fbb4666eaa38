"""The rows that models are evaluated on have one order, and are logged as the run's dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run

from distilspark.config import TrainConfig
from distilspark.workflows import labelled
from distilspark.workflows.labelled import read_evaluation_set
from helpers.made_runs import made_rows
from helpers.texts import lines_with


def test_rows_are_sorted_by_id_and_logged_with_their_digest(
    run: Callable[[], Run],
    compose_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = made_rows(9).assign(label=1.0, split="dev").drop(columns="tokens").iloc[::-1]

    def load(spark: Any, task: Any, data: Any, bad_rows: Path) -> Any:
        bad_rows.write_text("row\nshort\n")
        return SimpleNamespace(
            rows=SimpleNamespace(toPandas=lambda: rows), bad_rows=1, source="files", file="file:/d.csv", digest="d" * 36
        )

    monkeypatch.setattr(labelled, "load_labelled", load)
    config, spark = compose_config("model=tiny"), SimpleNamespace()
    found = read_evaluation_set(spark, config.task, config.data, tmp_path)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(found.rows, rows.sort_values("id", ignore_index=True))
    assert (found.digest, found.source) == ("d" * 36, "files")
    logged = run()
    assert (logged.data.metrics["data/dev"], logged.data.metrics["data/rows_bad"]) == (9, 1)
    assert logged.data.tags["data.source"] == "files"
    assert [(each.dataset.name, each.dataset.digest) for each in logged.inputs.dataset_inputs] == [
        ("cola-files-dev", "d" * 36)
    ]
    printed = capsys.readouterr().out
    assert len(lines_with(printed, "files", "file:/d.csv", 9)) == 1
