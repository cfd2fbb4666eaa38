"""Evaluation figures: complete, of the right size, with titles that state the result, and without side effects."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.bootstrap import mean_scores
from distilspark.evaluation.plots import Results, evaluation_plots, history_plot, save_png
from distilspark.evaluation.predictions import Predictions
from distilspark.figures import DPI, styled
from distilspark.heads import CLASSIFICATION
from distilspark.metrics import METRICS
from helpers.texts import has_facts, numbers_in

pytestmark = pytest.mark.filterwarnings("error")
Builder = Callable[..., Predictions]
SETTINGS = EvaluationConfig(confidence=0.9, resamples=100, seed=1, examples=5)
NAMES = {
    "classification": {"confusion_matrix", "metrics", "precision_recall", "calibration"},
    "regression": {"predicted_against_true", "error_distribution", "error_by_score_band", "metrics"},
}


def draw(task: TaskConfig, predictions: Predictions) -> dict[str, Figure]:
    head, labels, outputs = task.head_kind, predictions.labels, predictions.outputs
    scores = mean_scores(head, labels, [outputs], SETTINGS)
    results = Results(
        task,
        predictions,
        {name: score.mean for name, score in scores.items()},
        {name: score.interval for name, score in scores.items()},
        head.compute_metrics(labels, head.baseline_outputs(labels, len(labels), len(task.labels))),
        SETTINGS.confidence,
    )
    return evaluation_plots(results)


def png(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    save_png(figure, buffer)
    return Image.open(buffer)


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


def check(figures: dict[str, Figure], head: str) -> None:
    """Lay out the figures without rendering them, which is slow; the layout warns of overlaps."""
    assert set(figures) == NAMES[head]
    with styled():
        for figure in figures.values():
            figure.draw_without_rendering()
            assert 1200 <= DPI * (figure.get_tightbbox().width + 0.3) <= 1700


def test_saved_figures_have_200_dpi_on_white(
    cola: TaskConfig, stsb: TaskConfig, classified: Builder, regressed: Builder
) -> None:
    for task, predictions in [(cola, classified(60)), (stsb, regressed(60))]:
        for figure in draw(task, predictions).values():
            image = png(figure)
            assert 1200 <= image.width <= 1700
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_classification_figures_show_mcc_and_counts(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(300)
    figures = draw(cola, predictions)
    check(figures, "classification")
    mcc = CLASSIFICATION.compute_metrics(predictions.labels, predictions.outputs)["mcc"]
    assert has_facts(title(figures["metrics"]), "MCC", round(mcc, 3), 90)
    written = {text.get_text() for text in figures["confusion_matrix"].axes[0].texts}
    found = int(((predictions.labels == 1) & (predictions.predicted == 1)).sum())
    assert str(found) in written


def test_figures_of_three_classes_have_a_cell_and_a_curve_for_each(mnli: TaskConfig, classified: Builder) -> None:
    figures = draw(mnli, classified(300, 3))
    check(figures, "classification")
    assert len(figures["confusion_matrix"].axes[0].texts) == 2 * 9
    assert len(figures["precision_recall"].axes[0].get_legend().get_texts()) == 3


def test_regression_figures_show_pearson_and_score_bands(stsb: TaskConfig, regressed: Builder) -> None:
    figures = draw(stsb, regressed(300))
    check(figures, "regression")
    first, *_ = numbers_in(title(figures["predicted_against_true"]))
    assert has_facts(title(figures["predicted_against_true"]), "Pearson") and 0.8 <= first < 0.9
    assert len(figures["error_by_score_band"].axes[0].get_xticklabels()) == 5


@pytest.mark.parametrize("n", [1, 5])
def test_figures_are_drawn_for_few_rows(
    cola: TaskConfig, stsb: TaskConfig, classified: Builder, regressed: Builder, n: int
) -> None:
    for task, predictions in [(cola, classified(n)), (stsb, regressed(n))]:
        check(draw(task, predictions), task.head)


def test_figures_of_constant_predictions_name_the_error_rate_and_overconfidence(
    cola: TaskConfig, stsb: TaskConfig, classified: Builder, regressed: Builder
) -> None:
    lazy = replace(classified(60), outputs=np.tile([0.2, 0.8], (60, 1)))
    figures = draw(cola, lazy)
    check(figures, "classification")
    wrong = title(figures["confusion_matrix"])
    assert numbers_in(wrong) == [100]
    assert re.findall(r"\b(?:un)?acceptable\b", wrong) == ["unacceptable", "acceptable"]  # the label, then what it got
    sure = title(figures["calibration"])
    assert sure.startswith("Over") and numbers_in(sure) == [80, round(100 * lazy.labels.mean())]
    check(draw(stsb, replace(regressed(60), outputs=np.full(60, 2.5))), "regression")


def test_figures_are_drawn_for_predictions_far_outside_the_scale(stsb: TaskConfig, regressed: Builder) -> None:
    figures = draw(stsb, replace(regressed(60), outputs=np.linspace(-40, 40, 60)))
    check(figures, "regression")
    assert figures["metrics"].axes[0].get_xlim()[0] >= -1


def test_confusion_matrix_of_a_perfect_classifier_says_so(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(60)
    figures = draw(cola, replace(predictions, outputs=np.eye(2)[predictions.labels.astype(int)]))
    assert not re.search(r"\d|acceptable", title(figures["confusion_matrix"])), "there is no error to name"
    check(figures, "classification")


def test_history_plot_marks_the_best_epoch() -> None:
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "train/loss": [0.6, 0.5, 0.4], "val/loss": [0.6, 0.5, 0.6], "val/mcc": [0.2, 0.307, 0.25]}
    )
    figure = history_plot(history, METRICS["mcc"], 2)
    assert has_facts(title(figure), "MCC") and numbers_in(title(figure)) == [2, 3, 0.307]
    assert [list(axes.lines[-1].get_xdata()) for axes in figure.axes] == [[2, 2], [2, 2]]
    assert png(figure).width >= 1200
    assert png(history_plot(history.head(1), METRICS["mcc"], 1)).width >= 1200


def test_error_as_headline_metric_is_drawn_beside_other_errors(stsb: TaskConfig, regressed: Builder) -> None:
    by_error = replace(stsb, metric="mse")
    scores, errors = draw(by_error, regressed(300))["metrics"].axes
    assert errors.get_xlim()[0] == 0 < errors.get_xlim()[1]
    assert scores.get_xlim()[1] == 1
    history = pd.DataFrame({"epoch": [1, 2], "train/loss": [1.0, 0.5], "val/loss": [1.0, 0.5], "val/mse": [1.0, 0.5]})
    _, axes = history_plot(history, by_error.headline, 2).axes
    assert axes.get_title(loc="left") == f"MSE ({METRICS['mse'].direction})"


def test_drawing_leaves_matplotlib_settings_and_figures_unchanged(cola: TaskConfig, classified: Builder) -> None:
    with mpl.rc_context({"grid.color": "#123456", "font.size": 17}):
        for figure in draw(cola, classified(60)).values():
            png(figure)
        assert mpl.rcParams["grid.color"] == "#123456"
        assert mpl.rcParams["font.size"] == 17
    assert plt.get_fignums() == []


def test_interval_that_excludes_its_metric_is_drawn(cola: TaskConfig, classified: Builder) -> None:
    predictions = classified(60)
    metrics = CLASSIFICATION.compute_metrics(predictions.labels, predictions.outputs)
    intervals = {name: (value + 0.01, value + 0.02) for name, value in metrics.items()}
    check(evaluation_plots(Results(cola, predictions, metrics, intervals, metrics, 0.9)), "classification")
