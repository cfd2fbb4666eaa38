"""`predict` as a user starts it, on rows that take a while, and what must come out."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities import Run

from distilspark.package.pyfunc import Scorer
from helpers.processes import Place
from helpers.trained import Trained

TEXTS = [f"The {'big ' * (number % 9)}cat number {number} sleeps." for number in range(2400)]
SIX_CHUNKS = "predict.rows_per_chunk=400"
SMALL = ("spark.master=local[2]", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
LATEST = "model_uri=models:/distilspark-${task.name}/latest"  # tiny models need not beat the baseline


def predict_command(source: Path, output: Path, *overrides: str) -> list[str]:
    """With Hydra's folder beside the output."""
    own = [f"input='{source}'", f"output='{output}'", LATEST, f"hydra.run.dir={output.parent / 'hydra'}"]
    return [sys.executable, "-m", "distilspark", "predict", *SMALL, *own, *overrides]


def predict(
    place: Place, source: Path, output: Path, *overrides: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Score to the end."""
    return place.run(*predict_command(source, output, *overrides), **environment)


def wait_for(found: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Until there is what is looked for; the process must live that long."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def done_chunks(staging: Path) -> list[Path]:
    """The marks of the chunks that are done."""
    return list(staging.glob("done/[0-9]*.json"))


def last_run(place: Place, task: str) -> Run:
    """The last scoring."""
    newest = place.runs(f"distilspark-{task}-scoring")[0]
    return place.client.get_run(newest.info.run_id)  # a search leaves the models among a run's inputs out


def write_lines(file: Path, lines: list[str]) -> Path:
    """A file that appears whole, as a stream asks for it."""
    partial = file.with_name(f".{file.name}")
    partial.write_text("".join(f"{line}\n" for line in lines))
    return partial.rename(file)


def check_rows(output: Path, trained: Trained, texts: list[str]) -> None:
    """Every row came out once, with what the model says about it."""
    rows = pd.read_parquet(output)
    assert sorted(rows["sentence1"]) == sorted(texts)
    assert (rows["error"] == "").all()
    expected = Scorer(trained.package / "data/scorer").predict(rows)
    assert rows["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(rows["score"], expected["score"], atol=1e-4)
