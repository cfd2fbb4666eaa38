"""Drift: how far the rows that were scored are from those that the model was validated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from distilspark.evaluation.predictions import Array
from distilspark.figures import decimal

QUANTILES = 10
MOVED, DRIFTED = 0.1, 0.25  # the convention of Siddiqi, Credit Risk Scorecards (2006)
CONFIDENCE = 0.95
Verdict = Literal["none", "moved", "drifted"]


@dataclass(frozen=True)
class Shift:
    """One distribution beside its reference."""

    rows: pd.DataFrame  # columns `reference` and `now`, by value: what is ordered has numbers as its index, else names
    psi: float
    bound: float  # what chance alone seldom exceeds

    @property
    def verdict(self) -> Verdict:
        """`moved` above .1 and `drifted` above .25, but only where the PSI is above the bound, too."""
        if self.psi <= max(MOVED, self.bound):
            return "none"
        return "drifted" if self.psi > DRIFTED else "moved"


Drift = Mapping[str, Shift]  # `tokens`, `unknown_share`, `predictions` and, for classification, `scores`


def measure_drift(reference: Mapping[str, Any] | None, profile: Mapping[str, Any]) -> Drift:
    """Each distribution of a profile against the reference's, both as `profile_of`; none where either has no rows.

    Tokens of a row are not independent: the unknown share counts as if each row were one token, which errs towards no
    drift.
    """
    if not reference or not reference["rows"] or not profile["rows"]:
        return {}
    before, now = _distributions(reference), _distributions(profile)
    compared = {name: pd.DataFrame({"reference": before[name], "now": now[name]}).fillna(0) for name in before}
    return {name: _shift(rows) for name, rows in compared.items()}


def _distributions(profile: Mapping[str, Any]) -> dict[str, pd.Series]:
    """Rows by length, by label or by the lower edge of a bin; of tokens those that are unknown, in rows."""
    unknown = profile["unknown_share"] * profile["rows"]
    return {
        "tokens": pd.Series({int(length): rows for length, rows in profile["tokens"].items()}),
        "unknown_share": pd.Series({"unknown": unknown, "known": profile["rows"] - unknown}),
        **{name: _by_value(profile[name]) for name in ("predictions", "scores") if name in profile},
    }


def _by_value(rows: Mapping[str, Any]) -> pd.Series:
    return pd.Series(rows["rows"], index=rows["edges"][:-1]) if "edges" in rows else pd.Series(rows)


def is_ordered(rows: pd.DataFrame) -> bool:
    """Whether the values are numbers."""
    return pd.api.types.is_numeric_dtype(rows.index)


def _shift(rows: pd.DataFrame) -> Shift:
    binned = rows.groupby(quantile_bins(rows["reference"].to_numpy())).sum() if is_ordered(rows) else rows
    reference, now = binned["reference"].to_numpy(), binned["now"].to_numpy()
    return Shift(rows, population_stability(reference, now), chance_bound(reference, now))


def quantile_bins(reference: Array) -> Array:
    """The bin of each value of an ordered distribution, given its rows: values that start in the same decile share one.

    A value that has a tenth of the rows by itself has a bin to itself, so that what lies on either side of it shows.

    >>> quantile_bins(np.array([5, 5, 10, 60, 0, 20, 0])).tolist()
    [0, 0, 1, 2, 3, 3, 4]
    """
    before = np.cumsum(reference) - reference
    decile = QUANTILES * before // reference.sum()
    alone = QUANTILES * reference >= reference.sum()
    return np.concatenate([[0], np.cumsum((np.diff(decile) > 0) | np.diff(alone))])


def population_stability(reference: Array, now: Array) -> float:
    """The population stability index of rows by bin: the sum of (p - q) ln(p / q) over their shares.

    Siddiqi (2006); statistics knows it as Jeffreys' divergence. A share below half a row of the smaller sample counts
    as that on both sides: an empty bin is finite, and one that a small sample cannot be expected to fill adds nothing.

    >>> population_stability(np.array([50, 50]), np.array([300, 100])) == 0.25 * np.log(3)
    True
    """
    least = 0.5 / min(reference.sum(), now.sum())
    p, q = (np.maximum(rows / rows.sum(), least) for rows in (now, reference))
    return float(((p - q) * np.log(p / q)).sum())


def chance_bound(reference: Array, now: Array) -> float:
    """What the index of two samples of the same population stays below 95 times of 100.

    About (1/n + 1/m) times a chi-square of one degree of freedom less than there are bins: Yurdakul, Statistical
    Properties of Population Stability Index (2018).
    """
    freedom = max(1, np.count_nonzero(reference + now) - 1)
    return float((1 / reference.sum() + 1 / now.sum()) * stats.chi2.ppf(CONFIDENCE, freedom))


def worst(drift: Drift) -> Verdict:
    """The verdict on all of it."""
    verdicts = {shift.verdict for shift in drift.values()}
    return "drifted" if "drifted" in verdicts else "moved" if "moved" in verdicts else "none"


def describe(drift: Drift) -> str:
    """What drifted or moved, the farthest first; `none`."""
    found = sorted((item for item in drift.items() if item[1].verdict != "none"), key=lambda item: -item[1].psi)
    return ", ".join(f"{name} {shift.verdict} (PSI {decimal(shift.psi)})" for name, shift in found) or "none"


def as_records(drift: Drift) -> list[dict[str, Any]]:
    """Figures and verdict of each distribution."""
    return [
        {"distribution": name, "psi": shift.psi, "bound": shift.bound, "verdict": shift.verdict}
        for name, shift in drift.items()
    ]
