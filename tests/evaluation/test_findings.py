"""Findings of a comparison: numbers from paired statistics, and no finding without evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.bootstrap import holm, paired_difference
from distilspark.evaluation.findings import Findings, Variant, compare_variants
from distilspark.heads import CLASSIFICATION
from helpers.made_runs import made_classifier, made_regressor
from helpers.texts import has_facts, higher_of, numbers_in

CONFIG = EvaluationConfig(confidence=0.95, resamples=1000, seed=1, examples=5)
ROWS = 600


def variant(label: str, skill: float, seeds: Sequence[int] = (1, 2, 3)) -> Variant:
    return Variant(label, {str(seed): made_classifier(ROWS, skill, seed) for seed in seeds})


def found(cola: TaskConfig, *variants: Variant, topic: str = "class weights") -> Findings:
    return compare_variants(cola, topic, variants, CONFIG)


def test_finding_states_the_difference_with_interval_and_p_value(cola: TaskConfig) -> None:
    off, balanced = variant("off", 0.7), variant("balanced", 0.8)
    findings = found(cola, off, balanced)
    labels = off.predictions.labels
    expected = paired_difference(CLASSIFICATION, "mcc", labels, off.outputs, balanced.outputs, CONFIG)
    assert expected.low > 0
    value, low, high = (round(each, 4) for each in (expected.value, expected.low, expected.high))
    assert has_facts(findings.sentence, "class weights", "MCC")
    assert sorted(numbers_in(findings.sentence)) == sorted([value, low, high, round(expected.p_value, 3), 95, 3])
    assert numbers_in(findings.headline) == [value]
    turned = found(cola, balanced, off)  # the first variant is the baseline
    assert {higher_of(each, "off", "balanced") for each in (findings.sentence, findings.headline)} == {"balanced"}
    assert {higher_of(each, "off", "balanced") for each in (turned.sentence, turned.headline)} == {"balanced"}
    assert findings.headline != turned.headline and numbers_in(turned.headline) == [value]
    assert sum(0 < each < 1 for each in numbers_in(turned.sentence)) == 4, "the direction is in the word, not in a sign"


def test_finding_without_an_effect_states_seeds_rows_and_interval(cola: TaskConfig) -> None:
    findings = found(cola, variant("off", 0.75), variant("balanced", 0.752))
    difference = findings.comparisons[0].difference
    assert difference.low < 0 < difference.high and not findings.comparisons[0].is_clear
    assert has_facts(findings.sentence, "class weights", "balanced", "off", "MCC")
    shown = [round(each, 4) for each in (difference.value, difference.low, difference.high)]
    assert sorted(numbers_in(findings.sentence)) == sorted([*shown, round(difference.p_value, 3), 95, 3, 600])
    assert not {"higher", "lower"} & {*findings.sentence.split()}


def test_identical_models_have_no_difference(cola: TaskConfig) -> None:
    same = [Variant(label, variant("", 0.8).seeds) for label in ("a", "b")]
    findings = found(cola, *same, topic="")
    assert has_facts(findings.sentence, "a", "b", "MCC")
    assert sorted(numbers_in(findings.sentence)) == [0, 0, 0, 1, 3, 95, 600]


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
    assert "higher" in alone.sentence and "higher" not in among.sentence
    assert 8 in numbers_in(among.sentence) and 8 not in numbers_in(alone.sentence)
    assert round(among.comparisons[0].p_value, 3) in numbers_in(among.sentence), "the adjusted one"


def test_finding_starts_with_the_largest_effect_and_counts_the_others(cola: TaskConfig) -> None:
    skills = {"off": 0.7, "same": 0.7, "better": 0.8, "best": 0.88}
    variants = [variant(label, skill, (1, 2, 3) if label != "same" else (4, 5, 6)) for label, skill in skills.items()]
    findings = found(cola, *variants)
    assert higher_of(findings.headline, "best", "off") == "best"
    first, second, rest = findings.sentence.split("; ")
    effects = {each.variant.label: round(each.difference.value, 4) for each in findings.comparisons}
    assert has_facts(first, "best", effects["best"], 3) and not has_facts(first, "better")
    assert has_facts(second, "better") and numbers_in(second) == [effects["better"]]
    assert numbers_in(rest) == [1]


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
    assert 2 in numbers_in(findings.sentence)
    assert {600, 95, 1000} == {*numbers_in(findings.pairing)}
    others = found(cola, off, variant("others", 0.8, (7, 8)))
    assert (others.comparisons[0].pairs, others.comparisons[0].same_seeds) == (2, False)
    assert "different" in others.pairing and "different" not in findings.pairing


def test_pairing_text_states_the_scope_of_the_intervals(cola: TaskConfig) -> None:
    one = found(cola, variant("off", 0.7, (1,)), variant("on", 0.8, (1,)))
    assert np.isnan(one.table()["deviation"]).all()
    two = found(cola, variant("off", 0.7, (1, 2)), variant("on", 0.8, (1, 2)))
    assert "new training" in two.pairing and "new training" not in one.pairing
    several = found(cola, variant("off", 0.7), variant("a", 0.8), variant("b", 0.8))
    assert has_facts(several.pairing, 2, "Holm") and not has_facts(two.pairing, "Holm")


def test_a_single_variant_is_described(cola: TaskConfig) -> None:
    findings = found(cola, variant("as configured", 0.8), topic="")
    (row,) = findings.table().to_dict("records")
    assert "MCC" in findings.sentence
    assert numbers_in(findings.sentence) == [round(row["mcc"], 4), round(row["deviation"], 4), 3, 600]


def test_findings_of_a_regression_task_use_its_metrics(stsb: TaskConfig) -> None:
    noise = {"mse": 0.9, "huber": 0.6}
    variants = [Variant(label, {str(s): made_regressor(300, each, s) for s in (1, 2)}) for label, each in noise.items()]
    findings = compare_variants(stsb, "loss", variants, CONFIG)
    assert (
        has_facts(findings.sentence, "loss", "Pearson", 95) and higher_of(findings.sentence, "huber", "mse") == "huber"
    )
    metrics = findings.metrics_table()
    assert list(metrics["metric"].unique()) == ["pearson", "spearman", "mse", "mae", "r2"]
    assert len(metrics) == 10
    mse = metrics[metrics["metric"] == "mse"].set_index("variant")["mean"]
    assert mse["huber"] == pytest.approx(0.36, abs=0.1) and mse["mse"] == pytest.approx(0.81, abs=0.2)


def test_finding_calls_a_lower_error_better(stsb: TaskConfig) -> None:
    noise = {"mse": 0.9, "huber": 0.6}
    variants = [Variant(label, {str(s): made_regressor(300, each, s) for s in (1, 2)}) for label, each in noise.items()]
    better = compare_variants(replace(stsb, metric="mse"), "loss", variants, CONFIG)
    assert has_facts(better.sentence, "MSE", "better") and not has_facts(better.sentence, "worse")
    worse = compare_variants(replace(stsb, metric="mae"), "loss", variants[::-1], CONFIG)
    assert has_facts(worse.sentence, "MAE", "worse") and not has_facts(worse.sentence, "better")
    assert {higher_of(each.sentence, "huber", "mse") for each in (better, worse)} == {"mse"}
