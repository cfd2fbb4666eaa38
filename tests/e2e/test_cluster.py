"""Scoring on a standalone cluster whose workers have only the installed packages and what Spark ships to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.clusters import DRIVER, Cluster, on_cluster, two_workers
from helpers.predicting import (
    SIX_CHUNKS,
    TEXTS,
    check_rows,
    done_chunks,
    predict_command,
    python_workers,
    wait_for,
    write_lines,
)
from helpers.processes import end_group
from helpers.trained import Trained

pytestmark = pytest.mark.slow
IMPATIENT = (
    "spark.worker_timeout=12",
    "+spark.settings.spark.executor.heartbeatInterval=2s",
    "+spark.settings.spark.network.timeout=10s",
    "+spark.settings.spark.network.timeoutInterval=2s",
)
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


def test_every_row_is_scored_once_when_executors_and_python_workers_are_killed_or_stopped(
    cola_training: Trained, cluster: Cluster, tmp_path: Path
) -> None:
    """Stop one executor and the Python worker of the other; kill an executor after both are replaced."""
    place, source = cola_training.place, write_lines(tmp_path / "rows.txt", TEXTS)
    staging, log = tmp_path / ".scored.staging", tmp_path / "hydra" / "predict.log"
    # a relative store path that exists only on the driver: a worker that opened it would create a new store
    environment = DRIVER | {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    command = predict_command(source, tmp_path / "scored", *on_cluster(cluster), *IMPATIENT, SIX_CHUNKS)
    process = place.start(*command, **environment)
    stopped: list[psutil.Process] = []
    try:
        wait_for(lambda: done_chunks(staging) and len(cluster.executors()) == 2, process)
        executor, other = cluster.executors()
        stopped += [executor, *python_workers(other.pid)]
        for each in stopped:
            each.suspend()
        psutil.wait_procs(stopped, timeout=120)
        wait_for(lambda: len(cluster.executors()) == 2, process)
        cluster.executors()[0].kill()
        _, error = process.communicate(timeout=300)
    finally:
        end_group(process)
    assert process.returncode == 0, error
    assert len(stopped) >= 2
    assert "Lost executor" in log.read_text()
    check_rows(tmp_path / "scored", cola_training, TEXTS)
    for worker_folder in ("worker0", "worker1"):
        assert list(cluster.folder.glob(f"{worker_folder}/app-*/*/*.zip")), "Spark brought the model"
    assert not list(cluster.folder.rglob("mlflow.db"))
    assert not any(each.is_running() for each in stopped)


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
