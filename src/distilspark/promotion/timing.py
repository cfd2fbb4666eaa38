"""The speed of packaged models, which score the same rows in turn in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from distilspark.config import EvaluationConfig, TimingConfig
from distilspark.evaluation.predictions import Array
from distilspark.package.pyfunc import Scorer


@dataclass(frozen=True)
class Speedup:
    """The factor by which the second model is faster, with the bootstrap interval of the median."""

    value: float
    low: float
    high: float


def time_in_turn(models: Sequence[Callable[[], object]], rounds: int) -> Array:
    """Measure the seconds (models, rounds) of each, after a warm-up round.

    The order alternates, so that a temporary slowdown of the machine affects all.
    """
    seconds = np.empty((len(models), rounds))
    for score in models:
        score()
    for number in range(rounds):
        for which in range(len(models))[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            models[which]()
            seconds[which, number] = time.perf_counter() - started
    return seconds


def time_packages(folders: Sequence[Path], rows: pd.DataFrame, timing: TimingConfig) -> tuple[Array, int]:
    """Measure the seconds (packages, rounds) to score evenly spaced rows; return them and the number of rows."""
    chosen = rows.iloc[np.linspace(0, len(rows) - 1, min(timing.rows, len(rows))).astype(int)]
    return time_in_turn([partial(Scorer(folder).predict, chosen) for folder in folders], timing.rounds), len(chosen)


def speedup(first: Array, second: Array, config: EvaluationConfig) -> Speedup:
    """Compute how many times faster `second` was, in the median round."""
    ratios = first / second
    drawn = np.random.default_rng(config.seed).choice(ratios, (config.resamples, len(ratios)))
    tails = [(1 - config.confidence) / 2, (1 + config.confidence) / 2]
    low, high = np.quantile(np.median(drawn, axis=1), tails)
    return Speedup(float(np.median(ratios)), float(low), float(high))
