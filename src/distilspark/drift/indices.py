"""Drift between scored rows and the rows that the model was validated on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from distilspark.evaluation.predictions import Array
from distilspark.figures import decimal

QUANTILES = 10
MOVED, DRIFTED = 0.1, 0.25  # the convention of Siddiqi, Credit Risk Scorecards (2006)
CONFIDENCE = 0.95
DriftVerdict = Literal["none", "moved", "drifted"]


@dataclass(frozen=True)
class Shift:
    """A distribution compared with its reference."""

    counts: pd.DataFrame  # columns `reference`, `now`; index: the values, numbers if they are ordered, else names
    psi: float
    bound: float  # as `chance_bound`

    @property
    def verdict(self) -> DriftVerdict:
        """`moved` above .1 and `drifted` above .25, but only if the PSI is also above the bound."""
        if self.psi <= max(MOVED, self.bound):
            return "none"
        return "drifted" if self.psi > DRIFTED else "moved"


Drift = Mapping[str, Shift]  # `tokens`, `unknown_share`, `predictions` and, for classification, `scores`


def measure_drift(reference: Mapping[str, Any] | None, profile: Mapping[str, Any]) -> Drift:
    """Compare each distribution of a profile with the reference's, both as `profile_of`; empty if either has no rows.

    Tokens of a row are not independent: the bound counts each row as a single token, which errs towards no drift.
    """
    if not reference or not reference["rows"] or not profile["rows"]:
        return {}
    before, now = _distributions(reference), _distributions(profile)
    compared = {name: pd.DataFrame({"reference": before[name], "now": now[name]}).fillna(0) for name in before}
    return {name: _shift(counts, reference["rows"], profile["rows"]) for name, counts in compared.items()}


def _distributions(profile: Mapping[str, Any]) -> dict[str, pd.Series]:
    """Count rows by length, by label or by the lower edge of a bin; tokens by whether they are known."""
    lengths = pd.Series({int(length): rows for length, rows in profile["tokens"].items()})
    tokens = (lengths * lengths.index).sum()
    unknown = tokens * profile["unknown_share"]
    return {
        "tokens": lengths,
        "unknown_share": pd.Series({"unknown": unknown, "known": tokens - unknown}),
        **{name: _by_value(profile[name]) for name in ("predictions", "scores") if name in profile},
    }


def _by_value(rows: Mapping[str, Any]) -> pd.Series:
    return pd.Series(rows["rows"], index=rows["edges"][:-1]) if "edges" in rows else pd.Series(rows)


def is_ordered(counts: pd.DataFrame) -> bool:
    """Return whether the values are numbers."""
    return pd.api.types.is_numeric_dtype(counts.index)


def _shift(counts: pd.DataFrame, *rows: int) -> Shift:
    binned = counts.groupby(quantile_bins(counts["reference"].to_numpy())).sum() if is_ordered(counts) else counts
    held = binned[binned.any(axis=1)]
    psi = population_stability(held["reference"].to_numpy(), held["now"].to_numpy())
    return Shift(counts, psi, chance_bound(len(held), *rows))


def quantile_bins(reference: Array) -> Array:
    """Return the bin of each value of an ordered distribution, given its counts: values of one decile share a bin.

    A value with a tenth of the rows has its own bin, so that changes on either side of it show.

    >>> quantile_bins(np.array([5, 4, 50, 0, 3, 35, 3])).tolist()
    [0, 0, 1, 2, 2, 3, 4]
    """
    before = np.cumsum(reference) - reference
    decile = QUANTILES * before // reference.sum()
    alone = QUANTILES * reference >= reference.sum()
    return np.concatenate([[0], np.cumsum((np.diff(decile) > 0) | np.diff(alone))])


def population_stability(reference: Array, now: Array) -> float:
    """Compute the population stability index of counts by bin: the sum of (p - q) ln(p / q) over their shares.

    Siddiqi (2006); in statistics, Jeffreys' divergence. Half a row is added to every bin on both sides (Jeffreys'
    prior): an empty bin stays finite, and small samples respect `chance_bound`, which they would otherwise exceed up to
    twice as often.

    >>> round(population_stability(np.array([4, 4]), np.array([4, 1])), 4)  # 1/2, 1/2 and 3/4, 1/4
    0.2747
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (now, reference))
    return float(((p - q) * np.log(p / q)).sum())


def chance_bound(bins: int, *rows: int) -> float:
    """Return the 95th percentile of PSI under the null hypothesis of no drift, for samples of so many rows.

    Approximately the sum of 1/rows, times a chi-square quantile with bins - 1 degrees of freedom: Yurdakul, Statistical
    Properties of Population Stability Index (2018).
    """
    quantile = special.chdtri(max(1, bins - 1), 1 - CONFIDENCE)  # scipy.stats takes a second to import
    return float(sum(1 / sample for sample in rows) * quantile)


def worst_verdict(drift: Drift) -> DriftVerdict:
    """Return the worst verdict."""
    verdicts = {shift.verdict for shift in drift.values()}
    return "drifted" if "drifted" in verdicts else "moved" if "moved" in verdicts else "none"


def describe_drift(drift: Drift) -> str:
    """List the distributions that drifted or moved, the highest PSI first; `none` if there are none."""
    found = sorted((item for item in drift.items() if item[1].verdict != "none"), key=lambda item: -item[1].psi)
    return (
        ", ".join(f"{name.replace('_', ' ')} {shift.verdict} (PSI {decimal(shift.psi)})" for name, shift in found)
        or "none"
    )


def as_records(drift: Drift) -> list[dict[str, Any]]:
    """Return PSI, bound and verdict of each distribution."""
    return [
        {"distribution": name, "psi": shift.psi, "bound": shift.bound, "verdict": shift.verdict}
        for name, shift in drift.items()
    ]
