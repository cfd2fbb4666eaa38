"""What a comparison of variants found: scores, paired differences, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from distilspark.config import ComparisonConfig, TaskConfig
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.significance import Difference, Score, holm, mean_scores, paired_difference
from distilspark.figures import METRIC_TITLES, count_rows, decimal, percent

_DIGITS = 4


@dataclass(frozen=True)
class Variant:
    """One setting, and what its trainings said about the same rows in the same order, by their seeds."""

    label: str  # unlike any other variant's
    seeds: Mapping[str, Predictions]

    @property
    def outputs(self) -> list[Array]:
        """Each seed's."""
        return [predictions.outputs for predictions in self.seeds.values()]

    @property
    def predictions(self) -> Predictions:
        """The first seed's: rows and labels are the same for all."""
        return next(iter(self.seeds.values()))


@dataclass(frozen=True)
class Against:
    """A variant against the baseline, over as many pairs of trainings; `p_value` is adjusted for all comparisons."""

    variant: Variant
    difference: Difference
    p_value: float
    pairs: int
    same_seeds: bool
    level: float

    @property
    def is_clear(self) -> bool:
        """Whether it differs by more than chance, given how many comparisons were made."""
        return self.p_value < self.level and self.difference.is_clear


@dataclass(frozen=True)
class Findings:
    """What was found; the first variant is the baseline.

    Attributes:
        topic: what varies, e.g. `class weights`; empty where that has no name.
        scores: of each variant, every metric of the task's head.
        against: of each variant but the baseline.
        headline: the sentence without its figures' certainty.
        sentence: what was found, or that nothing was.
        pairing: what was paired with what, and what the intervals speak of.

    """

    task: TaskConfig
    topic: str
    variants: Sequence[Variant]
    confidence: float
    scores: Mapping[str, Mapping[str, Score]]
    against: Sequence[Against]
    headline: str
    sentence: str
    pairing: str

    @property
    def rows(self) -> int:
        """How many rows every model was scored on."""
        return len(self.variants[0].predictions.labels)

    def table(self) -> pd.DataFrame:
        """A row a variant: the task's metric over its seeds, and the paired difference from the baseline."""
        against = {each.variant.label: each for each in self.against}
        rows = [self._row(variant, against.get(variant.label)) for variant in self.variants]
        return pd.DataFrame(rows)

    def _row(self, variant: Variant, found: Against | None) -> dict[str, object]:
        score, missing = self.scores[variant.label][self.task.metric], float("nan")
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
        """Every metric of every variant: mean, standard deviation over seeds, interval."""
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


def find(task: TaskConfig, topic: str, variants: Sequence[Variant], config: ComparisonConfig) -> Findings:
    """Score every variant, and compare each with the first, over the seeds that both have.

    Raises:
        ValueError: as `paired_difference`.

    """
    labels = variants[0].predictions.labels
    score = partial(
        mean_scores, task.head, labels, confidence=config.confidence, resamples=config.resamples, seed=config.seed
    )
    scores = {each.label: score(each.outputs) for each in variants}
    against = _compare_with(variants[0], variants[1:], task, config)
    rows = count_rows(len(labels))
    speaker = _Speaker(METRIC_TITLES[task.metric], topic, variants, rows, config.confidence)
    spread = scores[variants[0].label][task.metric]
    headline, sentence = speaker.say(against) if against else speaker.say_alone(spread)
    pairing = _pairing(against, rows, config)
    return Findings(task, topic, variants, config.confidence, scores, against, headline, sentence, pairing)


def _compare_with(
    baseline: Variant, others: Sequence[Variant], task: TaskConfig, config: ComparisonConfig
) -> list[Against]:
    sides = [_sides(baseline, other) for other in others]
    labels = baseline.predictions.labels
    differences = [
        paired_difference(
            task.head,
            task.metric,
            labels,
            first,
            second,
            confidence=config.confidence,
            resamples=config.resamples,
            seed=config.seed,
        )
        for first, second, _ in sides
    ]
    adjusted = holm([difference.p_value for difference in differences])
    return [
        Against(other, difference, p_value, min(len(first), len(second)), same, 1 - config.confidence)
        for other, difference, p_value, (first, second, same) in zip(others, differences, adjusted, sides, strict=True)
    ]


def _sides(baseline: Variant, other: Variant) -> tuple[list[Array], list[Array], bool]:
    """The outputs of the seeds that both have, in the same order; of all seeds where they share none."""
    shared = [seed for seed in baseline.seeds if seed in other.seeds]
    if not shared:
        return baseline.outputs, other.outputs, False
    first, second = ([side.seeds[seed].outputs for seed in shared] for side in (baseline, other))
    return first, second, True


@dataclass(frozen=True)
class _Speaker:
    """How a finding is said."""

    metric: str
    topic: str
    variants: Sequence[Variant]
    rows: str
    confidence: float

    def say(self, against: Sequence[Against]) -> tuple[str, str]:
        """The headline and the sentence."""
        clear = sorted((each for each in against if each.is_clear), key=lambda each: -abs(each.difference.value))
        if not clear:
            headline = f"{self._subject()}: no difference in {self.metric}"
            return headline, f"{headline} that {self._evidence(against)} can show ({self._nearest(against)})"
        first, *more = clear
        said = f"{self._effect(first)} ({self._certainty(first, len(against))}, {_trainings(first.pairs)})"
        others = ", ".join(f"{each.variant.label} {_signed(each.difference.value)}" for each in more)
        left = len(against) - len(clear)
        also = f"; also clear: {others}" if more else ""
        rest = f"; no difference that this can show for {left} other{'s' if left > 1 else ''}" if left else ""
        return self._effect(first), said + also + rest

    def say_alone(self, score: Score) -> tuple[str, str]:
        """What there is to say of a single variant."""
        deviation = f" ± {decimal(score.deviation, _DIGITS)}" if len(score.seeds) > 1 else ""
        headline = f"{self.metric} {decimal(score.mean, _DIGITS)}{deviation}"
        evidence = f"{_trainings(len(score.seeds))} on {self.rows}"
        return headline, f"{headline} ({evidence}); there is no second variant to compare with"

    def _subject(self) -> str:
        return self.topic or " and ".join(each.label for each in self.variants)

    def _effect(self, each: Against) -> str:
        value = each.difference.value
        name = f"{self.topic} {each.variant.label}".strip()
        size = f"{self.metric} {decimal(abs(value), _DIGITS)} {'higher' if value > 0 else 'lower'}"
        return f"{name}: {size} than {self.variants[0].label}"

    def _certainty(self, each: Against, comparisons: int) -> str:
        bounds = sorted((each.difference.low, each.difference.high), key=abs if each.is_clear else None)
        low, high = (decimal(abs(bound) if each.is_clear else bound, _DIGITS) for bound in bounds)
        adjusted = f" adjusted for {comparisons} comparisons" if comparisons > 1 else ""
        return f"{percent(self.confidence)} {low} to {high}, {say_p(each.p_value)}{adjusted}"

    def _evidence(self, against: Sequence[Against]) -> str:
        return f"{_trainings(min(each.pairs for each in against))} and {self.rows}"

    def _nearest(self, against: Sequence[Against]) -> str:
        """The comparison that is closest to showing something."""
        each = min(against, key=lambda found: (found.p_value, found.difference.p_value))
        name = f"{each.variant.label} against {self.variants[0].label}: " if self.topic or len(against) > 1 else ""
        return f"{name}{_signed(each.difference.value)}, {self._certainty(each, len(against))}"


def _trainings(count: int) -> str:
    return f"{count} seeds" if count > 1 else "1 seed"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{decimal(value, _DIGITS)}"


def say_p(value: float) -> str:
    """A p-value as it is written.

    >>> say_p(0.0041), say_p(0.0002)
    ('p = .004', 'p < .001')
    """
    return "p < .001" if value < 0.0005 else f"p = {decimal(value)}"


def _pairing(against: Sequence[Against], rows: str, config: ComparisonConfig) -> str:
    """What was paired, in words."""
    if not against:
        return f"One variant, scored on {rows} of dev."
    same = all(each.same_seeds for each in against)
    several = min(each.pairs for each in against) > 1
    seeds = "the same seeds on both sides" if same else "trainings of different seeds"
    reach = "of a new training on new rows" if several else "of these trainings on new rows, not of another seed"
    adjusted = f", p-values adjusted for {len(against)} comparisons (Holm)" if len(against) > 1 else ""
    return (
        f"Paired: the same {rows} of dev, {seeds}. Intervals are {percent(config.confidence)} percentile bootstrap "
        f"intervals over {config.resamples:,} resamples{adjusted}; they speak {reach}."
    )
