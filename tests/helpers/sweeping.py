"""Finished sweeps and their runs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from mlflow.entities import Run

from helpers.processes import Place

EXPERIMENT = "distilspark-cola"


@dataclass(frozen=True)
class Swept:
    """A finished sweep."""

    place: Place
    ended: subprocess.CompletedProcess[str]
    parent: Run

    @property
    def children(self) -> dict[str, Run]:
        """The parent's child runs by their `sweep.job`."""
        return {run.data.tags["sweep.job"]: run for run in children(self.place, self.parent)}


def children(place: Place, parent: Run) -> list[Run]:
    """Return a run's child runs."""
    condition = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return list(place.client.search_runs([parent.info.experiment_id], condition))


def parents(place: Place, registry: str, experiment: str = EXPERIMENT) -> list[Run]:
    """Return the sweeps with this `registry.name`, the newest first."""
    runs = [run for run in place.runs(experiment) if run.data.tags.get("sweep.parent") == "true"]
    return [run for run in runs if run.data.params.get("registry.name") == registry]
