"""The figures of a comparison: scores and differences, every metric, training curves, agreement."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from distilspark.evaluation.bootstrap import Score
from distilspark.evaluation.findings import Comparison, Findings, format_p
from distilspark.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE_BLUE,
    PALETTE,
    count_rows,
    decimal,
    label_line_ends,
    new_figure,
    percent,
    styled,
)
from distilspark.metrics import METRICS, Metric

_NAME_WIDTH = 24  # characters of a variant's name on one line


def comparison_plots(
    findings: Findings, histories: Mapping[str, Sequence[pd.DataFrame]], agreed: pd.DataFrame
) -> dict[str, Figure]:
    """Draw `differences`, `metrics`, `curves` (if there are histories) and `agreement` (of two variants or more).

    `histories` holds each variant's trainings, with the columns `epoch`, `val/loss` and `val/<metric>`; `agreed` is as
    `agreement` returns it.
    """
    with styled():
        figures = {"differences": _differences(findings), "metrics": _metrics(findings)}
        if any(len(history) for trainings in histories.values() for history in trainings):
            figures["curves"] = _curves(findings, histories)
        if len(agreed) > 1:
            figures["agreement"] = _agreement(findings, agreed)
    return figures


def _caption(findings: Findings, note: str) -> str:
    return f"{findings.task.title} · {count_rows(findings.rows)} of dev · {note}"


def _names(findings: Findings) -> list[str]:
    return [textwrap.fill(variant.label, _NAME_WIDTH) for variant in findings.variants]


def _limit_places(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")


def _height(findings: Findings) -> float:
    return 0.3 * sum(max(2, name.count("\n") + 1) for name in _names(findings))


# Differences


def _differences(findings: Findings) -> Figure:
    metric = findings.task.headline
    seeds = "; small dots: seeds" if any(len(each.seeds) > 1 for each in findings.variants) else ""
    note = f"lines: {percent(findings.confidence)} bootstrap intervals{seeds}"
    figure = new_figure(findings.headline, _caption(findings, note), width=8, height=1.9 + _height(findings))
    panels = figure.subplots(1, 2 if findings.comparisons else 1, squeeze=False, sharey=True)[0]
    _draw_scores(panels[0], [findings.scores[each.label][metric.name] for each in findings.variants])
    panels[0].set_xlabel(f"{metric.title} ({metric.direction})")
    _limit_places(panels[0], _names(findings))
    if findings.comparisons:
        _draw_comparisons(panels[1], findings.comparisons)
        panels[1].set_xlabel(f"Difference in {metric.title} from {findings.variants[0].label}")
    return figure


def _draw_scores(axes: Axes, scores: Sequence[Score]) -> None:
    for place, score in enumerate(scores):
        axes.plot([score.low, score.high], [place, place], color=INK, lw=1.4, zorder=2)
        axes.plot(score.mean, place, "o", color=BLUE, ms=8, zorder=3)
        if len(score.seeds) > 1:
            offset = np.full(len(score.seeds), place + 0.22)
            axes.plot(score.seeds, offset, "o", color=PALE_BLUE, ms=4.5, zorder=3)
        axes.annotate(decimal(score.mean), (score.mean, place), (0, 8), textcoords="offset points", ha="center")
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _draw_comparisons(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    axes.axvline(0, color=GREY, ls="--", lw=1.2)
    for place, each in enumerate(comparisons, start=1):
        found, colour = each.difference, ORANGE if each.is_clear else GREY
        axes.plot([found.low, found.high], [place, place], color=colour, lw=2, zorder=2)
        axes.plot(found.value, place, "o", color=colour, ms=8, zorder=3)
        sign = "+" if found.value > 0 else ""
        text = f"{sign}{decimal(found.value)}, {format_p(each.p_value)}"
        axes.annotate(text, (found.value, place), (0, 8), textcoords="offset points", ha="center")
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5))


# Quality against cost


def cost_plot(findings: Findings, costs: pd.DataFrame) -> Figure:
    """Draw each variant's quality against its rows a second and its megabytes.

    `costs` is as `distilspark.promotion.costs.tabulate_costs` returns it.
    """
    note = (
        f"lines: {percent(findings.confidence)} bootstrap intervals; blue: the first variant; orange: the gate would "
        "promote it; all packages were timed in turn on this machine"
    )
    with styled():
        legend = 0.2 + 0.21 * len(costs)  # inches
        figure = new_figure(_cheapest(findings, costs), _caption(findings, note), width=9, height=4.4 + legend)
        grid = figure.add_gridspec(2, 2, height_ratios=[3.2, legend])
        left = figure.add_subplot(grid[0, 0])
        right = figure.add_subplot(grid[0, 1], sharey=left)
        _draw_costs(left, findings, costs, "rows_a_second")
        left.set_xlabel("Rows a second (higher is better)")
        _draw_costs(right, findings, costs, "megabytes")
        right.set_xlabel("Megabytes (lower is better)")
        left.set_ylabel(f"{findings.task.headline.title} ({findings.task.headline.direction})")
        names = [f"{number}  {name}" for number, name in enumerate(costs["variant"], start=1)]
        handles = [Line2D([], [], color=colour, marker="o", ls="") for colour in _colours(costs)]
        below = figure.add_subplot(grid[1, :])
        below.set_axis_off()
        below.legend(handles, names, loc="upper left", borderaxespad=0)
    return figure


def _cheapest(findings: Findings, costs: pd.DataFrame) -> str:
    """Name the fastest of the variants that the gate would promote over the first."""
    first, promoted = findings.variants[0].label, costs[costs["gate"] == "promoted"]
    if promoted.empty:
        return f"The gate would promote none over {first}"
    best = promoted.sort_values("times_as_fast").iloc[-1]
    return (
        f"The gate would promote {best['variant']} over {first}: {best['times_as_fast']:.2f} times as fast, "
        f"{best['times_as_large']:.2f} times as large"
    )


def _colours(costs: pd.DataFrame) -> list[str]:
    return [BLUE, *(ORANGE if gate == "promoted" else GREY for gate in costs["gate"].iloc[1:])]


def _draw_costs(axes: Axes, findings: Findings, costs: pd.DataFrame, column: str) -> None:
    metric = findings.task.metric
    for number, (row, colour) in enumerate(zip(costs.to_dict("records"), _colours(costs), strict=True), start=1):
        axes.plot([row[column]] * 2, [row["low"], row["high"]], color=colour, lw=1.6, zorder=2)
        axes.plot(row[column], row[metric], "o", color=colour, ms=8, zorder=3)
        place = (row[column], row[metric])
        beside = (8, 4) if number % 2 else (-14, 4)  # neighbours are often near each other
        axes.annotate(str(number), place, beside, textcoords="offset points", color=INK, fontsize=9)
    axes.margins(x=0.15)
    axes.set_xlim(left=max(0, axes.get_xlim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(4))


# Every metric


def _metrics(findings: Findings) -> Figure:
    metrics, columns = [METRICS[name] for name in findings.task.head_kind.metrics], 3
    rows = -(-len(metrics) // columns)
    note = f"bars: means over seeds with {percent(findings.confidence)} bootstrap intervals"
    height = 1.4 + rows * (0.8 + 0.8 * _height(findings))
    figure = new_figure(_best_of_all(findings, metrics), _caption(findings, note), width=9, height=height)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=False):
        _draw_bars(axes, [findings.scores[each.label][metric.name] for each in findings.variants])
        axes.set_title(metric.title if metric.higher_is_better else f"{metric.title} ({metric.direction})")
        _limit_places(axes, _names(findings))
    for axes in panels[len(metrics) :]:
        axes.set_axis_off()
    return figure


def _best_of_all(findings: Findings, metrics: Sequence[Metric]) -> str:
    """Name the variant with the best mean in most metrics."""
    best = [_best_variant(findings, metric) for metric in metrics]
    winner = max(findings.scores, key=best.count)
    return f"{winner} scores best in {best.count(winner)} of {len(metrics)} metrics"


def _best_variant(findings: Findings, metric: Metric) -> str:
    return metric.best(findings.scores, lambda label: findings.scores[label][metric.name].mean)


def _draw_bars(axes: Axes, scores: Sequence[Score]) -> None:
    places = np.arange(len(scores))
    values = np.array([score.mean for score in scores])
    # A percentile interval of few rows may exclude the metric itself: avoid bars of negative length.
    reach = np.clip([[score.mean - score.low, score.high - score.mean] for score in scores], 0, None).T
    axes.barh(places, values, height=0.56, color=[BLUE, *[PALE_BLUE] * (len(scores) - 1)])
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3)
    axes.axvline(0, color=GREY, lw=0.8)
    reached = [0.0, *(score.high for score in scores), *(max(score.low, -1) for score in scores)]
    axes.set_xlim(1.05 * min(reached), 1.35 * max(reached) or 1)
    for place, score in zip(places, scores, strict=True):
        end = max(score.high, score.mean, 0)
        axes.annotate(decimal(score.mean), (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(4, prune="upper"))


# Training


def _curves(findings: Findings, histories: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    metric = findings.task.headline
    several = any(len(trainings) > 1 for trainings in histories.values())
    note = "thick: means over seeds; thin: seeds" if several else "one training each"
    best = _best_validation(findings, histories)
    figure = new_figure(f"On the validation split {best}", f"{findings.task.title} · {note}", width=9, height=4.2)
    losses, scores = figure.subplots(1, 2)
    for axes, column, title in (
        (losses, "val/loss", "Validation loss (lower is better)"),
        (scores, f"val/{metric.name}", f"Validation {metric.title} ({metric.direction})"),
    ):
        _draw_curves(axes, histories, column)
        axes.set_title(title)
    return figure


def _best_validation(findings: Findings, histories: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Name the variant with the best task metric in any epoch, and the epoch."""
    metric = findings.task.headline
    means = {label: _mean_history(trainings, f"val/{metric.name}") for label, trainings in histories.items()}
    reached = [(value, label, epoch) for label, mean in means.items() for epoch, value in mean.items()]
    if not reached:
        return f"no {metric.title} was logged"
    value, label, epoch = metric.best(reached, lambda each: each[0])
    return f"{label} comes furthest: {metric.title} {decimal(value)} in epoch {epoch}"


def _mean_history(trainings: Sequence[pd.DataFrame], column: str) -> pd.Series:
    """Return the mean over trainings by epoch, for the epochs that all of them reached."""
    curves = [history.set_index("epoch")[column].dropna() for history in trainings if column in history]
    return pd.concat(curves, axis=1, join="inner").mean(axis=1) if curves else pd.Series(dtype=float)


def _draw_curves(axes: Axes, histories: Mapping[str, Sequence[pd.DataFrame]], column: str) -> None:
    ends, last = {}, 1
    for (label, trainings), colour in zip(histories.items(), cycle(PALETTE), strict=False):
        drawn = [history.dropna(subset=[column]) for history in trainings if column in history]
        for history in drawn if len(drawn) > 1 else []:
            axes.plot(history["epoch"], history[column], color=colour, lw=0.9, alpha=0.5)
        mean = _mean_history(trainings, column)
        if len(mean):
            axes.plot(mean.index, mean, "o-", color=colour, ms=6, mec="white")
            name = textwrap.shorten(label, _NAME_WIDTH + 4, placeholder=" …")
            ends[name if name not in ends else label] = (float(mean.index[-1]), float(mean.iloc[-1]), colour)
        last = max(last, *(int(history["epoch"].max()) for history in drawn), 1)
    axes.margins(y=0.16)
    axes.set_xlim(0.7, last + 0.3 + 0.45 * max(last - 1, 1))
    axes.set_xticks(range(1, last + 1, 1 + last // 10))
    axes.set_xlabel("Epoch")
    label_line_ends(axes, ends)


# Agreement


def _agreement(findings: Findings, agreed: pd.DataFrame) -> Figure:
    what, size, names = findings.task.head_kind.agreement, len(agreed), _names(findings)
    values = agreed.to_numpy()
    apart = values.copy()
    np.fill_diagonal(apart, np.inf)
    least = " and ".join(str(agreed.index[int(place)]) for place in np.unravel_index(apart.argmin(), apart.shape))
    seeds = "; diagonal: a variant's seeds" if any(len(each.seeds) > 1 for each in findings.variants) else ""
    title = f"Least agreement: {least}, {what} {decimal(apart.min())}"
    side = min(0.9 * size, 9)
    figure = new_figure(title, _caption(findings, f"{what}{seeds}"), width=max(5.5, 3.2 + side), height=2.1 + side)
    axes = figure.subplots()
    axes.imshow(agreed, cmap=sns.light_palette(BLUE, as_cmap=True), vmin=min(0.5, apart.min()), vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.85 else INK
        axes.annotate(decimal(value), (column, row), ha="center", va="center", color=colour)
    axes.set_xticks(range(size), names, rotation=0 if size < 4 else 30, ha="center" if size < 4 else "right")
    axes.set_yticks(range(size), names)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure
