"""Whether a challenger has earned the champion's place: a function of the evidence alone."""

from __future__ import annotations

from dataclasses import dataclass

from distilspark.config import PromotionConfig
from distilspark.evaluation.metrics import LOWER_IS_BETTER
from distilspark.evaluation.significance import Difference
from distilspark.scoring.timing import Speedup


@dataclass(frozen=True)
class Evidence:
    """The challenger beside the champion, on the same rows."""

    metric: str
    champion: float
    challenger: float
    difference: Difference  # challenger minus champion
    speedup: Speedup
    shrinkage: float  # how many times smaller the challenger's package is

    @property
    def gain(self) -> tuple[float, float]:
        """The interval of how much better the challenger is."""
        low, high = self.difference.low, self.difference.high
        return (-high, -low) if self.metric in LOWER_IS_BETTER else (low, high)


@dataclass(frozen=True)
class Verdict:
    """What the gate says, in words and as numbers for tags and metrics."""

    promoted: bool
    reason: str
    numbers: dict[str, float]


def judge(evidence: Evidence, config: PromotionConfig) -> Verdict:
    """Better beyond chance, or surely within the margin and clearly cheaper: promoted; else not, and why.

    The challenger is better where the whole interval is above zero, within the margin where the whole interval is above
    -margin, and clearly cheaper where the speedup's whole interval, or the shrinkage, reaches `config.gain`.
    """
    low, high = evidence.gain
    kept, cheaper = low >= -config.margin, _is_cheaper(evidence, config)
    finding = f"{_tell_metric(evidence)}; {_tell_cost(evidence)}"
    if low > 0:
        return _verdict(evidence, True, f"better beyond chance: {finding}")
    if kept and cheaper:
        return _verdict(evidence, True, f"clearly cheaper, and worse by no more than the margin: {finding}")
    if high < 0:
        return _verdict(evidence, False, f"worse beyond chance: {finding}")
    if cheaper:
        return _verdict(evidence, False, f"cheaper, but perhaps worse by more than {config.margin:g}: {finding}")
    return _verdict(evidence, False, f"neither better beyond chance nor clearly cheaper: {finding}")


def judge_without_champion(metric: str, interval: tuple[float, float], value: float, baseline: float) -> Verdict:
    """The first champion has to beat the best constant answer with its whole interval, as after a training."""
    low, high = interval
    beaten = high < baseline if metric in LOWER_IS_BETTER else low > baseline
    reason = (
        f"there is no champion, and {metric} {value:.4f} ({low:.4f} to {high:.4f}) is "
        f"{'' if beaten else 'not '}beyond chance better than {baseline:.4f}, the best constant answer's"
    )
    return Verdict(beaten, reason, {"challenger": value, "low": low, "high": high, "baseline": baseline})


def _is_cheaper(evidence: Evidence, config: PromotionConfig) -> bool:
    return max(evidence.speedup.low, evidence.shrinkage) >= config.gain


def _tell_metric(evidence: Evidence) -> str:
    difference = evidence.difference
    return (
        f"{evidence.metric} {evidence.challenger:.4f} against {evidence.champion:.4f}, a difference of "
        f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}, p {difference.p_value:.4f})"
    )


def _tell_cost(evidence: Evidence) -> str:
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
