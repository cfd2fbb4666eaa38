"""Scoring survives crashed or stopped Python workers and a tracking server that stops answering."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

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
from helpers.serving import serving
from helpers.trained import Trained

pytestmark = pytest.mark.slow
CRASHED = "Python worker exited unexpectedly (crashed)"


def is_writing(staging: Path) -> bool:
    """Return whether a task writes its first rows or waits for them."""
    return any(staging.glob("scored/*/_temporary/0/_temporary/attempt_*/part-*"))


def test_task_is_retried_when_its_python_workers_are_killed(cola_training: Trained, tmp_path: Path) -> None:
    """The workers are suspended before they are killed, so that a task is certain to wait for them."""
    source, staging = write_lines(tmp_path / "rows.txt", TEXTS), tmp_path / ".scored.staging"
    log = tmp_path / "hydra" / "predict.log"
    process = cola_training.place.start(*predict_command(source, tmp_path / "scored", SIX_CHUNKS))
    try:
        wait_for(lambda: done_chunks(staging), process)
        while CRASHED not in log.read_text():
            before = len(done_chunks(staging))
            workers = python_workers(process.pid)
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.suspend()
            wait_for(lambda: is_writing(staging), process)
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.kill()
            wait_for(lambda: CRASHED in log.read_text() or len(done_chunks(staging)) > before, process)  # noqa: B023
        _, error = process.communicate(timeout=300)
    finally:
        end_group(process)
    assert process.returncode == 0, error
    check_rows(tmp_path / "scored", cola_training, TEXTS)


def test_python_workers_that_stop_answering_are_replaced(cola_training: Trained, tmp_path: Path) -> None:
    source, staging = write_lines(tmp_path / "rows.txt", TEXTS), tmp_path / ".scored.staging"
    command = [*predict_command(source, tmp_path / "scored", SIX_CHUNKS), "spark.worker_timeout=3"]
    process = cola_training.place.start(*command)
    stopped: list[psutil.Process] = []
    try:
        wait_for(lambda: done_chunks(staging), process)
        while len(done_chunks(staging)) < 5 and not stopped:
            for worker in python_workers(process.pid):
                with suppress(psutil.NoSuchProcess):
                    worker.suspend()
                    stopped.append(worker)
        _, error = process.communicate(timeout=300)
    finally:
        end_group(process)
    assert stopped
    assert process.returncode == 0, error
    check_rows(tmp_path / "scored", cola_training, TEXTS)


def test_output_is_complete_when_the_tracking_server_stops_answering_during_scoring(
    cola_training: Trained, tmp_path: Path
) -> None:
    place, source = cola_training.place, write_lines(tmp_path / "rows.txt", TEXTS)
    with serving(place, tmp_path / "server") as (url, server):
        command = predict_command(source, tmp_path / "scored", SIX_CHUNKS)
        hurry = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
        process = place.start(*command, MLFLOW_TRACKING_URI=url, **hurry)
        try:
            wait_for(lambda: done_chunks(tmp_path / ".scored.staging"), process)
            os.killpg(server.pid, signal.SIGSTOP)
            _, error = process.communicate(timeout=300)
        finally:
            end_group(process)
    assert process.returncode == 1
    assert error.count("\n") == 1, error
    assert str(tmp_path / "scored") in error and "MLflow" in error and url.removeprefix("http://") in error
    check_rows(tmp_path / "scored", cola_training, TEXTS)
