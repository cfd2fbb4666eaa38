"""`predict` as a user starts it, on rows that take a while to score, and checks of its output."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from mlflow.entities import Run

from distilspark.package.pyfunc import Scorer
from helpers.processes import Place
from helpers.trained import Trained

TEXTS = [f"The {'big ' * (number % 9)}cat number {number} sleeps." for number in range(2400)]
SIX_CHUNKS = "predict.rows_per_chunk=400"
SMALL = ("spark.master=local[2]", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
LATEST = "model_uri=models:/distilspark-${task.name}/latest"  # tiny models need not beat the baseline


def predict_command(source: Path, output: Path, *overrides: str) -> list[str]:
    """Return the command; Hydra's folder is beside the output."""
    own = [f"input='{source}'", f"output='{output}'", LATEST, f"hydra.run.dir={output.parent / 'hydra'}"]
    return [sys.executable, "-m", "distilspark", "predict", *SMALL, *own, *overrides]


def predict(
    place: Place, source: Path, output: Path, *overrides: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `predict` to its end."""
    return place.run(*predict_command(source, output, *overrides), **environment)


def wait_for(found: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Wait until `found()` is true; fail if the process ends before that."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def python_workers(jvm_or_driver: int) -> list[psutil.Process]:
    """Return the processes that Spark's Python daemons below a process forked; they share the daemon's command line."""
    python = {}
    for each in psutil.Process(jvm_or_driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # the process has ended
            if {"distilspark.scoring.worker_daemon", "pyspark.daemon"} & set(each.cmdline()):
                python[each.pid] = each, each.ppid()
    return [each for each, parent in python.values() if parent in python]


def done_chunks(staging: Path) -> list[Path]:
    """Return the marker files of the finished chunks."""
    return list(staging.glob("done/[0-9]*.json"))


def last_run(place: Place, task: str) -> Run:
    """Return the newest scoring run."""
    newest = place.runs(f"distilspark-{task}-scoring")[0]
    return place.client.get_run(newest.info.run_id)  # a search omits the models among a run's inputs


def write_lines(file: Path, lines: list[str]) -> Path:
    """Write a file and move it into place, so that a stream never sees part of it."""
    partial = file.with_name(f".{file.name}")
    partial.write_text("".join(f"{line}\n" for line in lines))
    return partial.rename(file)


def check_rows(output: Path, trained: Trained, texts: list[str]) -> None:
    """Check that every text is in the output once, with the model's prediction."""
    rows = pd.read_parquet(output)
    assert sorted(rows["sentence1"]) == sorted(texts)
    assert (rows["error"] == "").all()
    expected = Scorer(trained.package / "data/scorer").predict(rows)
    assert rows["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(rows["score"], expected["score"], atol=1e-4)
