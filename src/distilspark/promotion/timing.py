"""The speed of two packaged models, which score the same rows in turn in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from distilspark.config import EvaluationConfig
from distilspark.evaluation.predictions import Array


@dataclass(frozen=True)
class Speedup:
    """The factor by which the second is faster, with the bootstrap interval of the median."""

    value: float
    low: float
    high: float


def time_in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[Array, Array]:
    """Measure the seconds (rounds,) of each; a round before the first one warms both up.

    Who begins alternates: what slows the machine down for a while hits both.
    """
    seconds = np.empty((2, rounds))
    both = (first, second)
    for score in both:
        score()
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            started = time.perf_counter()
            both[which]()
            seconds[which, number] = time.perf_counter() - started
    return seconds[0], seconds[1]


def speedup(first: Array, second: Array, config: EvaluationConfig) -> Speedup:
    """Measure how many times faster `second` was, in the median round."""
    ratios = first / second
    drawn = np.random.default_rng(config.seed).choice(ratios, (config.resamples, len(ratios)))
    tails = [(1 - config.confidence) / 2, (1 + config.confidence) / 2]
    low, high = np.quantile(np.median(drawn, axis=1), tails)
    return Speedup(float(np.median(ratios)), float(low), float(high))
