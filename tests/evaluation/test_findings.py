"""Findings of a comparison: numbers from paired statistics, and no finding without evidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.bootstrap import holm, paired_difference
from distilspark.evaluation.findings import Findings, Variant, compare_variants
from distilspark.heads import CLASSIFICATION
from helpers.made_runs import made_classifier, made_regressor

CONFIG = EvaluationConfig(confidence=0.95, resamples=1000, seed=1, examples=5)
ROWS = 600


def variant(label: str, skill: float, seeds: Sequence[int] = (1, 2, 3)) -> Variant:
    return Variant(label, {str(seed): made_classifier(ROWS, skill, seed) for seed in seeds})


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def found(cola: TaskConfig, *variants: Variant, topic: str = "class weights") -> Findings:
    return compare_variants(cola, topic, variants, CONFIG)


def test_finding_states_the_difference_with_interval_and_p_value(cola: TaskConfig) -> None:
    off, balanced = variant("off", 0.7), variant("balanced", 0.8)
    findings = found(cola, off, balanced)
    labels = off.predictions.labels
    expected = paired_difference(CLASSIFICATION, "mcc", labels, off.outputs, balanced.outputs, CONFIG)
    assert expected.low > 0
    value, low, high = (f"{each:.4f}"[1:] for each in (expected.value, expected.low, expected.high))
    p = f"{expected.p_value:.3f}"[1:]
    assert plain(findings.sentence) == (
        f"class weights balanced: MCC {value} higher than off (95 % {low} to {high}, p = {p}, 3 seeds)"
    )
    assert findings.headline == f"class weights balanced: MCC {value} higher than off"
    turned = found(cola, balanced, off)  # the first variant is the baseline
    assert turned.headline == f"class weights off: MCC {value} lower than balanced"
    assert re.search(r"\(95 % \.\d{4} to \.\d{4}, p", plain(turned.sentence))


def test_finding_without_an_effect_states_seeds_rows_and_interval(cola: TaskConfig) -> None:
    findings = found(cola, variant("off", 0.75), variant("balanced", 0.752))
    pattern = (
        r"class weights: no difference in MCC that 3 seeds and 600 rows can show "
        r"\(balanced against off: [+-]\.\d{4}, 95 % -\.\d{4} to \.\d{4}, p = \.\d{3}\)"
    )
    assert re.fullmatch(pattern, plain(findings.sentence)), findings.sentence
    assert not findings.comparisons[0].is_clear


def test_identical_models_have_no_difference(cola: TaskConfig) -> None:
    same = [Variant(label, variant("", 0.8).seeds) for label in ("a", "b")]
    findings = found(cola, *same, topic="")
    said = "a and b: no difference in MCC that 3 seeds and 600 rows can show (.0000, 95 % .0000 to .0000, p = 1.000)"
    assert plain(findings.sentence) == said


def test_table_equals_the_metrics_and_the_paired_statistics(cola: TaskConfig) -> None:
    variants = [variant("off", 0.7), variant("a", 0.72), variant("b", 0.8)]
    table = found(cola, *variants).table().set_index("variant")
    assert list(table.index) == ["off", "a", "b"]
    for each in variants:
        scores = [CLASSIFICATION.compute_metrics(p.labels, p.outputs)["mcc"] for p in each.seeds.values()]
        row = table.loc[each.label]
        assert (row["mcc"], row["deviation"]) == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))
        assert row["low"] < row["mcc"] < row["high"]
        assert row["seeds"] == 3
    assert table.loc["off", "difference":"pairs"].isna().all()
    labels = variants[0].predictions.labels
    raw = [
        paired_difference(CLASSIFICATION, "mcc", labels, variants[0].outputs, each.outputs, CONFIG)
        for each in variants[1:]
    ]
    assert table["difference"].iloc[1:].tolist() == [each.value for each in raw]
    assert table["p"].iloc[1:].tolist() == [each.p_value for each in raw]
    assert table["p_adjusted"].iloc[1:].tolist() == holm([each.p_value for each in raw])
    assert (table["difference"].iloc[1:] - (table["mcc"].iloc[1:] - table["mcc"].iloc[0])).abs().max() < 1e-9


def test_p_values_are_adjusted_for_several_comparisons(cola: TaskConfig) -> None:
    """A difference that is clear alone is not clear among eight comparisons."""
    baseline, near = variant("off", 0.7), variant("near", 0.76)
    alone = found(cola, baseline, near)
    assert 0.005 < alone.comparisons[0].p_value < 0.05 and alone.comparisons[0].is_clear
    others = [variant(f"same {number}", 0.7, (number, number + 1, number + 2)) for number in range(20, 27)]
    among = found(cola, baseline, near, *others)
    assert among.comparisons[0].p_value > alone.comparisons[0].p_value
    assert not any(each.is_clear for each in among.comparisons)
    assert "no difference in MCC that" in among.sentence
    assert "adjusted for 8 comparisons" in among.sentence


def test_finding_starts_with_the_largest_effect_and_counts_the_others(cola: TaskConfig) -> None:
    skills = {"off": 0.7, "same": 0.7, "better": 0.8, "best": 0.88}
    variants = [variant(label, skill, (1, 2, 3) if label != "same" else (4, 5, 6)) for label, skill in skills.items()]
    findings = found(cola, *variants)
    assert findings.headline.startswith("class weights best: MCC ")
    first, second, rest = findings.sentence.split("; ")
    assert first.startswith("class weights best: MCC ") and first.endswith("adjusted for 3 comparisons, 3 seeds)")
    assert re.fullmatch(r"also clear: better \+\.\d{4}", second)
    assert rest == "no difference that this can show for 1 other"


def test_only_seeds_of_both_variants_are_paired(cola: TaskConfig) -> None:
    off, two = variant("off", 0.7), variant("two", 0.8, (3, 2))
    findings = found(cola, off, two)
    expected = paired_difference(
        CLASSIFICATION,
        "mcc",
        off.predictions.labels,
        [off.seeds[seed].outputs for seed in ("2", "3")],
        [two.seeds[seed].outputs for seed in ("2", "3")],
        CONFIG,
    )
    assert findings.comparisons[0].difference == expected
    assert findings.comparisons[0].pairs == 2
    assert "2 seeds)" in findings.sentence
    assert "the same 600 rows of dev, the same seeds on both sides" in findings.pairing
    others = found(cola, off, variant("others", 0.8, (7, 8)))
    assert (others.comparisons[0].pairs, others.comparisons[0].same_seeds) == (2, False)
    assert "trainings of different seeds" in others.pairing


def test_pairing_text_states_the_scope_of_the_intervals(cola: TaskConfig) -> None:
    one = found(cola, variant("off", 0.7, (1,)), variant("on", 0.8, (1,)))
    assert "of these trainings on new rows, not of another seed" in one.pairing
    assert np.isnan(one.table()["deviation"]).all()
    several = found(cola, variant("off", 0.7), variant("a", 0.8), variant("b", 0.8))
    assert "of a new training on new rows" in several.pairing
    assert "p-values adjusted for 2 comparisons (Holm)" in several.pairing


def test_a_single_variant_is_described(cola: TaskConfig) -> None:
    findings = found(cola, variant("as configured", 0.8), topic="")
    assert re.fullmatch(
        r"MCC \.\d{4} ± \.\d{4} \(3 seeds on 600 rows\); there is no second variant to compare with", findings.sentence
    )
    assert len(findings.table()) == 1


def test_findings_of_a_regression_task_use_its_metrics(stsb: TaskConfig) -> None:
    noise = {"mse": 0.9, "huber": 0.6}
    variants = [Variant(label, {str(s): made_regressor(300, each, s) for s in (1, 2)}) for label, each in noise.items()]
    findings = compare_variants(stsb, "loss", variants, CONFIG)
    assert re.match(r"loss huber: Pearson \.\d{4} higher than mse \(95 % ", plain(findings.sentence))
    metrics = findings.metrics_table()
    assert list(metrics["metric"].unique()) == ["pearson", "spearman", "mse", "mae", "r2"]
    assert len(metrics) == 10
    mse = metrics[metrics["metric"] == "mse"].set_index("variant")["mean"]
    assert mse["huber"] == pytest.approx(0.36, abs=0.1) and mse["mse"] == pytest.approx(0.81, abs=0.2)


def test_finding_calls_a_lower_error_better(stsb: TaskConfig) -> None:
    noise = {"mse": 0.9, "huber": 0.6}
    variants = [Variant(label, {str(s): made_regressor(300, each, s) for s in (1, 2)}) for label, each in noise.items()]
    better = compare_variants(replace(stsb, metric="mse"), "loss", variants, CONFIG)
    assert re.match(r"loss huber: MSE \.\d{4} lower \(better\) than mse \(95 % ", plain(better.sentence))
    worse = compare_variants(replace(stsb, metric="mae"), "loss", variants[::-1], CONFIG)
    assert re.match(r"loss mse: MAE \.\d{4} higher \(worse\) than huber \(95 % ", plain(worse.sentence))
