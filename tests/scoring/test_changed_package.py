"""Spark's workers run no code of a package that changed after the driver had checked it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distilspark.errors import UserError
from distilspark.workflows.predict import score_existing
from helpers.scorings import Scoring

TEXTS = ["It is the dog.", "who was not"]


def test_worker_refuses_a_changed_package(score: Scoring) -> None:
    config = score.config(score.text(TEXTS))
    model, marker = score.fetch(config), score.folder / "marker"
    loader = model.found.folder / "code/distilspark/package/pyfunc.py"
    loader.write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n{loader.read_text()}")
    with pytest.raises(UserError) as refused:
        score_existing(score.spark, config, model)
    assert "code/distilspark/package/pyfunc.py" in str(refused.value)
    assert model.found.uri in str(refused.value) and "\n" not in str(refused.value)
    assert not marker.exists() and not score.output.exists()


@pytest.mark.parametrize("name", ["code/mlflow.py", "code/distilspark/package/__pycache__/pyfunc.cpython-311.pyc"])
def test_worker_refuses_a_package_with_an_added_file(score: Scoring, name: str) -> None:
    config = score.config(score.text(TEXTS))
    model = score.fetch(config)
    file = model.found.folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    with pytest.raises(UserError, match=f"{name} was added"):
        score_existing(score.spark, config, model)


@pytest.mark.slow
def test_workers_leave_no_bytecode_in_a_package(score: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise workers would refuse each other's files."""
    kept: list[Path] = []
    monkeypatch.setattr(
        "mlflow.pyfunc._create_model_downloading_tmp_dir",
        lambda _: kept.append(score.folder / "copy") or kept[0].mkdir() or str(kept[0]),
    )
    rows = score(score.text(TEXTS * 600))
    assert len(rows) == 1200 and (rows["error"] == "").all()
    assert [*kept[0].rglob("pyfunc.py")] and not [*kept[0].rglob("*.pyc")]
