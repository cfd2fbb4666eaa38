"""Find where a cost stops growing linearly in the points of `growth.py`, and describe it in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from math import log
from typing import Any

LINEAR = (0.8, 1.2)  # the exponents that count as linear growth


def describe_growth(points: Sequence[Mapping[str, Any]], shared: bool) -> str:
    """Return a sentence about the growth of `seconds` with `size`, or about their fall where the work is shared.

    >>> seconds = {1_000: 5.0, 10_000: 7.0, 50_000: 35.0, 100_000: 105.0}
    >>> print(describe_growth([{"size": size, "seconds": value} for size, value in seconds.items()], False))
    100 times as many cost 21 times as much: below linear up to 10,000, linear up to 50,000, above linear up to 100,000.
    >>> describe_growth([{"size": 1, "seconds": 5.0}, {"size": 2, "seconds": 3.0}], True)
    '2 times as many are 1.67 times as fast.'
    """
    first, last = points[0], points[-1]
    size, seconds = last["size"] / first["size"], last["seconds"] / first["seconds"]
    if shared:
        return f"{ratio(size)} times as many are {ratio(1 / seconds)} times as fast."
    steps = [(_growth(start, end), end["size"]) for start, end in pairwise(points)]
    groups = [(growth, list(group)[-1][1]) for growth, group in groupby(steps, key=lambda step: step[0])]
    parts = [f"{growth} up to {short_count(end)}" for growth, end in groups]
    return f"{ratio(size)} times as many cost {ratio(seconds)} times as much: {', '.join(parts)}."


def _growth(start: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    """Classify the growth between two points by its exponent: seconds ~ size ** exponent."""
    exponent = log(end["seconds"] / start["seconds"]) / log(end["size"] / start["size"])
    low, high = LINEAR
    return "below linear" if exponent < low else "linear" if exponent <= high else "above linear"


def ratio(value: float) -> str:
    """Write a ratio with three digits at most.

    >>> ratio(1.666), ratio(32), ratio(2510.4)
    ('1.67', '32', '2,510')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def short_count(value: float) -> str:
    """Write a number of things.

    >>> short_count(300_000), short_count(10_646_784)
    ('300,000', '10.6 million')
    """
    return f"{value / 1e6:.1f} million" if value >= 1e6 else f"{value:,.0f}"
