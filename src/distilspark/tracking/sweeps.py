"""Sweeps in MLflow: a parent run, a child for each job, and the tags that identify them.

On the parent: `sweep.id`, `sweep.name`, `sweep.parent` (`true`), `sweep.varied` (JSON list of keys), `sweep.baseline`
(the variant that comes first). On a child: `sweep.id`, `sweep.name`, `sweep.variant` (the job's own overrides without
the seed), `sweep.job` (all its own).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from distilspark.cache import cache_root
from distilspark.errors import UserError
from distilspark.metrics import Metric
from distilspark.training.checkpoint.store import relevant_settings

SEED = "training.seed"
FINISHED, KILLED, RUNNING = "FINISHED", "KILLED", "RUNNING"


@dataclass(frozen=True)
class Sweep:
    """The identity of a sweep, which stays the same when it is started again."""

    name: str  # the experiment's, e.g. class_weights
    varied: tuple[str, ...]  # the keys in which its jobs differ
    identity: str

    @property
    def tags(self) -> dict[str, str]:
        """The parent run's tags."""
        own = {"id": self.identity, "name": self.name, "parent": "true", "varied": json.dumps(self.varied)}
        return {f"sweep.{key}": value for key, value in own.items()}


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep."""

    parent: Run
    overrides: tuple[str, ...]  # its own, sorted

    @property
    def variant(self) -> tuple[str, ...]:
        """The own overrides without the seed; jobs that differ only in the seed repeat one another."""
        return variant_of(self.overrides)

    @property
    def name(self) -> str:
        """A readable name: `class_weights=balanced seed 1`."""
        seed = [f"seed {override.partition('=')[2]}" for override in self.overrides if key_of(override) == SEED]
        return " ".join([*map(_short, self.variant), *seed])

    @property
    def tags(self) -> dict[str, str]:
        """The child run's tags."""
        kept = {key: self.parent.data.tags[key] for key in ("sweep.id", "sweep.name")}
        return kept | {"sweep.variant": " ".join(self.variant), "sweep.job": " ".join(self.overrides)}


def variant_of(own: Iterable[str]) -> tuple[str, ...]:
    """Return a job's own overrides without the seed."""
    return tuple(override for override in own if key_of(override) != SEED)


def _short(override: str) -> str:
    """Return an override with the last part of its key.

    >>> _short("training.learning_rate=1e-05"), _short("model.path=/a.b/c")
    ('learning_rate=1e-05', 'path=/a.b/c')
    """
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={unescape(value)}"


def unescape(value: str) -> str:
    r"""Return an override's value without the backslashes that Hydra's grid puts before its own characters.

    >>> unescape(r"models\:/a@b")
    'models:/a@b'
    """
    return re.sub(r"\\(.)", r"\1", value)


def key_of(override: str) -> str:
    """Return the key of a Hydra override.

    >>> key_of("+spark.settings.a=1"), key_of("model=tiny")
    ('spark.settings.a', 'model')
    """
    return override.partition("=")[0].lstrip("+")


def own_overrides(overrides: Iterable[str], varied: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides in which a job differs from others, sorted.

    >>> own_overrides(["training.seed=1", "task=cola", "+a.b=2"], ["a.b", "training.seed"])
    ('a.b=2', 'training.seed=1')
    """
    return tuple(sorted(override.lstrip("+") for override in overrides if key_of(override) in varied))


def find_job(parent: str | None, overrides: Iterable[str]) -> SweepJob | None:
    """Return the job with these overrides below the run with this id; None if there is no parent."""
    if parent is None:
        return None
    run = mlflow.get_run(parent)
    return SweepJob(run, own_overrides(overrides, json.loads(run.data.tags["sweep.varied"])))


def sweep_identity(name: str, varied: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Return 12 hex digits: a hash of the settings that the jobs share and their weights depend on.

    Varied values are left out, so that a sweep can be resumed with more seeds.
    """
    shared = relevant_settings({key: value for key, value in settings.items() if key not in varied})
    text = json.dumps([name, sorted(varied), shared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def lock_sweep(sweep: Sweep) -> Iterator[None]:
    """Raise `UserError` if another process on this machine runs the same sweep in the same store."""
    place = hashlib.sha256(f"{mlflow.get_tracking_uri()} {sweep.identity}".encode()).hexdigest()[:16]
    file = cache_root() / "sweeps" / f"{place}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"the sweep {sweep.name} ({sweep.identity}) is already running: wait for it, or stop it"
        ) from error


def children(parent: Run) -> list[Run]:
    """Return all children of a run, by start time."""
    return _search(parent, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'")


def finished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs whose status is FINISHED."""
    return [run for run in runs if run.info.status == FINISHED]


def move_finished_jobs(parent: Run, identity: str, size: int, wanted: Container[str] | None) -> list[Run]:
    """Move the finished children of the sweep's earlier attempts to `parent`.

    A finished attempt keeps its children, unless it has fewer than `size` finished jobs: this one resumes it.

    Args:
        parent: the run of this attempt.
        identity: the sweep's.
        size: the number of jobs.
        wanted: the `sweep.job` of each; None takes all.

    Returns:
        all children of the parent.

    """
    attempts = _search(parent, f"tags.`sweep.id` = '{identity}' AND tags.`sweep.parent` = 'true'")
    for attempt in attempts:
        its_own = children(attempt)
        is_whole = attempt.info.status == FINISHED and len(finished(its_own)) >= size
        if attempt.info.run_id != parent.info.run_id and not is_whole:
            mark_killed([attempt, *its_own])
            _move([run for run in finished(its_own) if wanted is None or run.data.tags["sweep.job"] in wanted], parent)
            mlflow.MlflowClient().set_tag(attempt.info.run_id, "sweep.continued_by", parent.info.run_id)
    return children(parent)


def _move(runs: Iterable[Run], parent: Run) -> None:
    for run in runs:
        mlflow.MlflowClient().set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent.info.run_id)


def mark_killed(runs: Iterable[Run]) -> None:
    """Set runs that are still RUNNING, although their process is gone, to KILLED."""
    for run in runs:
        if run.info.status == RUNNING:
            mlflow.MlflowClient().set_terminated(run.info.run_id, KILLED)


def best_run(runs: Iterable[Run], metric: Metric) -> Run:
    """Return the run with the best `kept_metric`; of several, the first."""
    return metric.best(runs, lambda run: kept_metric(run, metric))


def kept_metric(run: Run, metric: Metric) -> float:
    """Return the metric on the validation split of the kept epoch: never dev's."""
    return float(run.data.metrics[f"val/kept_{metric.name}"])


def _search(beside: Run, condition: str) -> list[Run]:
    found: Any = mlflow.search_runs(
        [beside.info.experiment_id], condition, order_by=["attributes.start_time ASC"], output_format="list"
    )
    return list(found)
