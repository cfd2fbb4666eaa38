"""The quality of a comparison's variants, and the speed and size of their packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from distilspark.config import EvaluationConfig, GateConfig
from distilspark.evaluation.findings import Comparison, Findings
from distilspark.evaluation.predictions import Array
from distilspark.package.build import size_of
from distilspark.promotion.gate import Evidence, judge_challenger
from distilspark.promotion.timing import speedup, time_packages


def tabulate_costs(
    findings: Findings, packages: Mapping[str, Path], gate: GateConfig, config: EvaluationConfig
) -> pd.DataFrame:
    """Tabulate each variant's quality, rows a second and megabytes, and the gate's verdict.

    The first variant is the champion, the others are challengers. A variant's quality is the mean over its seeds;
    `packages` holds one package of each, in the order of `findings.variants`; they are timed in turn.
    """
    seconds, rows = time_packages([*packages.values()], findings.variants[0].predictions.rows, gate.timing)
    sizes = {label: size_of(folder) for label, folder in packages.items()}
    first, metric = findings.variants[0].label, findings.task.metric
    table = []
    for variant, own in zip(findings.variants, seconds, strict=True):
        score, comparison = findings.scores[variant.label][metric], findings.comparison_of(variant)
        shrinkage = sizes[first] / sizes[variant.label]
        verdict = _gate_columns(findings, comparison, (seconds[0], own), shrinkage, gate, config) if comparison else {}
        table.append(
            {
                "variant": variant.label,
                metric: score.mean,
                "low": score.low,
                "high": score.high,
                "rows_a_second": rows / float(np.median(own)),
                "megabytes": sizes[variant.label] / 1e6,
                **verdict,
            }
        )
    return pd.DataFrame(table)


def _gate_columns(
    findings: Findings,
    comparison: Comparison,
    seconds: tuple[Array, Array],
    shrinkage: float,
    gate: GateConfig,
    config: EvaluationConfig,
) -> dict[str, object]:
    metric = findings.task.headline
    before, after = (
        findings.scores[each.label][metric.name].mean for each in (findings.variants[0], comparison.variant)
    )
    faster = speedup(*seconds, config)
    verdict = judge_challenger(Evidence(metric, before, after, comparison.difference, faster, shrinkage), gate)
    return {
        "times_as_fast": faster.value,
        "times_as_large": 1 / shrinkage,
        "gate": "promoted" if verdict.promoted else "not promoted",
        "reason": verdict.reason.partition(":")[0],
    }
