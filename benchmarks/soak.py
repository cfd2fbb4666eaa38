"""Kill (SIGKILL) a scoring, a stream and a training at random moments, in a loop; restart each until it is done.

`make soak MINUTES=30` runs it with a tiny random model. After each job it checks that every row is in the output once,
that the weights equal those of an uninterrupted training, that one run is finished, and that no files are left over.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from distilspark.console import progress_bar
from distilspark.paths import ROOT
from results_file import machine, write_results

FILES = 10  # files of a stream
MOST_KILLS = 3  # kills of one job
SPARK = ("spark.master=local[2]", "spark.driver_memory=1g", "spark.shuffle_partitions=2")
TRAINING = (
    *("task=cola", "model=tiny", "data=sample", "data.sample_rows.train=2000", "data.sample_rows.dev=200"),
    *("scoring.precision=float32", "training.epochs=4", "training.early_stopping.patience=4", "training.batch_size=8"),
    "training.checkpoint_every=20 steps",
)
INHERITED = ("MLFLOW_", "HYDRA_", "SPARK_", "PYSPARK_")


@dataclass
class Soak:
    """A store, a model and an input; `tally` counts what happened to each kind of job."""

    folder: Path
    rows: int
    chance: random.Random
    tally: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of an uninterrupted job
    weights: str = ""  # the sha256 of the uninterrupted training's weights
    number: int = 0

    @property
    def client(self) -> MlflowClient:
        """A client of the store."""
        return MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in its own process group."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(INHERITED)}
        own = {
            "PYTHONPATH": str(ROOT / "src"),
            "DISTILSPARK_CACHE": str(self.folder / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(self.folder / "tmp"),
        }
        command = [sys.executable, "-m", "distilspark", *arguments, *SPARK, f"hydra.run.dir={self.folder}/hydra"]
        with (self.folder / "output.log").open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=kept | own, stdout=log, stderr=log, text=True, start_new_session=True
            )

    def run(self, kind: str, *arguments: str) -> None:
        """Run a command to its end, with up to `MOST_KILLS` kills on the way.

        Raises:
            RuntimeError: the command fails without being killed.

        """
        tally, kills = self.tally.setdefault(kind, Counter()), self.chance.randint(1, MOST_KILLS)
        known = self.seconds.get(kind)
        while True:
            process, started = self.start(*arguments), time.monotonic()
            try:
                process.wait(self.chance.uniform(0, known) if known and kills else 1200)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                tally["kills"] += 1
                kills -= 1
                continue
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            said = (self.folder / "output.log").read_text()
            if process.returncode == 2 and "already exists" in said:  # killed after publication and clean-up
                tally["were_published_already"] += 1
            elif process.returncode:
                raise RuntimeError(f"{kind} ended with {process.returncode}: {said}")
            break
        self.seconds.setdefault(kind, time.monotonic() - started)
        tally["jobs"] += 1

    def score(self) -> None:
        """Score all rows as one job."""
        self._score("scoring", self.folder / "rows")

    def stream(self) -> None:
        """Score all rows as a stream, two files at a time."""
        settings = ("predict.streaming=true", "predict.available_now=true", "predict.files_per_batch=2")
        self._score("stream", self.folder / "rows", *settings)

    def _score(self, kind: str, source: Path, *settings: str) -> None:
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        model = "model_uri=models:/distilspark-cola/1"
        self.run(kind, "predict", model, f"input={source}", f"output={place}/scored", *settings)
        found, tally = pd.read_parquet(place / "scored")["sentence1"], self.tally[kind]
        tally["rows"] += len(found)
        tally["rows_doubled"] += len(found) - found.nunique()
        tally["rows_lost"] += self.rows - found.nunique()
        allowed = {"scored", ".scored.staging.lock"} if tally["were_published_already"] else {"scored"}
        tally["files_left"] += len({file.name for file in place.iterdir()} - allowed)
        self._count_running(kind, "distilspark-cola-scoring")

    def train(self) -> None:
        """Train; the first training is uninterrupted and registers the model for scoring."""
        name = f"soak-{self.number}" if self.number else "distilspark-cola"
        self.run("training", "train", *TRAINING, f"registry.name={name}")
        tally, experiment = self.tally["training"], self.client.get_experiment_by_name("distilspark-cola")
        assert experiment
        runs = self.client.search_runs([experiment.experiment_id], f"params.`registry.name` = '{name}'")
        finished = [run for run in runs if run.info.status == "FINISHED"]
        weights = {run.data.tags["model.weights_sha256"] for run in finished}
        self.weights = self.weights or weights.copy().pop()
        tally["finished_runs_more_than_one"] += len(finished) - 1
        tally["versions_more_than_one"] += len(self.client.search_model_versions(f"name = '{name}'")) - 1
        tally["weights_changed"] += len(weights - {self.weights})
        tally["files_left"] += len(list((self.folder / "cache" / "training").glob("*")))
        self._count_running("training", "distilspark-cola")

    def _count_running(self, kind: str, experiment: str) -> None:
        found = self.client.get_experiment_by_name(experiment)
        runs = self.client.search_runs([found.experiment_id], "attributes.status = 'RUNNING'") if found else []
        self.tally[kind]["runs_left_running"] = len(runs)


def main() -> int:
    """Repeat the jobs with kills until the time is up, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rows", type=int, default=200_000, help="that each scoring and each stream has")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    chosen = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="distilspark-soak-") as folder:
        soak = Soak(Path(folder), chosen.rows, random.Random(chosen.seed))
        (soak.folder / "tmp").mkdir()
        write_rows(soak.folder / "rows", chosen.rows)
        for _ in minutes(chosen.minutes):
            for job in (soak.train, soak.score, soak.stream):
                job()
            soak.number += 1
    bad = ("rows_lost", "rows_doubled", "weights_changed", "finished_runs_more_than_one", "files_left")
    figures: dict[str, Any] = {
        "rows": chosen.rows,
        "seed": chosen.seed,
        "rounds": soak.number,
        "seconds_uninterrupted": {kind: round(value, 1) for kind, value in soak.seconds.items()},
        "jobs": {kind: dict(sorted(tally.items())) for kind, tally in soak.tally.items()},
    }
    write_results("soak", {"machine": before, **figures})
    return int(any(tally[name] for tally in soak.tally.values() for name in bad))


def write_rows(folder: Path, rows: int) -> None:
    """Write files of distinct lines."""
    folder.mkdir()
    for file in range(FILES):
        lines = (f"The cat number {row} sleeps.\n" for row in range(file, rows, FILES))
        (folder / f"{file}.txt").write_text("".join(lines))


def minutes(limit: float) -> Iterator[None]:
    """Yield for this many minutes with a progress bar; at least twice, as the first round has no kills."""
    started, rounds = time.monotonic(), 0
    with progress_bar() as progress:
        bar = progress.add_task("minutes", total=round(limit))
        while rounds < 2 or time.monotonic() - started < limit * 60:
            yield
            rounds += 1
            progress.update(bar, completed=min(int((time.monotonic() - started) / 60), round(limit)))


if __name__ == "__main__":
    sys.exit(main())
