"""`compare`: compare a sweep, runs or models; write the report to a folder and a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities import Run

from distilspark.config import CompareConfig, EvaluationConfig, GateConfig, TrustConfig
from distilspark.console import print_line, show_table, working
from distilspark.errors import UserError
from distilspark.evaluation.agreement import agreement, disagreements
from distilspark.evaluation.comparison_plots import comparison_plots, cost_plot
from distilspark.evaluation.findings import Findings, compare_variants, format_p
from distilspark.evaluation.findings_report import comparison_report, comparison_summary
from distilspark.package.load import load_task_model
from distilspark.promotion.costs import tabulate_costs
from distilspark.tracking.compared_runs import ComparisonInput, compared_models, compared_runs, compared_sweep
from distilspark.tracking.results import log_images, log_tables, write_figures
from distilspark.tracking.runs import logged_model
from distilspark.workflows.runner import Context, Job

ARTIFACT_FOLDER = "comparison"
SAME_SIZE = 1.01  # packages whose sizes differ by at most this factor share architecture and precision


@dataclass(frozen=True)
class CostSettings:
    """The settings of a comparison of speed and size."""

    gate: GateConfig
    trust: TrustConfig  # which models are loaded


@contextmanager
def prepare(config: CompareConfig, context: Context) -> Iterator[Job]:
    """Yield the comparison."""
    compared = read_input(config)
    folder = Path(config.output or context.log.parent)

    def work() -> None:
        report_comparison(compared, config.evaluation, folder, CostSettings(config.gate, config.registry))
        print_line(f"written to {folder / 'comparison.md'}")

    name = compared.topic or f"{len(compared.variants)} variants"
    yield Job(
        title=f"{compared.task.title}: {name}",
        experiment=f"distilspark-{compared.task.name}",
        run_name=f"{compared.task.name} compare {name}",
        work=work,
    )


def read_input(config: CompareConfig) -> ComparisonInput:
    """Read the sweep, runs or models to compare."""
    if config.sweep:
        return compared_sweep(config.sweep)
    return compared_runs(config.runs) if config.runs else compared_models(config.models, config.registry)


def report_sweep(parent: Run, config: EvaluationConfig, folder: Path, cost_settings: CostSettings | None = None) -> str:
    """Report on a sweep with `report_comparison`, in its parent run, which is active.

    Return the sentence. If the jobs cannot be compared, return the reason; the sweep does not fail.
    """
    try:
        return report_comparison(compared_sweep(parent.info.run_id), config, folder, cost_settings)
    except UserError as error:
        mlflow.set_tag("finding", f"nothing: {error}")
        print_line(f"not compared: {error}")
        return str(error)


def report_comparison(
    compared: ComparisonInput, config: EvaluationConfig, folder: Path, cost_settings: CostSettings | None = None
) -> str:
    """Write the findings to the folder, log them to the active run, and print them; return the sentence.

    With `cost_settings`, also report the costs of variants whose packages differ in size.
    """
    findings = compare_variants(compared.task, compared.topic, compared.variants, config)
    tables = _tables(compared, findings, config)
    figures = comparison_plots(findings, compared.histories, tables["agreement"].set_index("variant"))
    costs = _measure_costs(compared, findings, config, cost_settings) if cost_settings else None
    if costs is not None:
        tables["costs"], figures["costs"] = costs, cost_plot(findings, costs)
    folder.mkdir(parents=True, exist_ok=True)
    images = write_figures(figures, folder)
    text = comparison_report(findings, tables, figures, compared.missing)
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    log_images(images, ARTIFACT_FOLDER)
    log_tables({name: table for name, table in tables.items() if len(table)}, ARTIFACT_FOLDER)
    mlflow.log_artifact(str(folder / "comparison.md"), ARTIFACT_FOLDER)
    run_ids = {label: list(ids) for label, ids in compared.run_ids.items()}
    mlflow.log_text(json.dumps(run_ids), f"{ARTIFACT_FOLDER}/runs.json")
    mlflow.set_tags(
        {"mlflow.note.content": comparison_summary(findings, compared.missing), "finding": findings.sentence}
    )
    _show(findings, compared.missing)
    if costs is not None:
        _show_costs(findings, costs)
    return findings.sentence


def _measure_costs(
    compared: ComparisonInput, findings: Findings, config: EvaluationConfig, cost_settings: CostSettings
) -> pd.DataFrame | None:
    """Tabulate the costs of each variant's first package; None if the sizes are equal or a package is missing."""
    runs = {label: mlflow.get_run(ids[0]) for label, ids in compared.run_ids.items()}
    sizes = [run.data.metrics.get("package/bytes", 0.0) for run in runs.values()]
    if min(sizes) == 0 or max(sizes) < SAME_SIZE * min(sizes):
        return None
    try:
        with TemporaryDirectory(prefix="distilspark-models-") as scratch, working("timing the packages"):
            packages = {}
            for number, (label, run) in enumerate(runs.items()):
                own = Path(scratch) / str(number)
                own.mkdir()
                packages[label] = load_task_model(logged_model(run), compared.task, own, cost_settings.trust).found.data
            return tabulate_costs(findings, packages, cost_settings.gate, config).assign(
                precision=[run.data.tags["model.precision"] for run in runs.values()]
            )
    except UserError as error:
        print_line(f"speed is not compared: {error}")
        return None


def _tables(compared: ComparisonInput, findings: Findings, config: EvaluationConfig) -> dict[str, pd.DataFrame]:
    agreed = agreement(compared.task.head_kind, compared.variants)
    return {
        "differences": findings.table(),
        "metrics": findings.metrics_table(),
        "agreement": agreed.rename_axis("variant").reset_index(),
        "disagreements": disagreements(compared.task, compared.variants, config.examples),
        "settings": compared.settings,
    }


def _show(findings: Findings, missing: str) -> None:
    rows = []
    for variant in findings.variants:
        score, other = findings.scores[variant.label][findings.task.metric], findings.comparison_of(variant)
        difference = f"{other.difference.value:+.4f}" if other else ""
        interval = f"{other.difference.low:+.4f} to {other.difference.high:+.4f}" if other else ""
        scored = (variant.label, str(len(variant.seeds)), f"{score.mean:.4f}", f"{score.low:.4f} to {score.high:.4f}")
        rows.append((*scored, difference, interval, format_p(other.p_value) if other else ""))
    interval = f"{findings.confidence:.0%} interval"
    columns = ("variant", "seeds", findings.task.metric, interval, "difference", interval, "p")
    show_table(f"{findings.task.title}: {findings.topic or 'comparison'}", columns, rows)
    print_line(findings.sentence)
    if missing:
        print_line(missing)


def _show_costs(findings: Findings, costs: pd.DataFrame) -> None:
    metric = findings.task.metric
    rows = [
        (
            row["variant"],
            f"{row[metric]:.4f}",
            f"{row['rows_a_second']:.0f}",
            f"{row['megabytes']:.1f}",
            row["precision"],
            "" if pd.isna(row["gate"]) else f"{row['gate']}: {row['reason']}",
        )
        for row in costs.to_dict("records")
    ]
    columns = ("variant", metric, "rows a second", "MB", "precision", f"the gate, against {findings.variants[0].label}")
    show_table("Quality, speed and size", columns, rows)
