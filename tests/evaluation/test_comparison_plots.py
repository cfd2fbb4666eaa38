"""The figures and the Markdown report of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from distilspark.config import EvaluationConfig, TaskConfig
from distilspark.evaluation.agreement import agreement, disagreements
from distilspark.evaluation.comparison_plots import comparison_plots, cost_plot
from distilspark.evaluation.findings import Findings, Variant, compare_variants
from distilspark.evaluation.findings_report import comparison_report, comparison_summary, markdown_table
from distilspark.figures import BLUE, DPI, ORANGE, save_png, styled
from distilspark.metrics import METRICS
from helpers.made_runs import made_classifier, made_regressor
from helpers.texts import has_facts, numbers_in

pytestmark = pytest.mark.filterwarnings("error")
CONFIG = EvaluationConfig(confidence=0.95, resamples=200, seed=1, examples=3)
ALL = {"differences", "metrics", "curves", "agreement"}


def history(*scores: float, metric: str = "mcc") -> pd.DataFrame:
    epochs = np.arange(1, len(scores) + 1)
    return pd.DataFrame({"epoch": epochs, "val/loss": 1 - np.array(scores), f"val/{metric}": scores})


def draw(findings: Findings, histories: dict[str, Sequence[pd.DataFrame]]) -> dict[str, Figure]:
    figures = comparison_plots(findings, histories, agreement(findings.task.head_kind, findings.variants))
    with styled():
        for figure in figures.values():
            figure.draw_without_rendering()  # warns of what does not fit
            assert 1000 <= DPI * (figure.get_tightbbox().width + 0.3) <= 2200
    assert plt.get_fignums() == []
    return figures


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ").replace("\N{NO-BREAK SPACE}", " ")


@pytest.fixture(scope="module")
def two(cola: TaskConfig) -> Findings:
    skills = {"off": 0.7, "balanced": 0.8}
    variants = [
        Variant(label, {str(seed): made_classifier(300, skill, seed) for seed in (1, 2, 3)})
        for label, skill in skills.items()
    ]
    return compare_variants(cola, "class weights", variants, CONFIG)


def test_figures_of_two_variants_show_their_scores_difference_and_curves(two: Findings) -> None:
    curves = {
        "off": [history(0.1, 0.3, 0.2), history(0.1, 0.2)],
        "balanced": [history(0.2, 0.4, 0.3), history(0.2, 0.3)],
    }
    figures = draw(two, curves)
    assert set(figures) == ALL
    save_png(figures["differences"], buffer := BytesIO())
    assert 1000 <= Image.open(buffer).width <= 2200
    assert title(figures["differences"]) == two.headline
    scores, differences = figures["differences"].axes
    assert [text.get_text() for text in scores.get_yticklabels()] == ["off", "balanced"]
    (written,) = [text.get_text() for text in differences.texts]
    assert written.startswith(f"+{two.comparisons[0].difference.value:.3f}, p ".replace("0.", "."))
    assert has_facts(title(figures["curves"]), "balanced", "MCC") and not has_facts(title(figures["curves"]), "off")
    assert numbers_in(title(figures["curves"])) == [0.35, 2]
    losses, metric = figures["curves"].axes
    thick = [line for line in metric.lines if line.get_marker() == "o"]
    # up to the last epoch that both seeds have
    assert [line.get_ydata().tolist() for line in thick] == [[0.1, 0.25], [0.2, 0.35]]
    assert len(losses.lines) == len(metric.lines) == 2 + 4
    assert has_facts(title(figures["agreement"]), "off", "balanced")
    panels = [axes.get_title(loc="left") for axes in figures["metrics"].axes if axes.axison]
    assert panels == ["Accuracy", "Precision", "Recall", "F1", "MCC"]


def test_one_variant_without_history_has_two_figures(cola: TaskConfig) -> None:
    alone = compare_variants(cola, "", [Variant("as configured", {"1": made_classifier(80, 0.8, 1)})], CONFIG)
    assert set(draw(alone, {"as configured": [history()]})) == {"differences", "metrics"}


def test_many_variants_with_long_names_and_one_epoch_are_drawn(stsb: TaskConfig) -> None:
    names = [f"learning rate {number}e-5, batch size {2**number}, loss huber" for number in range(1, 9)]
    variants = [Variant(name, {"1": made_regressor(60, 0.5, place)}) for place, name in enumerate(names)]
    figures = draw(
        compare_variants(stsb, "", variants, CONFIG), {name: [history(0.8, metric="pearson")] for name in names}
    )
    assert set(figures) == ALL
    assert len(figures["differences"].axes[1].texts) == 7
    panels = [axes.get_title(loc="left") for axes in figures["metrics"].axes if axes.axison]
    error = METRICS["mse"].direction
    assert panels == ["Pearson", "Spearman", f"MSE ({error})", f"MAE ({error})", "R²"]


def test_report_has_the_headline_figures_and_tables(two: Findings) -> None:
    tables = {
        "differences": two.table(),
        "settings": pd.DataFrame(columns=["setting"]),
        "disagreements": disagreements(two.task, two.variants, 3),
    }
    text = comparison_report(two, tables, ["differences", "curves"], "One is missing.")
    heading, _, sentence, *_ = text.splitlines()
    assert heading.startswith("# ") and has_facts(heading, two.topic, two.task.title)
    assert sentence == f"**{two.sentence}**"
    assert "](curves.png)" in text and "agreement.png" not in text
    assert "\n\n| variant | right | id |" in text
    assert text.count("\n## ") == 3, "none for the settings, which do not differ"
    assert two.pairing in text and "One is missing." in text
    assert "| off | 3 |" in comparison_summary(two)


def test_markdown_table_escapes_pipes_and_line_breaks() -> None:
    frame = pd.DataFrame({"text": ["a|b\nc", None], "seeds": [3.0, np.nan], "mcc": [-0.25, 0.0]})
    minus = "\N{MINUS SIGN}"
    rows = ["| text | seeds | mcc |", "| --- | --- | --- |", f"| a\\|b c | 3 | {minus}.2500 |", "|  |  | .0000 |"]
    assert markdown_table(frame).splitlines() == rows


def test_cost_plot_shows_quality_against_speed_and_size(two: Findings) -> None:
    found = two.table()
    costs = pd.DataFrame(
        {
            "variant": ["off", "balanced"],
            "mcc": found["mcc"],
            "low": found["low"],
            "high": found["high"],
            "rows_a_second": [500.0, 900.0],
            "megabytes": [60.0, 30.0],
            "times_as_fast": [np.nan, 1.8],
            "times_as_large": [np.nan, 0.5],
            "gate": [np.nan, "promoted"],
        }
    )
    figure = cost_plot(two, costs)
    save_png(figure, BytesIO())
    assert has_facts(title(figure), "balanced", "off") and numbers_in(title(figure)) == [1.8, 0.5]
    for axes, column in zip(figure.axes, ("rows_a_second", "megabytes"), strict=False):
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in points] == list(
            zip(costs[column], costs["mcc"], strict=True)
        )
        assert [text.get_text() for text in axes.texts] == ["1", "2"]
        assert [line.get_color() for line in points] == [BLUE, ORANGE]
    refused = costs.assign(gate=[np.nan, "not promoted"])
    of_none = title(cost_plot(two, refused))
    assert has_facts(of_none, "off") and not has_facts(of_none, "balanced") and not numbers_in(of_none)
