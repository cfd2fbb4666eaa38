"""A multirun of `train` as one sweep: its jobs are child runs of one parent, and the best is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from omegaconf import DictConfig, OmegaConf

from distilspark.config import TrainConfig, flatten, from_hydra
from distilspark.console import log_to_stderr, new_log, output_to, print_line, show_table, standard_output
from distilspark.corpus.sample import check_pretraining, check_unlabelled
from distilspark.errors import UserError, WorkError, wrap_unexpected
from distilspark.metrics import Metric
from distilspark.preflight import check_machine
from distilspark.tracking.registry import register_run
from distilspark.tracking.results import log_tables
from distilspark.tracking.runs import log_settings, open_run, print_run_link
from distilspark.tracking.signatures import check_signing_key
from distilspark.tracking.store import check_store
from distilspark.tracking.sweeps import (
    Sweep,
    best_run,
    children,
    finished,
    lock_sweep,
    mark_killed,
    move_finished_jobs,
    own_overrides,
    sweep_identity,
    variant_of,
)
from distilspark.tracking.views import save_experiment_view, save_sweep_view
from distilspark.workflows.compare import CostSettings, report_sweep
from distilspark.workflows.composition import with_model

Overrides = list[str]


@dataclass(frozen=True)
class SweepPlan:
    """The jobs that a sweeper reads from the command line.

    Attributes:
        shared: the overrides that all jobs have.
        varied: the keys in which they differ.
        size: the number of jobs.
        samples: own overrides of enough jobs that all jobs are valid if these are.
        is_complete: whether `samples` has all jobs.
        batches: takes a function that returns the finished children, and the task's metric; yields the own overrides
            of the jobs to launch next.
        settings: further settings that identify the sweep when it is started again.

    """

    shared: Overrides
    varied: tuple[str, ...]
    size: int
    samples: Sequence[Overrides]
    is_complete: bool
    batches: Callable[[Callable[[], list[Run]], Metric], Iterator[Sequence[Overrides]]]
    settings: Mapping[str, Any]

    def label(self, own: Overrides) -> str:
        """Return the `sweep.job` of a job with these overrides."""
        return " ".join(own_overrides(own, self.varied))


@dataclass(frozen=True)
class Hydra:
    """The parts of Hydra that a sweep uses."""

    config: DictConfig  # with everything but the jobs' own overrides
    compose: Callable[[Overrides], DictConfig]
    launch: Callable[[Sequence[Overrides], int], Sequence[Any]]  # overrides, number of the first; the jobs' JobReturns


def run_sweep(hydra: Hydra, plan: SweepPlan, *, resume: bool) -> None:
    """Check all jobs, then launch those that are missing, as children of one run.

    Raises:
        UserError: a job's config is invalid; nothing was launched.
        WorkError: jobs failed; the message names them. The others have finished.

    """
    check_machine()
    shared = plan.shared if "model" in plan.varied else with_model(hydra.config, plan.shared, hydra.compose)
    configs = [from_hydra(TrainConfig, _without_hydra(hydra.compose([*shared, *own]))) for own in plan.samples]
    check_tasks(configs)
    check_signing_key(configs[0].registry)
    sweep = describe_sweep(hydra, plan, shared)
    log = Path(hydra.config.hydra.sweep.dir).absolute() / "sweep.log"
    new_log(log)
    with output_to(log) as terminal:
        log_to_stderr()
        try:
            check_store()
            with lock_sweep(sweep), open_parent(sweep, configs, log) as parent:
                mlflow.set_tag("sweep.baseline", " ".join(variant_of(own_overrides(plan.samples[0], plan.varied))))
                wanted = {plan.label(own) for own in plan.samples} if plan.is_complete else None
                done = move_finished_jobs(parent, sweep.identity, plan.size, wanted) if resume else []
                print_line(
                    f"{configs[0].task.title}: {sweep.name}, {plan.size} jobs, {len(done)} of them finished earlier"
                )
                metric = configs[0].task.headline
                batches = plan.batches(lambda: finished(children(parent)), metric)
                failures = launch_missing(hydra, plan.label, batches, shared, parent, terminal)
                report_jobs(parent, metric, configs[0].registry.signing_key)
                cost_settings = CostSettings(configs[0].gate, configs[0].registry)
                report_sweep(parent, configs[0].evaluation, log.parent / "comparison", cost_settings)
                print_run_link(parent, save_views(parent, metric))
                if failures:
                    raise WorkError("\n- ".join([f"{len(failures)} of {plan.size} jobs failed", *failures]))
        except Exception as error:
            raise wrap_unexpected(error, log) from error


def _without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def check_tasks(configs: Sequence[TrainConfig]) -> None:
    """Raise `UserError` if tasks or metrics differ, or if a task lacks the generated rows that a job needs."""
    for config in configs:
        check_pretraining(config.task.name, config.training.pretraining.rows)
        check_unlabelled(config.task.name, config.data.unlabelled)
    for key in ("name", "metric"):
        if len(values := sorted({getattr(config.task, key) for config in configs})) > 1:
            key = "task" if key == "name" else "task.metric"
            one_each = "Start one for each, or take hydra/sweeper=basic"
            raise UserError(f"{key}={','.join(values)}: a sweep compares runs of one {key}. {one_each}")


def describe_sweep(hydra: Hydra, plan: SweepPlan, shared: Overrides) -> Sweep:
    """Name and identify the sweep."""
    chosen = hydra.config.hydra.runtime.choices.get("experiment") or "+".join(plan.varied) or "one job"
    name = chosen if isinstance(chosen, str) else "+".join(chosen)
    composed = OmegaConf.to_container(_without_hydra(hydra.compose(shared)), resolve=True)
    return Sweep(name, plan.varied, sweep_identity(name, plan.varied, {**flatten(composed), **plan.settings}))


@contextmanager
def open_parent(sweep: Sweep, configs: Sequence[TrainConfig], log: Path) -> Iterator[mlflow.ActiveRun]:
    """Open the sweep's run, with its tags and the settings that all jobs share."""
    task, model = configs[0].task.name, configs[0].model.name
    with open_run(f"distilspark-{task}", f"{task} {model} {sweep.name}", log) as parent:
        mlflow.set_tags(sweep.tags | {"task": task, "model.checkpoint": model})
        first, *others = map(flatten, configs)
        log_settings(parent, {key: value for key, value in first.items() if all(value == each[key] for each in others)})
        yield parent


def launch_missing(
    hydra: Hydra,
    label: Callable[[Overrides], str],
    batches: Iterator[Sequence[Overrides]],
    shared: Overrides,
    parent: Run,
    terminal: int,
) -> list[str]:
    """Launch the jobs that have no finished child, with the terminal as their output; return failures with reasons."""
    failures: list[str] = []
    launched = 0
    try:
        for batch in batches:
            done = {run.data.tags["sweep.job"] for run in finished(children(parent))}
            missing = [own for own in batch if label(own) not in done]
            jobs = [[*shared, *own, f"hydra.sweeper.parent={parent.info.run_id}"] for own in missing]
            with standard_output(terminal):
                ended = hydra.launch(jobs, launched) if jobs else []
            log_to_stderr()  # again: launchers and jobs configure logging
            launched += len(jobs)
            outcomes = [(label(own), job.return_value) for own, job in zip(missing, ended, strict=True)]
            failures += [f"{name}: {failure}" for name, failure in outcomes if failure]
    finally:
        mark_killed(children(parent))  # an interrupted launcher leaves them running
    return failures


def report_jobs(parent: Run, metric: Metric, signing_key: str | None) -> None:
    """Show the children in a table, and register the one that is best on the validation split."""
    runs = sorted(children(parent), key=lambda run: str(run.data.tags.get("sweep.job")))
    dev = f"dev/{metric.name}"
    columns = ("job", "status", f"val/kept_{metric.name}", dev, f"{dev}_low", f"{dev}_high")
    rows = [(run.data.tags.get("sweep.job", ""), run.info.status, *_figures(run, columns[2:])) for run in runs]
    show_table("Jobs", columns[:4], [row[:4] for row in rows])
    log_tables({"jobs": pd.DataFrame(rows, columns=list(columns))}, "sweep")
    if done := finished(runs):
        best = best_run(done, metric)
        mlflow.set_tag("sweep.best", best.info.run_id)
        name = best.data.params["registry.name"]
        version, aliases = register_run(best.info.run_id, name, metric, signing_key)
        print_line(
            f"registered {name} version {version} (@{', @'.join(aliases)}): {best.info.run_name}, best on validation"
        )


def save_views(parent: Run, metric: Metric) -> str:
    """Save the UI's views, and link the sweep's in its description, below the finding; return the link."""
    save_experiment_view(parent.info.experiment_id, metric)
    run = mlflow.get_run(parent.info.run_id)  # with the tags that it has by now
    page = save_sweep_view(run, finished(children(run)), metric)
    answer, _, more = run.data.tags.get("mlflow.note.content", "").partition("\n\n")
    link = f"[The jobs side by side]({page}): columns, charts, images"
    mlflow.set_tag("mlflow.note.content", "\n\n".join(filter(None, (answer, link, more))))
    return page


def _figures(run: Run, names: Sequence[str]) -> list[str]:
    return [f"{run.data.metrics[name]:.4f}" if name in run.data.metrics else "" for name in names]
