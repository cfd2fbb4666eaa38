"""Variants side by side, from their runs to a report: written to a folder, and logged to a run."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import Run
from omegaconf import OmegaConf

from distilspark.config import CompareConfig, ComparisonConfig, from_hydra
from distilspark.console import say, show_table
from distilspark.evaluation.agreement import agreement, disagreements
from distilspark.evaluation.comparison_plots import comparison_plots
from distilspark.evaluation.findings import Findings, find, say_p
from distilspark.evaluation.findings_report import report, summary
from distilspark.paths import CONF
from distilspark.tracking.compared_runs import Compared, compared_models, compared_runs, compared_sweep
from distilspark.tracking.results import log_images, log_tables, write_figures

PREFIX = "comparison"


def read(config: CompareConfig) -> Compared:
    """What the caller wants compared."""
    if config.sweep:
        return compared_sweep(config.sweep)
    return compared_runs(config.runs) if config.runs else compared_models(config.models)


def run_name(compared: Compared) -> str:
    """What a comparison's run is called."""
    topic = compared.topic or f"{len(compared.variants)} variants"
    return f"{compared.task.name} compare {topic}"


def answer_sweep(parent: Run, folder: Path) -> str:
    """Write what a sweep found to the folder, log it to the sweep's parent run, which is active, and say it.

    Raises:
        UserError: as `compared_sweep`.

    """
    config = from_hydra(ComparisonConfig, OmegaConf.load(CONF / "compare.yaml").comparison)
    return compare(compared_sweep(parent.info.run_id), config, folder)


def compare(compared: Compared, config: ComparisonConfig, folder: Path) -> str:
    """Write what was found to the folder, log it to the active run, and say it; returns the sentence."""
    found = find(compared.task, compared.topic, compared.variants, config)
    tables = _tables(compared, found, config)
    figures = comparison_plots(found, compared.histories, tables["agreement"].set_index("variant"))
    folder.mkdir(parents=True, exist_ok=True)
    images = write_figures(figures, folder)
    text = report(found, tables, figures, compared.missing)
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    log_images(images, PREFIX)
    log_tables({name: table for name, table in tables.items() if len(table)}, PREFIX)
    mlflow.log_artifact(str(folder / "comparison.md"), PREFIX)
    mlflow.log_text(json.dumps({label: list(ids) for label, ids in compared.run_ids.items()}), f"{PREFIX}/runs.json")
    mlflow.set_tags({"mlflow.note.content": summary(found, compared.missing), "finding": found.sentence})
    _show(found, compared.missing)
    return found.sentence


def _tables(compared: Compared, found: Findings, config: ComparisonConfig) -> dict[str, pd.DataFrame]:
    agreed = agreement(compared.task.head, compared.variants)
    return {
        "differences": found.table(),
        "metrics": found.metrics_table(),
        "agreement": agreed.rename_axis("variant").reset_index(),
        "disagreements": disagreements(compared.task, compared.variants, config.examples),
        "settings": compared.settings,
    }


def _show(found: Findings, missing: str) -> None:
    against = {each.variant.label: each for each in found.against}
    rows = []
    for variant in found.variants:
        score, other = found.scores[variant.label][found.task.metric], against.get(variant.label)
        difference = f"{other.difference.value:+.4f}" if other else ""
        interval = f"{other.difference.low:+.4f} to {other.difference.high:+.4f}" if other else ""
        scored = (variant.label, str(len(variant.seeds)), f"{score.mean:.4f}", f"{score.low:.4f} to {score.high:.4f}")
        rows.append((*scored, difference, interval, say_p(other.p_value) if other else ""))
    interval = f"{found.confidence:.0%} interval"
    columns = ("variant", "seeds", found.task.metric, interval, "difference", interval, "p")
    show_table(f"{found.task.title}: {found.topic or 'comparison'}", columns, rows)
    say(found.sentence)
    if missing:
        say(missing)
