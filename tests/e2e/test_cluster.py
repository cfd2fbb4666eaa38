"""Scoring on a standalone cluster whose workers have only the installed packages and what Spark ships to them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.clusters import DRIVER, Cluster, on_cluster, two_workers
from helpers.predicting import SIX_CHUNKS, TEXTS, check_rows, done_chunks, predict_command, wait_for, write_lines
from helpers.processes import end_group
from helpers.trained import Trained

pytestmark = pytest.mark.slow
# `predict` with a package whose code is changed after the driver has checked it and before the workers load it
CHANGED = """
import pathlib, sys
from distilspark.cli import main
from distilspark.workflows import predict
fetch, marker = predict.load_task_model, sys.argv.pop(1)
def fetch_and_change(*arguments):
    model = fetch(*arguments)
    (model.found.folder / "code/distilspark/heads.py").write_text(f"open({marker!r}, 'w')")
    return model
predict.load_task_model = fetch_and_change
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with two_workers(tmp_path_factory.mktemp("spark") / "cluster") as running:
        yield running


def test_every_row_is_scored_once_when_an_executor_is_killed(
    cola_training: Trained, cluster: Cluster, tmp_path: Path
) -> None:
    place, source = cola_training.place, write_lines(tmp_path / "rows.txt", TEXTS)
    # a relative store path that exists only on the driver: a worker that opened it would create a new store
    environment = DRIVER | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    command = predict_command(source, tmp_path / "scored", *on_cluster(cluster), SIX_CHUNKS)
    process = place.start(*command, **environment)
    try:
        wait_for(lambda: done_chunks(tmp_path / ".scored.staging") and len(cluster.executors()) == 2, process)
        executors = cluster.executors()
        executors[0].send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=300)
    finally:
        end_group(process)
    assert process.returncode == 0, error
    assert len(executors) == 2
    assert "Lost executor" in (tmp_path / "hydra" / "predict.log").read_text()
    check_rows(tmp_path / "scored", cola_training, TEXTS)
    for worker in ("worker0", "worker1"):
        assert list(cluster.folder.glob(f"{worker}/app-*/*/*.zip")), "Spark brought the model"
    assert not list(cluster.folder.rglob("mlflow.db"))


def test_a_changed_package_runs_no_code_on_the_workers(
    cola_training: Trained, cluster: Cluster, tmp_path: Path
) -> None:
    place, source, marker = cola_training.place, write_lines(tmp_path / "rows.txt", TEXTS[:9]), tmp_path / "marker"
    _, _, _, *command = predict_command(source, tmp_path / "scored", *on_cluster(cluster))
    ended = place.python(CHANGED, str(marker), *command, **DRIVER)
    assert ended.returncode == 2, ended.stderr
    assert "models:/distilspark-cola/" in ended.stderr and "code/distilspark/heads.py" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not marker.exists() and not (tmp_path / "scored").exists()
