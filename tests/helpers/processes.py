"""Commands as a user starts them: in separate processes, with their own store, cache and folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlflow import MlflowClient
from mlflow.entities import Run

from distilspark.paths import ROOT

TINY = (
    "model=tiny",
    "data=sample",
    "data.sample_rows.train=300",
    "data.sample_rows.dev=100",
    "scoring.precision=float32",
    "spark.master=local[2]",
    "spark.driver_memory=1g",
    "spark.shuffle_partitions=2",
)
INHERITED = ("MLFLOW_", "HYDRA_", "TF_CONFIG", "SPARK_", "PYSPARK_")


@dataclass(frozen=True)
class Place:
    """A working folder for processes, and the MLflow store that they share."""

    folder: Path

    @property
    def store(self) -> str:
        """The tracking URI."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def keys(self) -> Path:
        """The folder for keys, created on first use."""
        folder = self.folder / "keys"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def environment(self) -> dict[str, str]:
        """The caller's environment without variables of other runs, and with the hub offline."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(INHERITED)}
        own = {
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "SPARK_CONF_DIR": str(ROOT / "tests/spark"),
            "DISTILSPARK_CACHE": str(self.folder / "cache"),
            "MLFLOW_TRACKING_URI": self.store,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HF_HUB_OFFLINE": "1",
        }
        return kept | own

    @property
    def client(self) -> MlflowClient:
        """A client of the store."""
        return MlflowClient(tracking_uri=self.store)

    def runs(self, experiment: str) -> list[Run]:
        """Return all runs of an experiment, the newest first."""
        found = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([found.experiment_id])) if found else []

    def start(
        self, *command: str, output: int | IO[bytes] = subprocess.PIPE, **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command in its own process group; `output` receives stdout and stderr."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_ctrl_c,
        )

    def run(self, *command: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*command, **environment)
        try:
            output, error = process.communicate(timeout=timeout)
        finally:
            end_group(process)
        return subprocess.CompletedProcess(command, process.returncode, output, error)

    def python(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python code."""
        return self.run(sys.executable, "-c", code, *arguments, **environment)

    def train(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Train the tiny model on a tiny corpus."""
        return self.run(*train_command(*overrides))

    def artifact(self, run: Run, path: str) -> Path:
        """Download a run's artifact and return its path."""
        return Path(self.client.download_artifacts(run.info.run_id, path))

    def artifacts(self, run: Run, folder: str | None = None) -> list[str]:
        """Return the paths of all artifacts of a run."""
        found: list[str] = []
        for item in self.client.list_artifacts(run.info.run_id, folder):
            found += self.artifacts(run, item.path) if item.is_dir else [item.path]
        return found


def _heed_ctrl_c() -> None:
    """Restore the default handler of SIGINT; a shell's background jobs inherit an ignored one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def train_command(*overrides: str, tiny: Sequence[str] = TINY) -> list[str]:
    """Return the command of a tiny `train`."""
    return [sys.executable, "-m", "distilspark", "train", *tiny, *overrides]


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill the rest of a process group that `Place.start` started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
