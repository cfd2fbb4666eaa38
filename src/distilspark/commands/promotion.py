"""Challenger against champion, and what becomes of the aliases: the story of `promote`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow

from distilspark.commands.labelled import read_evaluation_set
from distilspark.config import PromoteConfig
from distilspark.console import say, working
from distilspark.errors import UserError
from distilspark.evaluation.examples import example_table
from distilspark.evaluation.intervals import bootstrap_intervals
from distilspark.evaluation.metrics import baseline_outputs, compute_metrics
from distilspark.evaluation.predictions import Predictions
from distilspark.scoring.contenders import (
    Contender,
    check_dataset,
    check_overlap,
    load_contender,
    score_of,
    weigh,
)
from distilspark.scoring.gate import Verdict, judge, judge_without_champion
from distilspark.scoring.package import predictions_of
from distilspark.tracking.aliases import CHALLENGER, CHAMPION, PREVIOUS, Aliases, move_aliases, read_aliases
from distilspark.tracking.registry import ROLLED_BACK, check_not_rolled_back, record_verdict
from distilspark.tracking.results import log_tables
from distilspark.tracking.runs import active_run_id, timed

Said = tuple[Contender, Predictions]


def promote(config: PromoteConfig, folder: Path) -> bool:
    """Whether the challenger is the champion at the end; `folder` takes files on their way."""
    name = config.registry.name
    seen = read_aliases(name)
    if CHALLENGER not in seen:
        raise UserError(f"{name} has no @{CHALLENGER}. Train one (`python -m distilspark train`), or set the alias")
    version = seen[CHALLENGER]
    if version == seen.get(CHAMPION):
        return _already(version)
    check_not_rolled_back(name, version)
    with tempfile.TemporaryDirectory(prefix="distilspark-models-") as scratch:
        contenders = load_contenders(config, seen, Path(scratch))
        said = score(config, contenders, folder)
        with timed("gate"), working("weighing one against the other"):
            verdict = decide(config, said)
    if verdict.promoted:
        move_aliases(name, seen, moves_of(seen))
    record(config, version, verdict)
    return verdict.promoted


def _already(version: str) -> bool:
    mlflow.set_tag("gate.verdict", "champion already")
    say(f"version {version} is the champion already: nothing is to be promoted")
    return True


def moves_of(seen: Aliases) -> Aliases:
    """A crash between the two leaves the old champion in office, and findable."""
    before = {PREVIOUS: seen[CHAMPION]} if CHAMPION in seen else {}
    return {**before, CHAMPION: seen[CHALLENGER]}


def load_contenders(config: PromoteConfig, seen: Aliases, scratch: Path) -> list[Contender]:
    """The challenger, after the champion where there is one."""
    with working("fetching the models"):
        versions = [seen[alias] for alias in (CHAMPION, CHALLENGER) if alias in seen]
        contenders = [load_contender(config.registry.name, version, config.task, scratch) for version in versions]
    roles = (CHAMPION, CHALLENGER)[-len(contenders) :]
    mlflow.set_tags({f"model.{role}": each.found.uri for role, each in zip(roles, contenders, strict=True)})
    return contenders


def score(config: PromoteConfig, contenders: list[Contender], folder: Path) -> list[Said]:
    """What each says about dev, once it is sure that they may be compared on it."""
    with timed("data"), working("reading and checking the data in Spark"):
        dev = read_evaluation_set(config.task, config.data, config.spark, folder)
    for each in contenders:
        check_dataset(each, dev.digest)
    for each in contenders:
        known = check_overlap(each, dev.rows, config.promote.max_overlap)
        mlflow.log_metric(f"data/overlap_version_{each.version}", known)
        if known:
            say(f"version {each.version} has seen {known} of these {len(dev.rows)} rows in training")
    with timed("predict", rows=len(dev.rows) * len(contenders)), working("scoring"):
        said = [(each, predictions_of(each.found.data, config.task, dev.rows)) for each in contenders]
    for each, predictions in said:
        table = example_table(config.task, predictions, config.evaluation.examples)
        log_tables({"examples": table}, f"version_{each.version}")
    return said


def decide(config: PromoteConfig, said: list[Said]) -> Verdict:
    """The gate's verdict; where there is no champion, the best constant answer stands in for it."""
    if len(said) == 2:
        return judge(weigh(config, *said), config.promote)
    task, predictions, settings = config.task, said[0][1], config.evaluation
    labels, outputs = predictions.labels, predictions.outputs
    intervals = bootstrap_intervals(
        task.head,
        labels,
        outputs,
        confidence=settings.confidence,
        resamples=settings.resamples,
        seed=config.data.seed,
    )
    constant = baseline_outputs(task.head, labels, len(labels), len(task.labels))
    baseline = compute_metrics(task.head, labels, constant)[task.metric]
    return judge_without_champion(task.metric, intervals[task.metric], score_of(task, predictions), baseline)


def record(config: PromoteConfig, version: str, verdict: Verdict) -> None:
    """Tell the person, the run and the version."""
    decided = "promoted" if verdict.promoted else "not promoted"
    mlflow.log_metrics({f"gate/{key}": value for key, value in verdict.numbers.items()})
    mlflow.log_dict({"verdict": decided, "reason": verdict.reason, **verdict.numbers}, "verdict.json")
    tell(config, version, decided, verdict.reason, verdict.numbers)


def tell(config: PromoteConfig, version: str, decided: str, reason: str, numbers: Mapping[str, float]) -> None:
    """What was decided about a version, in the run's tags and description, on the version, and on the terminal."""
    mlflow.set_tags({"gate.verdict": decided, "gate.reason": reason})
    mlflow.set_tag("mlflow.note.content", f"Version {version} is **{decided}**: {reason}.")
    record_verdict(config.registry.name, version, decided, reason, active_run_id(), numbers)
    say(f"version {version} is {decided}: {reason}")


def roll_back(config: PromoteConfig) -> bool:
    """Give the previous champion its place back; the one that had it becomes the previous, so this can be undone."""
    name = config.registry.name
    seen = read_aliases(name)
    if not {CHAMPION, PREVIOUS} <= seen.keys():
        raise UserError(f"{name} has no @{PREVIOUS} to go back to. Set @{CHAMPION} yourself, in the UI or with MLflow")
    out, back = seen[CHAMPION], seen[PREVIOUS]
    move_aliases(name, seen, {CHAMPION: back, PREVIOUS: out})
    tell(config, out, ROLLED_BACK, f"version {back} is the champion again", {})
    return True
