"""Findings of a comparison of variants: scores, paired differences, and the sentence that states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.bootstrap import Difference, Score, holm, mean_scores, paired_difference
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.figures import count_rows, decimal, percent
from distilspark.metrics import Metric

_DIGITS = 4


@dataclass(frozen=True)
class Variant:
    """One setting, and its trainings' predictions for the same rows in the same order, by their seeds."""

    label: str  # unique among the variants
    seeds: Mapping[str, Predictions]

    @property
    def outputs(self) -> list[Array]:
        """The outputs of each seed."""
        return [predictions.outputs for predictions in self.seeds.values()]

    @property
    def predictions(self) -> Predictions:
        """The first seed's predictions; rows and labels are the same for all."""
        return next(iter(self.seeds.values()))


@dataclass(frozen=True)
class Comparison:
    """A variant compared with the baseline over pairs of trainings; `p_value` is adjusted for all comparisons."""

    variant: Variant
    difference: Difference
    p_value: float
    pairs: int
    same_seeds: bool
    level: float

    @property
    def is_clear(self) -> bool:
        """True if the difference is significant after adjustment for the number of comparisons."""
        return self.p_value < self.level and self.difference.is_clear


@dataclass(frozen=True)
class Findings:
    """The findings about several variants; the first variant is the baseline.

    Attributes:
        topic: the setting that varies, e.g. `class weights`; empty if it has no name.
        scores: of each variant, every metric of the task's head.
        comparisons: of each variant, except the baseline, with the baseline.
        headline: the sentence without intervals and p-values.
        sentence: the finding with its certainty, or that no difference was found.
        pairing: the rows and seeds that were paired, and the population that the intervals hold for.

    """

    task: TaskConfig
    topic: str
    variants: Sequence[Variant]
    confidence: float
    scores: Mapping[str, Mapping[str, Score]]
    comparisons: Sequence[Comparison]
    headline: str
    sentence: str
    pairing: str

    @property
    def rows(self) -> int:
        """The number of rows that every model was scored on."""
        return len(self.variants[0].predictions.labels)

    def table(self) -> pd.DataFrame:
        """Tabulate, for each variant, the task's metric over its seeds, and the difference from the baseline."""
        return pd.DataFrame(self._row(variant) for variant in self.variants)

    def comparison_of(self, variant: Variant) -> Comparison | None:
        """Return the variant's comparison with the baseline; None for the baseline itself."""
        return next((each for each in self.comparisons if each.variant.label == variant.label), None)

    def _row(self, variant: Variant) -> dict[str, object]:
        found, missing = self.comparison_of(variant), float("nan")
        score = self.scores[variant.label][self.task.metric]
        return {
            "variant": variant.label,
            "seeds": len(variant.seeds),
            self.task.metric: score.mean,
            "deviation": score.deviation,
            "low": score.low,
            "high": score.high,
            "difference": found.difference.value if found else missing,
            "difference_low": found.difference.low if found else missing,
            "difference_high": found.difference.high if found else missing,
            "p": found.difference.p_value if found else missing,
            "p_adjusted": found.p_value if found else missing,
            "pairs": found.pairs if found else missing,
        }

    def metrics_table(self) -> pd.DataFrame:
        """Tabulate every metric of every variant: mean, standard deviation over seeds, interval."""
        return pd.DataFrame(
            {
                "variant": label,
                "metric": metric,
                "mean": score.mean,
                "deviation": score.deviation,
                "low": score.low,
                "high": score.high,
            }
            for label, scores in self.scores.items()
            for metric, score in scores.items()
        )


def compare_variants(task: TaskConfig, topic: str, variants: Sequence[Variant], config: EvaluationConfig) -> Findings:
    """Score every variant, and compare each with the first, over the seeds that both have.

    Raises:
        ValueError: as `paired_difference`.

    """
    labels = variants[0].predictions.labels
    scores = {each.label: mean_scores(task.head_kind, labels, each.outputs, config) for each in variants}
    comparisons = _compare_with(variants[0], variants[1:], task, config)
    rows = count_rows(len(labels))
    wording = _Wording(task.headline, topic, variants, rows, config.confidence)
    first = scores[variants[0].label][task.metric]
    headline, sentence = wording.compared(comparisons) if comparisons else wording.single(first)
    pairing = _describe_pairing(comparisons, rows, config)
    return Findings(task, topic, variants, config.confidence, scores, comparisons, headline, sentence, pairing)


def _compare_with(
    baseline: Variant, others: Sequence[Variant], task: TaskConfig, config: EvaluationConfig
) -> list[Comparison]:
    sides, labels = [_pair_seeds(baseline, other) for other in others], baseline.predictions.labels
    differences = [
        paired_difference(task.head_kind, task.metric, labels, first, second, config) for first, second, _ in sides
    ]
    adjusted = holm([difference.p_value for difference in differences])
    return [
        Comparison(other, difference, p_value, min(len(first), len(second)), same, 1 - config.confidence)
        for other, difference, p_value, (first, second, same) in zip(others, differences, adjusted, sides, strict=True)
    ]


def _pair_seeds(baseline: Variant, other: Variant) -> tuple[list[Array], list[Array], bool]:
    """Return the outputs of the seeds that both have, in the same order; of all seeds if they share none."""
    shared = [seed for seed in baseline.seeds if seed in other.seeds]
    if not shared:
        return baseline.outputs, other.outputs, False
    first, second = ([side.seeds[seed].outputs for seed in shared] for side in (baseline, other))
    return first, second, True


@dataclass(frozen=True)
class _Wording:
    """The wording of findings."""

    metric: Metric
    topic: str
    variants: Sequence[Variant]
    rows: str
    confidence: float

    def compared(self, comparisons: Sequence[Comparison]) -> tuple[str, str]:
        """Write the headline and the sentence."""
        clear = sorted((each for each in comparisons if each.is_clear), key=lambda each: -abs(each.difference.value))
        if not clear:
            headline = f"{self._subject()}: no difference in {self.metric.title}"
            return headline, f"{headline} that {self._evidence(comparisons)} can show ({self._nearest(comparisons)})"
        first, *more = clear
        effect = self._effect(first)
        certainty = f"({self._certainty(first, len(comparisons))}, {_count_seeds(first.pairs)})"
        others = ", ".join(f"{each.variant.label} {_signed(each.difference.value)}" for each in more)
        left = len(comparisons) - len(clear)
        also = f"; also clear: {others}" if more else ""
        rest = f"; no difference that this can show for {left} other{'s' if left > 1 else ''}" if left else ""
        return effect, f"{effect} {certainty}{also}{rest}"

    def single(self, score: Score) -> tuple[str, str]:
        """Write the headline and the sentence about a single variant."""
        deviation = f" ± {decimal(score.deviation, _DIGITS)}" if len(score.seeds) > 1 else ""
        headline = f"{self.metric.title} {decimal(score.mean, _DIGITS)}{deviation}"
        evidence = f"{_count_seeds(len(score.seeds))} on {self.rows}"
        return headline, f"{headline} ({evidence}); there is no second variant to compare with"

    def _subject(self) -> str:
        return self.topic or " and ".join(each.label for each in self.variants)

    def _effect(self, each: Comparison) -> str:
        """Write the difference and, if lower is better, whether it is an improvement."""
        value, metric = each.difference.value, self.metric
        name = f"{self.topic} {each.variant.label}".strip()
        verdict = "" if metric.higher_is_better else f" ({'better' if metric.better(value, 0) else 'worse'})"
        size = f"{metric.title} {decimal(abs(value), _DIGITS)} {'higher' if value > 0 else 'lower'}{verdict}"
        return f"{name}: {size} than {self.variants[0].label}"

    def _certainty(self, each: Comparison, comparisons: int) -> str:
        bounds = sorted(each.difference.interval, key=abs if each.is_clear else None)
        low, high = (decimal(abs(bound) if each.is_clear else bound, _DIGITS) for bound in bounds)
        adjusted = f" adjusted for {comparisons} comparisons" if comparisons > 1 else ""
        return f"{percent(self.confidence)} {low} to {high}, {format_p(each.p_value)}{adjusted}"

    def _evidence(self, comparisons: Sequence[Comparison]) -> str:
        return f"{_count_seeds(min(each.pairs for each in comparisons))} and {self.rows}"

    def _nearest(self, comparisons: Sequence[Comparison]) -> str:
        """Write the comparison that is closest to significance."""
        each = min(comparisons, key=lambda found: (found.p_value, found.difference.p_value))
        name = f"{each.variant.label} against {self.variants[0].label}: " if self.topic or len(comparisons) > 1 else ""
        return f"{name}{_signed(each.difference.value)}, {self._certainty(each, len(comparisons))}"


def _count_seeds(count: int) -> str:
    return f"{count} seeds" if count > 1 else "1 seed"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{decimal(value, _DIGITS)}"


def format_p(value: float) -> str:
    """Write a p-value.

    >>> format_p(0.0041), format_p(0.0002)
    ('p = .004', 'p < .001')
    """
    return "p < .001" if value < 0.0005 else f"p = {decimal(value)}"


def _describe_pairing(comparisons: Sequence[Comparison], rows: str, config: EvaluationConfig) -> str:
    if not comparisons:
        return f"One variant, scored on {rows} of dev."
    same = all(each.same_seeds for each in comparisons)
    several = min(each.pairs for each in comparisons) > 1
    seeds = "the same seeds on both sides" if same else "trainings of different seeds"
    reach = "of a new training on new rows" if several else "of these trainings on new rows, not of another seed"
    adjusted = f", p-values adjusted for {len(comparisons)} comparisons (Holm)" if len(comparisons) > 1 else ""
    return (
        f"Paired: the same {rows} of dev, {seeds}. Intervals are {percent(config.confidence)} percentile bootstrap "
        f"intervals over {config.resamples:,} resamples{adjusted}; they speak {reach}."
    )
