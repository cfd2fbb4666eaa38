"""A finished training with its run and output."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run

from helpers.processes import Place


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    place: Place
    run: Run
    ended: subprocess.CompletedProcess[str]
    output: Path  # Hydra's folder

    def artifact(self, path: str) -> Path:
        """Download an artifact and return its path."""
        return self.place.artifact(self.run, path)

    @property
    def model_uri(self) -> str:
        """The URI of the logged model."""
        of_run = f"source_run_id = '{self.run.info.run_id}'"
        (logged,) = self.place.client.search_logged_models([self.run.info.experiment_id], of_run)
        return str(logged.model_uri)

    @property
    def package(self) -> Path:
        """The folder of the logged model."""
        logged = self.place.client.get_logged_model(self.model_uri.rpartition("/")[2])
        return Path(logged.artifact_location.removeprefix("file://"))
