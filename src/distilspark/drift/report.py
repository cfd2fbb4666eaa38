"""The report on drift: a printed line, a tag, a table and a plot."""

from __future__ import annotations

import mlflow
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distilspark.console import print_line
from distilspark.drift.indices import (
    CONFIDENCE,
    DRIFTED,
    MOVED,
    Drift,
    Shift,
    as_records,
    describe_drift,
    is_ordered,
    worst_verdict,
)
from distilspark.evaluation.predictions import Array
from distilspark.figures import BLUE, DARK_ORANGE, INK, PALE_GREY, count_rows, decimal, new_figure, percent, styled
from distilspark.package.load import TaskModel
from distilspark.tracking.results import log_figures, log_tables

MAX_STEPS = 40
SHOWN_SHARE = 0.99  # of the rows, by length: a few very long ones must not hide all others
TITLES = {
    "tokens": "Tokens a row",
    "unknown_share": "Unknown tokens",
    "predictions": "Predictions",
    "scores": "Scores",
}


def report_drift(drift: Drift, model: TaskModel) -> None:
    """Print the drift from the model's validation rows, and log it to the active run."""
    if model.profile is None:
        print_line("drift is not measured: the model was packaged without a profile of its validation rows")
    if not drift:
        return
    print_line(f"drift from the model's validation rows: {describe_drift(drift)}")
    mlflow.set_tag("drift", worst_verdict(drift))
    log_tables({"drift": pd.DataFrame(as_records(drift))}, "drift")
    log_figures({"distributions": drift_figure(drift)}, "drift")


def drift_figure(drift: Drift) -> Figure:
    """Draw each distribution of the scored rows over that of the validation rows, with its PSI."""
    found = describe_drift(drift)
    title = "No drift from the model's validation rows" if found == "none" else found[0].upper() + found[1:]
    with styled():
        figure = new_figure(title.replace("PSI ", "PSI\N{NO-BREAK SPACE}"), _caption(drift), width=8.4, height=6.2)
        panels = figure.subplot_mosaic([["tokens", "unknown_share"], ["predictions", list(drift)[-1]]])
        for name, shift in drift.items():
            _draw(panels[name], name, shift.counts / shift.counts.sum())
            _write_title(panels[name], TITLES[name], shift)
        # the only panel that always has room
        panels["unknown_share"].legend(*panels["tokens"].get_legend_handles_labels(), loc="upper left")
    return figure


def _caption(drift: Drift) -> str:
    before, now = (count_rows(int(drift["tokens"].counts[side].sum())) for side in ("reference", "now"))
    return (
        f"{now} that were scored, {before} of the model's validation split; population stability index (PSI): above "
        f"{decimal(MOVED)} moved, above {decimal(DRIFTED)} drifted, unless it is within what chance alone does in "
        f"{percent(CONFIDENCE)} of samples of this size"
    )


def _write_title(axes: Axes, title: str, shift: Shift) -> None:
    is_found = shift.verdict != "none"
    within = "within chance" if shift.psi > MOVED else "stable"
    note = shift.verdict if is_found else within
    axes.set_title(f"{title}: PSI {decimal(shift.psi)}, {note}", color=DARK_ORANGE if is_found else INK)


def _draw(axes: Axes, name: str, shares: pd.DataFrame) -> None:
    if name == "tokens":
        _draw_lengths(axes, shares)
    elif name == "unknown_share":
        _draw_bars(axes, shares.loc[["unknown"]], digits=2)
        axes.set(xlim=(-1.6, 0.6), ylim=(0, max(0.01, axes.get_ylim()[1])), ylabel="Share of the tokens")
    elif is_ordered(shares):
        _draw_bins(axes, shares)
    else:
        _draw_bars(axes, shares)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_lengths(axes: Axes, shares: pd.DataFrame) -> None:
    low, high = shares.index[0], shares.index[(shares.cumsum() >= SHOWN_SHARE).all(axis=1)][0]
    width = 1 + (high - low) // MAX_STEPS
    _draw_steps(axes, shares, np.arange(low, high + width + 1, width) - 0.5)


def _draw_bins(axes: Axes, shares: pd.DataFrame) -> None:
    """Draw the bins, without empty ones at both ends."""
    lows, held = shares.index.to_numpy(), np.flatnonzero(shares.any(axis=1))
    edges = np.append(lows, 2 * lows[-1] - lows[-2])
    _draw_steps(axes, shares, edges[held[0] : held[-1] + 2])


def _draw_steps(axes: Axes, shares: pd.DataFrame, edges: Array) -> None:
    before, now = (np.histogram(shares.index, edges, weights=shares[side])[0] for side in ("reference", "now"))
    axes.stairs(before, edges, fill=True, color=PALE_GREY, label="validation rows")
    axes.stairs(now, edges, color=BLUE, linewidth=2, label="rows that were scored")
    axes.set_ylabel("Share of the rows")


def _draw_bars(axes: Axes, shares: pd.DataFrame, digits: int = 1) -> None:
    places = np.arange(len(shares))
    for side, offset, colour in (("reference", -0.2, PALE_GREY), ("now", 0.2, BLUE)):
        bars = axes.bar(places + offset, shares[side], width=0.38, color=colour)
        axes.bar_label(bars, [percent(share, digits) for share in shares[side]], padding=2, fontsize=9)
    axes.set_xticks(places, shares.index)
    axes.margins(y=0.15)
    axes.set_ylabel("Share of the rows")
    axes.grid(visible=False, axis="x")
