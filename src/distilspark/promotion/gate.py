"""The promotion gate: a function of the evidence alone."""

from __future__ import annotations

from dataclasses import dataclass

from distilspark.config import GateConfig
from distilspark.evaluation.bootstrap import Difference, Score
from distilspark.metrics import Metric
from distilspark.promotion.timing import Speedup


@dataclass(frozen=True)
class Evidence:
    """The challenger compared with the champion on the same rows."""

    metric: Metric
    champion: float
    challenger: float
    difference: Difference  # challenger minus champion
    speedup: Speedup
    shrinkage: float  # how many times smaller the challenger's package is


@dataclass(frozen=True)
class Verdict:
    """The gate's decision, in words and as numbers for tags and metrics."""

    promoted: bool
    reason: str
    numbers: dict[str, float]


def judge_challenger(evidence: Evidence, config: GateConfig) -> Verdict:
    """Promote a challenger that is significantly better, or non-inferior and clearly cheaper.

    It is better if the whole interval of the gain is above zero, non-inferior if it is at least -margin, and clearly
    cheaper if the speedup's whole interval, or the shrinkage, is at least `config.gain`.
    """
    low, high = evidence.metric.gain(evidence.difference.interval)
    kept, cheaper = low >= -config.margin, _is_cheaper(evidence, config)
    finding = f"{_describe_metric(evidence)}; {_describe_cost(evidence)}"
    if low > 0:
        return _verdict(evidence, True, f"better beyond chance: {finding}")
    if kept and cheaper:
        return _verdict(evidence, True, f"clearly cheaper, and worse by no more than the margin: {finding}")
    if high < 0:
        return _verdict(evidence, False, f"worse beyond chance: {finding}")
    if cheaper:
        return _verdict(evidence, False, f"cheaper, but perhaps worse by more than {config.margin:g}: {finding}")
    return _verdict(evidence, False, f"neither better beyond chance nor clearly cheaper: {finding}")


def judge_first_champion(metric: Metric, score: Score, baseline: float) -> Verdict:
    """Promote a model whose whole interval is better than the best constant prediction, as `train` does."""
    low, high = score.interval
    beaten = metric.surely_better(score.interval, baseline)
    reason = (
        f"there is no champion, and {metric.name} {score.mean:.4f} ({low:.4f} to {high:.4f}) is "
        f"{'' if beaten else 'not '}beyond chance better than {baseline:.4f}, the best constant answer's"
    )
    return Verdict(beaten, reason, {"challenger": score.mean, "low": low, "high": high, "baseline": baseline})


def _is_cheaper(evidence: Evidence, config: GateConfig) -> bool:
    return max(evidence.speedup.low, evidence.shrinkage) >= config.gain


def _describe_metric(evidence: Evidence) -> str:
    difference = evidence.difference
    return (
        f"{evidence.metric.name} {evidence.challenger:.4f} against {evidence.champion:.4f}, a difference of "
        f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}, p {difference.p_value:.4f})"
    )


def _describe_cost(evidence: Evidence) -> str:
    speed = evidence.speedup
    return (
        f"{speed.value:.2f} times as fast ({speed.low:.2f} to {speed.high:.2f}), "
        f"{1 / evidence.shrinkage:.2f} times as large"
    )


def _verdict(evidence: Evidence, promoted: bool, reason: str) -> Verdict:
    difference, speed = evidence.difference, evidence.speedup
    numbers = {
        "champion": evidence.champion,
        "challenger": evidence.challenger,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p_value": difference.p_value,
        "speedup": speed.value,
        "speedup_low": speed.low,
        "speedup_high": speed.high,
        "shrinkage": evidence.shrinkage,
    }
    return Verdict(promoted, reason, numbers)
