"""The gate's verdicts, and the timing behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, PromotionConfig, TimingConfig
from distilspark.evaluation.bootstrap import Difference, Score
from distilspark.metrics import METRICS
from distilspark.promotion.gate import Evidence, judge_challenger, judge_first_champion
from distilspark.promotion.timing import Speedup, speedup, time_in_turn
from helpers.texts import numbers_in

CONFIG = PromotionConfig(
    margin=0.01, gain=1.25, timing=TimingConfig(rows=10, rounds=5), max_overlap=0, require=False, rollback=False
)
SETTINGS = EvaluationConfig(confidence=0.95, resamples=500, seed=0, examples=5)
EQUAL = Evidence(METRICS["mcc"], 0.4, 0.4, Difference(0.0, 0.0, 0.0, 1.0), Speedup(1.0, 0.97, 1.03), 1.0)
FASTER, SMALLER = {"speedup": Speedup(1.5, 1.25, 1.8)}, {"shrinkage": 1.25}


def evidence(low: float, high: float, **changed: object) -> Evidence:
    return replace(EQUAL, difference=Difference((low + high) / 2, low, high, 0.5), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "found, promoted, why",
    [
        (EQUAL, False, "neither"),
        (evidence(0.001, 0.1), True, "better"),
        (evidence(0.0, 0.1), False, "neither"),
        (evidence(-0.05, 0.1), False, "neither"),
        (evidence(-0.1, -0.001), False, "worse"),
        (evidence(-0.01, 0.02, **FASTER), True, "clearly cheaper"),
        (evidence(-0.01, 0.02, **SMALLER), True, "clearly cheaper"),
        (evidence(-0.01, -0.002, **FASTER), True, "clearly cheaper"),
        (evidence(-0.0101, 0.02, **FASTER), False, "cheaper"),
        (evidence(-0.1, -0.02, **SMALLER), False, "worse"),
        (evidence(-0.01, 0.02, speedup=Speedup(1.5, 1.24, 1.8)), False, "neither"),
        (evidence(-0.01, 0.02, shrinkage=1.24), False, "neither"),
        (evidence(0.001, 0.1, speedup=Speedup(0.1, 0.1, 0.1), shrinkage=0.1), True, "better"),
    ],
)
def test_verdict_follows_from_difference_speed_and_size(found: Evidence, promoted: bool, why: str) -> None:
    verdict = judge_challenger(found, CONFIG)
    assert verdict.promoted is promoted
    assert verdict.reason.startswith(why)
    difference, speed = found.difference, found.speedup
    facts = (found.challenger, found.champion, difference.value, difference.low, difference.high, difference.p_value)
    rounded = [*(round(each, 4) for each in facts), speed.value, speed.low, speed.high, round(1 / found.shrinkage, 2)]
    assert "mcc" in verdict.reason and numbers_in(verdict.reason)[-len(rounded) :] == rounded
    assert verdict.numbers["low"] == found.difference.low
    assert verdict.numbers["speedup_low"] == found.speedup.low


def test_lower_error_counts_as_better() -> None:
    assert judge_challenger(replace(evidence(-0.1, -0.001), metric=METRICS["mse"]), CONFIG).promoted
    assert judge_challenger(replace(evidence(-0.02, 0.01, **FASTER), metric=METRICS["mse"]), CONFIG).promoted
    worse = judge_challenger(replace(evidence(0.001, 0.1), metric=METRICS["mse"]), CONFIG)
    assert not worse.promoted and worse.reason.startswith("worse")


@pytest.mark.parametrize(
    "metric, interval, baseline, promoted",
    [
        ("mcc", (0.01, 0.2), 0.0, True),
        ("mcc", (0.0, 0.2), 0.0, False),
        ("accuracy", (0.68, 0.75), 0.7, False),
        ("mse", (0.5, 0.9), 1.0, True),
        ("mse", (0.5, 1.0), 1.0, False),
    ],
)
def test_first_champion_must_beat_the_baseline_beyond_chance(
    metric: str, interval: tuple[float, float], baseline: float, promoted: bool
) -> None:
    verdict = judge_first_champion(METRICS[metric], Score(0.5, *interval, (0.5,)), baseline)
    assert verdict.promoted is promoted
    assert numbers_in(verdict.reason) == [0.5, *interval, baseline] and metric in verdict.reason
    assert (" not " in verdict.reason) is not promoted


def test_both_packages_are_timed_equally_often_in_alternating_order() -> None:
    called: list[str] = []
    first, second = time_in_turn([lambda: called.append("a"), lambda: called.append("b")], 6)
    assert len(first) == len(second) == 6 and (first > 0).all()
    assert called[:2] == ["a", "b"], "both are warm before they are timed"
    rounds = [called[start : start + 2] for start in range(2, 14, 2)]
    assert rounds == [["b", "a"], ["a", "b"]] * 3


def work(steps: int) -> Callable[[], object]:
    return lambda: sum(range(steps))


def test_speedup_of_half_the_work_is_about_two() -> None:
    long, short = time_in_turn([work(200_000), work(100_000)], 15)
    faster = speedup(long, short, SETTINGS)
    assert faster.low <= faster.value <= faster.high
    assert 1.5 < faster.value < 2.7
    turned = speedup(short, long, SETTINGS)
    assert turned.high < 1


def test_speedup_ignores_a_single_slow_round() -> None:
    even = np.ones(15)
    hiccup = even.copy()
    hiccup[4] = 100.0
    assert speedup(hiccup, even, SETTINGS) == Speedup(1.0, 1.0, 1.0)
