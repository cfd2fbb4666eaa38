"""The figures of an evaluation and of a training history; every title states the finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy import stats
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

from distilspark.config import TaskConfig
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.slices import score_bands
from distilspark.figures import (
    BLUE,
    DARK_ORANGE,
    GREY,
    INK,
    MINUS,
    ORANGE,
    PALE_BLUE,
    PALETTE,
    count_rows,
    decimal,
    label_line_ends,
    new_figure,
    percent,
    save_png,
    signed,
    styled,
    with_interval,
)
from distilspark.metrics import METRICS, Metric

__all__ = ["Results", "evaluation_plots", "history_plot", "save_png"]

_ERROR = f"Error: prediction {MINUS} label (points)"
_JITTER = 0.05


@dataclass(frozen=True)
class Results:
    """Predictions with their metrics, the metrics' intervals, and the metrics of the best constant prediction."""

    task: TaskConfig
    predictions: Predictions
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline: dict[str, float]
    confidence: float  # of the intervals

    def title(self, metric: Metric) -> str:
        """Write a metric with its interval."""
        return with_interval(metric.title, self.metrics[metric.name], self.intervals[metric.name], self.confidence)

    def caption(self, note: str = "") -> str:
        """Write the task and number of rows of a figure."""
        return " · ".join(filter(None, [self.task.title, count_rows(len(self.predictions.labels)), note]))


def evaluation_plots(results: Results) -> dict[str, Figure]:
    """Draw the figures that the task's head names in `Head.plots`."""
    with styled():
        return {name: PLOTS[name](results) for name in results.task.head_kind.plots}


# Metrics of all heads


def _metric_bars(results: Results) -> Figure:
    headline, baseline = results.task.headline, results.task.head_kind.baseline
    title = f"{results.title(headline)}; {baseline} scores {decimal(results.baseline[headline.name])}"
    note = f"bars: {percent(results.confidence)} bootstrap intervals over rows"
    metrics = [METRICS[name] for name in results.metrics]
    groups = {
        "Higher is better": [metric for metric in metrics if metric.higher_is_better],
        "Lower is better (points, MSE: points²)": [metric for metric in metrics if not metric.higher_is_better],
    }
    shown = {heading: group for heading, group in groups.items() if group}
    sizes = [len(group) for group in shown.values()]
    figure = new_figure(title, results.caption(note), height=1.4 + 0.55 * sum(sizes) + 0.5 * len(sizes))
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (heading, group) in zip(panels, shown.items(), strict=True):
        _draw_bars(axes, group, results)
        _draw_baseline(axes, [results.baseline[metric.name] for metric in group])
        axes.set_title(heading if len(shown) > 1 else "", color=GREY)
    _label_baseline(panels[-1], results.baseline[next(reversed(shown.values()))[0].name], baseline)
    return figure


def _draw_bars(axes: Axes, metrics: Sequence[Metric], results: Results) -> None:
    """Draw metrics of one direction."""
    names = [metric.name for metric in metrics]
    places, values = np.arange(len(names)), np.array([results.metrics[name] for name in names])
    bounds = np.array([results.intervals[name] for name in names])
    # A percentile interval of few rows may exclude the metric itself: avoid bars of negative length.
    reach = np.clip([values - bounds[:, 0], bounds[:, 1] - values], 0, None)
    colours = [BLUE if name == results.task.metric else PALE_BLUE for name in names]
    axes.barh(places, values, height=0.56, color=colours)
    axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3)
    for place, value, (low, high) in zip(places, values, bounds, strict=True):
        text = f"{decimal(value)}  ({decimal(low)} to {decimal(high)})"
        axes.annotate(text, (1.035, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.set_yticks(places, [metric.title for metric in metrics], fontsize=10)
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.set_xlim(*metrics[0].axis([*bounds.ravel(), *(results.baseline[name] for name in names)]))
    axes.grid(False, axis="y")
    axes.axvline(0, color=GREY, lw=0.8)


def _draw_baseline(axes: Axes, scores: Sequence[float]) -> None:
    for place, score in enumerate(scores):
        if score >= axes.get_xlim()[0]:
            axes.plot([score] * 2, [place - 0.38, place + 0.38], color=ORANGE, lw=2.5, zorder=4, clip_on=False)


def _label_baseline(axes: Axes, score: float, name: str) -> None:
    """Label the baseline above its topmost mark, on the side with room."""
    left, right = axes.get_xlim()
    place = (max(score, left) - left) / (right - left)
    side = "left" if place < 0.3 else "right" if place > 0.7 else "center"
    axes.annotate(name, (max(score, left), -0.42), ha=side, va="bottom", color=DARK_ORANGE, fontsize=9)


# Classification


def _confusion_matrix(results: Results) -> Figure:
    task, predictions = results.task, results.predictions
    classes = range(len(task.labels))
    counts = confusion_matrix(predictions.labels.astype(int), predictions.predicted, labels=list(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    caption = results.caption("percent of each true label")
    side = 1.2 * len(classes)
    figure = new_figure(_worst_confusion(task, shares), caption, width=4.4 + side, height=2 + side)
    axes = figure.subplots()
    axes.imshow(shares, cmap=sns.light_palette(BLUE, as_cmap=True), vmin=0, vmax=1, aspect="auto")
    for true, predicted in np.ndindex(counts.shape):
        _write_cell(axes, (predicted, true), int(counts[true, predicted]), float(shares[true, predicted]))
    totals = [f"{name}\n{count_rows(rows)}" for name, rows in zip(task.labels, counts.sum(axis=1), strict=True)]
    axes.set_xticks(classes, task.labels)
    axes.set_yticks(classes, totals)
    axes.set(xlabel="Predicted", ylabel="True")
    axes.grid(False)
    borders = np.arange(0.5, len(classes) - 1)
    axes.hlines(borders, *axes.get_xlim(), color="white", lw=3)
    axes.vlines(borders, *axes.get_ylim(), color="white", lw=3)
    axes.spines[:].set_visible(False)
    return figure


def _write_cell(axes: Axes, place: tuple[float, float], count: int, share: float) -> None:
    colour = "white" if share > 0.6 else INK
    for text, size, height in [(f"{count:,}", 16, 0), (percent(share, 1), 9, -15)]:
        axes.annotate(text, place, (0, height), textcoords="offset points", ha="center", color=colour, fontsize=size)


def _worst_confusion(task: TaskConfig, shares: Array) -> str:
    wrong = shares * (1 - np.eye(len(shares)))
    true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
    if wrong[true, predicted] == 0:
        return "Every row is classified correctly"
    share = percent(wrong[true, predicted])
    return f"Largest error rate: {share} of {task.labels[true]} taken for {task.labels[predicted]}"


def _precision_recall(results: Results) -> Figure:
    task, predictions = results.task, results.predictions
    truth = predictions.labels.astype(int)
    present = [label for label in range(len(task.labels)) if (truth == label).any()]
    areas = {label: average_precision_score(truth == label, predictions.outputs[:, label]) for label in present}
    hardest = min(areas, key=lambda label: areas[label])
    title = (
        f"Hardest to find: {task.labels[hardest]}, average precision {decimal(areas[hardest])} "
        f"(chance {decimal((truth == hardest).mean())})"
    )
    note = "dots: the labels as predicted; dotted: chance"
    figure = new_figure(title, results.caption(note))
    axes = figure.subplots()
    for label, colour in zip(present, cycle(PALETTE), strict=False):
        _draw_precision_recall(axes, truth == label, predictions, label, colour)
        axes.lines[-1].set_label(f"{task.labels[label]}, average precision {decimal(areas[label])}")
    axes.set(
        xlabel="Recall: share of the label's rows that are found", ylabel="Precision: share of finds that are right"
    )
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


def _draw_precision_recall(axes: Axes, truth: Array, predictions: Predictions, label: int, colour: str) -> None:
    precision, recall, _ = precision_recall_curve(truth, predictions.outputs[:, label])
    found = predictions.predicted == label
    axes.axhline(truth.mean(), color=colour, ls=":", lw=1.4)
    if found.any():
        hits = (found & truth).sum()
        axes.plot(hits / truth.sum(), hits / found.sum(), "o", color=colour, ms=9, mec="white", mew=1.5, zorder=4)
    axes.plot(recall, precision, color=colour, drawstyle="steps-post", lw=1.8)


def _calibration(results: Results) -> Figure:
    """Draw the calibration of the predicted label's probability (Guo et al. 2017)."""
    predictions, confidence = results.predictions, results.confidence
    sure, right = predictions.outputs.max(axis=1), predictions.predicted == predictions.labels
    bins = _reliability(sure, right, confidence)
    gap = float((bins["rows"] * (bins["sure"] - bins["right"]).abs()).sum() / bins["rows"].sum())
    note = f"equally filled bins, {percent(confidence)} Wilson intervals; calibration error {decimal(gap)}"
    figure = new_figure(_calibration_finding(sure, right, confidence), results.caption(note), height=5.2)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    curve.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.2, label="as right as it is sure")
    curve.errorbar(
        bins["sure"],
        bins["right"],
        yerr=[bins["right"] - bins["low"], bins["high"] - bins["right"]],
        color=BLUE,
        marker="o",
        ms=7,
        mec="white",
        lw=1.2,
        capsize=3,
    )
    lowest = min(1 / predictions.outputs.shape[1], float(sure.min()))
    curve.set(xlim=(lowest - 0.01, 1.01), ylim=(max(0, min(lowest, bins["low"].min()) - 0.03), 1.03))
    curve.set_ylabel("Share that is right")
    curve.legend(loc="upper left")
    histogram.hist(sure, bins=np.linspace(lowest, 1, 26), color=PALE_BLUE)
    histogram.yaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10]))
    histogram.set(ylabel="Rows", xlabel="Confidence: probability of the predicted label")
    for axis in (curve.yaxis, histogram.xaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol="\N{NO-BREAK SPACE}%"))
    return figure


def _reliability(sure: Array, right: Array, confidence: float) -> pd.DataFrame:
    """Return bins of similar size by confidence: mean confidence `sure`, share `right` with its interval, `rows`."""
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, int(np.clip(len(sure) // 30, 1, 10)) + 1)))
    codes = np.searchsorted(edges[1:-1], sure, side="right")
    bins = (
        pd.DataFrame({"sure": sure, "right": right})
        .groupby(codes)
        .agg(sure=("sure", "mean"), hits=("right", "sum"), rows=("right", "size"), right=("right", "mean"))
    )
    bounds = [_wilson(hits, rows, confidence) for hits, rows in zip(bins["hits"], bins["rows"], strict=True)]
    return bins.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def _wilson(hits: int, rows: int, confidence: float) -> tuple[float, float]:
    bounds = stats.binomtest(int(hits), int(rows)).proportion_ci(confidence, method="wilson")
    return bounds.low, bounds.high


def _calibration_finding(sure: Array, right: Array, confidence: float) -> str:
    low, high = _wilson(right.sum(), len(right), confidence)
    mean = float(sure.mean())
    verdict = "Overconfident" if mean > high else "Underconfident" if mean < low else "Calibrated on average"
    return f"{verdict}: {percent(mean)} sure, {percent(float(right.mean()))} right"


# Regression


def _predicted_against_true(results: Results) -> Figure:
    task, predictions = results.task, results.predictions
    note = f"labels jittered by up to {_JITTER} to show rows that coincide"
    figure = new_figure(results.title(METRICS["pearson"]), results.caption(note), height=5.6)
    axes = figure.subplots()
    truth, predicted = predictions.labels, predictions.outputs
    jitter = np.random.default_rng(0).uniform(-_JITTER, _JITTER, len(truth))
    opacity = float(np.clip(500 / len(truth), 0.05, 0.8))
    axes.scatter(truth + jitter, predicted, s=18, color=BLUE, alpha=opacity, lw=0)
    axes.plot(task.label_range, task.label_range, color=INK, ls="--", lw=1.4, label="prediction = label")
    bands = score_bands(task.label_range, truth)
    means = pd.DataFrame({"true": truth, "predicted": predicted}).groupby(bands, observed=True).mean()
    axes.plot(
        means["true"], means["predicted"], "o-", color=ORANGE, ms=8, mec="white", label="mean prediction by score band"
    )
    axes.set(xlabel="True label (points)", ylabel="Prediction (points)")
    axes.legend(loc="upper left")
    return figure


def _error_distribution(results: Results) -> Figure:
    errors = results.predictions.outputs - results.predictions.labels
    median, mean = float(np.median(np.abs(errors))), float(errors.mean())
    title = f"Half of the predictions are within {median:.2f} points; mean error {signed(mean)}"
    figure = new_figure(title, results.caption(f"shaded: within {median:.2f} points; orange: mean error"))
    axes = figure.subplots()
    widest = max(0.5, float(np.abs(errors).max()))
    axes.axvspan(-median, median, color=PALE_BLUE, alpha=0.35, lw=0, zorder=0)
    axes.hist(errors, bins=list(np.linspace(-widest, widest, 42)), color=BLUE, zorder=2)
    axes.axvline(0, color=INK, ls="--", lw=1.2)
    axes.axvline(mean, color=ORANGE, lw=2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set(xlabel=_ERROR, ylabel="Rows")
    return figure


def _error_by_score_band(results: Results) -> Figure:
    task, predictions = results.task, results.predictions
    errors = predictions.outputs - predictions.labels
    bands = score_bands(task.label_range, predictions.labels)
    groups = {str(name): errors[(bands == name).to_numpy()] for name in bands.cat.categories}
    mae = {name: float(np.abs(group).mean()) for name, group in groups.items() if len(group)}
    worst = max(mae, key=lambda name: mae[name])
    title = f"Largest errors at labels {worst}: {mae[worst]:.2f} points on average"
    note = f"boxes: middle half and median; whiskers: middle {percent(0.9)}"
    figure = new_figure(title, results.caption(note))
    axes = figure.subplots()
    axes.axhline(0, color=INK, ls="--", lw=1.2)
    _draw_boxes(axes, list(groups.values()))
    for place, name in enumerate(groups):
        text = f"MAE {mae[name]:.2f}" if name in mae else ""
        axes.annotate(text, (place, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=9)
    axes.set_xticks(range(len(groups)), [f"{name}\n{count_rows(len(group))}" for name, group in groups.items()])
    axes.set(xlabel="True label (points)", ylabel=_ERROR)
    axes.grid(False, axis="x")
    return figure


def _draw_boxes(axes: Axes, groups: Sequence[Array]) -> None:
    axes.boxplot(
        groups,
        positions=range(len(groups)),
        widths=0.5,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": PALE_BLUE, "lw": 0},
        medianprops={"color": BLUE, "lw": 2.5, "solid_capstyle": "butt"},
        whiskerprops={"color": GREY},
        capprops={"color": GREY},
    )


PLOTS: dict[str, Callable[[Results], Figure]] = {
    "metrics": _metric_bars,
    "confusion_matrix": _confusion_matrix,
    "precision_recall": _precision_recall,  # of each label against the rest
    "calibration": _calibration,
    "predicted_against_true": _predicted_against_true,
    "error_distribution": _error_distribution,
    "error_by_score_band": _error_by_score_band,
}


# Training


def history_plot(history: pd.DataFrame, metric: Metric, best_epoch: float) -> Figure:
    """Draw losses and the validation metric by epoch, with a line at the epoch whose weights were kept.

    `history` has the columns `epoch`, `train/loss`, `val/loss` and `val/<metric>`; `best_epoch` is one of its epochs.
    """
    column = f"val/{metric.name}"
    kept = history.loc[history["epoch"] == best_epoch, column].item()
    title = f"Epoch {best_epoch:.4g} of {history['epoch'].max():.4g} kept: validation {metric.title} {decimal(kept)}"
    with styled():
        figure = new_figure(title, "kept: the epoch whose weights became the model", width=8, height=4)
        losses, scores = figure.subplots(1, 2)
        _draw_history(losses, history, {"train": "train/loss", "validation": "val/loss"}, best_epoch)
        _draw_history(scores, history, {"validation": column}, best_epoch)
        losses.set_title("Loss (lower is better)")
        scores.set_title(f"{metric.title} ({metric.direction})")
    return figure


def _draw_history(axes: Axes, history: pd.DataFrame, lines: Mapping[str, str], best_epoch: float) -> None:
    colours = {"train": GREY, "validation": BLUE}
    for name, column in lines.items():
        axes.plot(history["epoch"], history[column], "o-", color=colours[name], ms=6, mec="white")
    first, last = history["epoch"].min(), history["epoch"].max()
    axes.axvline(best_epoch, color=ORANGE, ls="--", lw=1.4, zorder=1)
    axes.margins(y=0.16)
    axes.set_xlim(first - 0.3, last + 0.3 + 0.25 * (last - first))
    axes.set_xticks(history["epoch"].to_numpy()[:: 1 + len(history) // 10])
    axes.annotate(
        "kept", (best_epoch, 1), (4, -10), ("data", "axes fraction"), "offset points", color=DARK_ORANGE, fontsize=9
    )
    axes.set_xlabel("Epoch")
    label_line_ends(axes, {name: (last, history[column].iloc[-1], colours[name]) for name, column in lines.items()})
