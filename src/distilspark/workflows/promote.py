"""`promote`: make the challenger the champion if it passes the gate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow

from distilspark.background_session import BackgroundSession, starting_session
from distilspark.config import PromoteConfig
from distilspark.console import print_line, working
from distilspark.errors import UserError
from distilspark.evaluation.bootstrap import mean_scores
from distilspark.evaluation.examples import example_table
from distilspark.evaluation.predictions import Predictions
from distilspark.package.build import predictions_of
from distilspark.promotion.evidence import Contender, check_dataset, check_overlap, gather_evidence, load_contender
from distilspark.promotion.gate import Verdict, judge_challenger, judge_first_champion
from distilspark.tracking.aliases import CHALLENGER, CHAMPION, PREVIOUS, Aliases, move_aliases, read_aliases
from distilspark.tracking.registry import ROLLED_BACK, check_not_rolled_back, record_verdict
from distilspark.tracking.results import log_tables
from distilspark.tracking.runs import active_run_id, timed
from distilspark.workflows.labelled import read_evaluation_set
from distilspark.workflows.runner import Context, Job, Outcome

ScoredContender = tuple[Contender, Predictions]


@contextmanager
def prepare(config: PromoteConfig, context: Context) -> Iterator[Job]:
    """Yield the promotion, or the rollback of one."""
    task, kind = config.task, "rollback" if config.promote.rollback else "promotion"

    def work() -> Outcome:
        is_champion = roll_back(config) if config.promote.rollback else promote(config, context.log.parent)
        refused = config.promote.require and not is_champion
        return Outcome(failure="the challenger is not promoted, and promote.require=true asks for it" * refused)

    yield Job(
        title=f"{task.title}: {kind} of {config.registry.name}",
        experiment=f"distilspark-{task.name}-promotion",
        run_name=f"{task.name} {kind}",
        work=work,
        tags={"task": task.name},
    )


def promote(config: PromoteConfig, folder: Path) -> bool:
    """Promote the challenger if it passes the gate; return whether it is champion. `folder`: for temporary files."""
    name = config.registry.name
    aliases = read_aliases(name)
    if CHALLENGER not in aliases:
        raise UserError(f"{name} has no @{CHALLENGER}. Train one (`python -m distilspark train`), or set the alias")
    version = aliases[CHALLENGER]
    if version == aliases.get(CHAMPION):
        return _keep_champion(version)
    check_not_rolled_back(name, version)
    with (
        starting_session(config.spark, f"distilspark-promote-{config.task.name}") as session,
        tempfile.TemporaryDirectory(prefix="distilspark-models-") as scratch,
    ):
        contenders = load_contenders(config, aliases, Path(scratch))
        scored = score_contenders(config, session, contenders, folder)
        with timed("gate"), working("comparing the models"):
            verdict = decide(config, scored)
    if verdict.promoted:
        move_aliases(name, aliases, alias_moves(aliases))
    log_verdict(config, version, verdict)
    return verdict.promoted


def _keep_champion(version: str) -> bool:
    mlflow.set_tag("gate.verdict", "champion already")
    print_line(f"version {version} is already the champion: there is nothing to promote")
    return True


def alias_moves(aliases: Aliases) -> Aliases:
    """Return a promotion's alias changes, ordered so that a crash between them keeps the old champion."""
    before = {PREVIOUS: aliases[CHAMPION]} if CHAMPION in aliases else {}
    return {**before, CHAMPION: aliases[CHALLENGER]}


def load_contenders(config: PromoteConfig, aliases: Aliases, scratch: Path) -> list[Contender]:
    """Fetch the champion, if there is one, and the challenger, in this order."""
    with working("fetching the models"):
        versions = [aliases[alias] for alias in (CHAMPION, CHALLENGER) if alias in aliases]
        contenders = [load_contender(config.registry, version, config.task, scratch) for version in versions]
    roles = (CHAMPION, CHALLENGER)[-len(contenders) :]
    mlflow.set_tags({f"model.{role}": each.found.uri for role, each in zip(roles, contenders, strict=True)})
    return contenders


def score_contenders(
    config: PromoteConfig, session: BackgroundSession, contenders: list[Contender], folder: Path
) -> list[ScoredContender]:
    """Score dev with each, after checking that they may be compared on it."""
    with timed("data"), working("reading and checking the data in Spark"):
        dev = read_evaluation_set(session.wait(), config.task, config.data, folder)
    session.stop()
    for each in contenders:
        check_dataset(each, dev.digest)
    for each in contenders:
        known = check_overlap(each, dev.rows, config.promote.max_overlap)
        mlflow.log_metric(f"data/overlap_version_{each.version}", known)
        if known:
            print_line(f"version {each.version} has seen {known} of these {len(dev.rows)} rows in training")
    with timed("predict", rows=len(dev.rows) * len(contenders)), working("scoring"):
        scored = [(each, predictions_of(each.found.data, config.task, dev.rows)) for each in contenders]
    for each, predictions in scored:
        table = example_table(config.task, predictions, config.evaluation.examples)
        log_tables({"examples": table}, f"version_{each.version}")
    return scored


def decide(config: PromoteConfig, scored: list[ScoredContender]) -> Verdict:
    """Return the gate's verdict; without a champion, compare with the best constant prediction."""
    if len(scored) == 2:
        return judge_challenger(gather_evidence(config, *scored), config.promote)
    task, head = config.task, config.task.head_kind
    labels, outputs = scored[0][1].labels, scored[0][1].outputs
    constant = head.baseline_outputs(labels, len(labels), len(task.labels))
    baseline = head.compute_metrics(labels, constant)[task.metric]
    score = mean_scores(head, labels, [outputs], config.evaluation)[task.metric]
    return judge_first_champion(task.headline, score, baseline)


def log_verdict(config: PromoteConfig, version: str, verdict: Verdict) -> None:
    """Write the verdict to the run and the version, and print it."""
    decision = "promoted" if verdict.promoted else "not promoted"
    mlflow.log_metrics({f"gate/{key}": value for key, value in verdict.numbers.items()})
    mlflow.log_dict({"verdict": decision, "reason": verdict.reason, **verdict.numbers}, "verdict.json")
    record_decision(config, version, decision, verdict.reason, verdict.numbers)


def record_decision(
    config: PromoteConfig, version: str, decision: str, reason: str, numbers: Mapping[str, float]
) -> None:
    """Write a decision to the run's tags and description and to the version, and print it."""
    mlflow.set_tags({"gate.verdict": decision, "gate.reason": reason})
    mlflow.set_tag("mlflow.note.content", f"Version {version} is **{decision}**: {reason}.")
    record_verdict(config.registry.name, version, decision, reason, active_run_id(), numbers)
    print_line(f"version {version} is {decision}: {reason}")


def roll_back(config: PromoteConfig) -> bool:
    """Swap the champion and the previous champion, so that a second rollback undoes the first."""
    name = config.registry.name
    aliases = read_aliases(name)
    if not {CHAMPION, PREVIOUS} <= aliases.keys():
        raise UserError(f"{name} has no @{PREVIOUS} to go back to. Set @{CHAMPION} yourself, in the UI or with MLflow")
    out, back = aliases[CHAMPION], aliases[PREVIOUS]
    move_aliases(name, aliases, {CHAMPION: back, PREVIOUS: out})
    record_decision(config, out, ROLLED_BACK, f"version {back} is the champion again", {})
    return True
