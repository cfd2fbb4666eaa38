"""Pretraining within `train`: logged in the run, and refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.model.checkpoints import fetch
from distilspark.training import pretraining
from distilspark.workflows.runner import Context
from distilspark.workflows.sweep import check_tasks
from distilspark.workflows.train import prepare, starting_checkpoint
from helpers.stores import tracking_in

Composer = Callable[..., TrainConfig]
REFUSED = r"training\.pretraining\.rows=5: .*task=rte\b.*cola and stsb"


def test_pretraining_of_a_task_without_generated_rows_is_refused_before_the_run(
    compose_config: Composer, tmp_path: Path
) -> None:
    config = compose_config("model=tiny", "task=rte", "training.pretraining.rows=5")
    session: Any = object()
    with pytest.raises(UserError, match=REFUSED), prepare(config, Context(tmp_path / "train.log", session)):
        pytest.fail("the training has begun")


def test_sweep_with_an_impossible_pretraining_is_refused_before_its_first_job(compose_config: Composer) -> None:
    jobs = [compose_config("model=tiny", "task=rte", f"training.pretraining.rows={rows}") for rows in (0, 5)]
    with pytest.raises(UserError, match=REFUSED):
        check_tasks(jobs)
    check_tasks(jobs[:1])


@pytest.mark.slow
def test_pretraining_is_logged_in_every_run_that_uses_it(
    compose_config: Composer,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pretraining, "VALIDATION_ROWS", 50)
    config = compose_config("model=tiny", "training.pretraining.rows=64", "training.pretraining.epochs=2")
    with tracking_in(tmp_path):
        checkpoint = fetch(config.model)
        for printed in ("64 generated rows, 2 epochs", "from tiny-"):
            with mlflow.start_run() as active:
                start = starting_checkpoint(config, checkpoint)
            run = mlflow.get_run(active.info.run_id)
            assert printed in capsys.readouterr().out.splitlines()[0]
            assert (
                start != checkpoint and f"64 generated rows, {start.name[-12:]}" == run.data.tags["model.pretraining"]
            )
            assert {"time/pretraining", "pretraining/train/loss", "pretraining/val/mcc"} <= set(run.data.metrics)
            points = mlflow.MlflowClient().get_metric_history(active.info.run_id, "pretraining/val/mcc")
            assert [point.step for point in points] == [1, 2]


def test_checkpoint_is_unchanged_without_pretraining(compose_config: Composer, tmp_path: Path) -> None:
    assert starting_checkpoint(compose_config("model=tiny"), tmp_path) == tmp_path
