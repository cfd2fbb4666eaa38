"""Plots of a profile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distilspark.figures import BLUE, GREY, count_rows, new_figure, percent, styled


def profile_figures(profile: dict[str, Any], max_length: int) -> dict[str, Figure]:
    """Draw `tokens` and `predictions`; nothing if nothing was scored."""
    if not profile["rows"]:
        return {}
    return {"tokens": _token_figure(profile, max_length), "predictions": _prediction_figure(profile)}


def _token_figure(profile: dict[str, Any], max_length: int) -> Figure:
    lengths = {int(length): rows for length, rows in profile["tokens"].items()}
    cut = sum(rows for length, rows in lengths.items() if length > max_length) / profile["rows"]
    caption = (
        f"{count_rows(profile['rows'])} that were scored; special tokens included; "
        f"{percent(profile['unknown_share'], 2)} of the tokens are unknown to the vocabulary"
    )
    with styled():
        figure = new_figure(f"{percent(cut, 1)} of the rows are longer than {max_length} tokens and were cut", caption)
        axes = figure.subplots()
        most = min(max(lengths), 4 * max_length)  # a few very long rows must not hide all others
        edges = np.linspace(0, most + 1, min(most + 2, 60))
        shown = np.minimum(list(lengths), most)
        axes.hist(shown, bins=list(edges), weights=list(lengths.values()), color=BLUE)
        axes.axvline(max_length, linestyle="--", color=GREY, linewidth=1.2, label=f"max_length {max_length}")
        axes.set(xlabel="Tokens a row", ylabel="Rows")
        axes.legend()
    return figure


def _prediction_figure(profile: dict[str, Any]) -> Figure:
    shares = _shares(profile["predictions"], profile["rows"])
    first = max(shares, key=lambda name: shares[name])
    with styled():
        figure = new_figure(
            f"{first} is predicted most often: {percent(shares[first], 1)} of the rows",
            f"{count_rows(profile['rows'])} that were scored",
        )
        axes = figure.subplots()
        axes.grid(visible=False, axis="x")
        axes.bar(list(shares), list(shares.values()), color=BLUE)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set(xlabel="Prediction", ylabel="Share of the rows")
        axes.tick_params(axis="x", rotation=90 if len(shares) > 10 else 0)
    return figure


def _shares(predictions: dict[str, Any], rows: int) -> dict[str, float]:
    """Return shares by label, or by the bin of the predicted value."""
    if "edges" not in predictions:
        return {label: count / rows for label, count in predictions.items()}
    edges = predictions["edges"]
    names = [f"{low:.2f} to {high:.2f}" for low, high in pairwise(edges)]
    return {name: count / rows for name, count in zip(names, predictions["rows"], strict=True)}
