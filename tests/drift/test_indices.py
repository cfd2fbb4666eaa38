"""The population stability index, its bound under chance, and drift found in changed texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distilspark.config import TaskConfig, TrainConfig
from distilspark.corpus.acceptability import judgements
from distilspark.drift.indices import (
    Shift,
    chance_bound,
    describe_drift,
    measure_drift,
    population_stability,
    quantile_bins,
    worst_verdict,
)
from distilspark.drift.profile import profile_of_outputs
from distilspark.drift.report import drift_figure, report_drift
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.package.build import outputs_of
from distilspark.package.load import TaskModel
from distilspark.tracking.registry import FoundModel
from helpers.texts import numbers_in

Profiler = Callable[[list[str]], dict[str, Any]]


def shift(psi: float, bound: float) -> Shift:
    return Shift(pd.DataFrame(), psi, bound)


def test_psi_of_an_example_worked_by_hand() -> None:
    reference, now = np.array([1, 1, 1]), np.array([4, 1, 1])  # smoothed by half a row a bin: 1/3 each; .6, .2, .2
    worked = (0.6 - 1 / 3) * math.log(0.6 * 3) + 2 * (0.2 - 1 / 3) * math.log(0.2 * 3)
    assert population_stability(reference, now) == pytest.approx(worked)
    assert population_stability(now, reference) == pytest.approx(worked)
    assert population_stability(now, now) == 0


@pytest.mark.parametrize("sizes", [(1700, 100_000), (1700, 300), (60, 60), (1700, 10)])
@pytest.mark.parametrize("shares", [[0.1] * 10, [0.7, 0.3], [0.4, 0.3, 0.2, 0.07, 0.03]])
def test_chance_exceeds_the_bound_at_most_one_time_in_twenty(sizes: tuple[int, int], shares: list[float]) -> None:
    rng = np.random.default_rng(1)
    bound = chance_bound(len(shares), *sizes)
    pairs = [[rng.multinomial(size, shares) for size in sizes] for _ in range(2000)]
    exceeded = np.mean([population_stability(*pair) > bound for pair in pairs])
    assert exceeded < 0.065  # .05 plus three standard errors
    assert exceeded > 0.035 or min(sizes) < 100


def test_quantile_bins_hold_a_tenth_of_the_rows_each() -> None:
    rows = np.full(200, 5)
    assert np.bincount(quantile_bins(rows), weights=rows).tolist() == [100.0] * 10


def test_values_on_both_sides_of_a_frequent_value_have_their_own_bins() -> None:
    """If all reference rows have one value, quantiles alone would give one bin and never show drift."""
    rows = np.array([0, 0, 100, 0, 0])
    assert quantile_bins(rows).tolist() == [0, 0, 1, 2, 2]
    assert quantile_bins(np.array([100])).tolist() == [0]


@pytest.mark.parametrize(
    "psi, bound, verdict",
    [(0.1, 0, "none"), (0.11, 0.05, "moved"), (0.25, 0, "moved"), (0.26, 0.1, "drifted"), (0.9, 0.95, "none")],
)
def test_verdict_needs_an_index_above_the_thresholds_and_above_chance(psi: float, bound: float, verdict: str) -> None:
    assert shift(psi, bound).verdict == verdict


def test_drift_description_lists_the_largest_shift_first() -> None:
    drift = {"tokens": shift(0.12, 0), "unknown_share": shift(0.31, 0), "scores": shift(0.4, 0.5)}
    assert re.findall(r"tokens|unknown|scores|drifted|moved", describe_drift(drift)) == [
        *("unknown", "drifted"),
        *("tokens", "moved"),
    ]
    assert numbers_in(describe_drift(drift)) == [0.31, 0.12]
    assert worst_verdict(drift) == "drifted"
    assert worst_verdict({"tokens": shift(0.12, 0)}) == "moved"
    assert describe_drift({"tokens": shift(0, 0)}) == worst_verdict({"tokens": shift(0, 0)}) == "none"


@pytest.fixture(scope="module")
def cola(compose_config: Callable[..., TrainConfig]) -> TaskConfig:
    return compose_config("task=cola", "model=tiny").task


@pytest.fixture(scope="module")
def profile(package: Callable[..., Path], cola: TaskConfig) -> Profiler:
    """`profile(sentences)` returns the profile of the tiny model's predictions."""

    def measure(texts: list[str]) -> dict[str, Any]:
        folder = package("cola")
        encoded = encode(load_tokenizer(folder), texts, None, max_length=16)
        return profile_of_outputs(encoded, outputs_of(folder, cola, pd.DataFrame({"sentence1": texts})), cola)

    return measure


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """A thousand different sentences in random order."""
    sentences = [row.sentence for row in judgements("train", 1000, Random(3))]
    Random(4).shuffle(sentences)
    return sentences


@pytest.fixture(scope="module")
def reference(profile: Profiler, corpus: list[str]) -> dict[str, Any]:
    return profile(corpus[:500])


def verdicts(reference: Mapping[str, Any], profile: Mapping[str, Any]) -> dict[str, str]:
    return {name: shift.verdict for name, shift in measure_drift(reference, profile).items()}


def test_other_rows_of_the_same_corpus_do_not_drift(
    profile: Profiler, reference: dict[str, Any], corpus: list[str]
) -> None:
    names = ("tokens", "unknown_share", "predictions", "scores")
    for rows in (500, 20, 1):
        assert verdicts(reference, profile(corpus[500 : 500 + rows])) == dict.fromkeys(names, "none")
    assert {shift.psi for shift in measure_drift(reference, reference).values()} == {0}


def test_longer_sentences_drift(profile: Profiler, reference: dict[str, Any], corpus: list[str]) -> None:
    longer = [f"{one} {other}" for one, other in zip(corpus[500:750], corpus[750:], strict=True)]
    found = verdicts(reference, profile(longer))
    assert found["tokens"] == "drifted"
    assert found["unknown_share"] == "none"


def test_unknown_words_drift(profile: Profiler, reference: dict[str, Any], corpus: list[str]) -> None:
    foreign = [text.replace(" ", " \u6587 ", 1) for text in corpus[500:]]
    assert verdicts(reference, profile(foreign))["unknown_share"] == "drifted"


def test_changed_label_shares_drift(reference: dict[str, Any]) -> None:
    counts = reference["predictions"]
    swapped = dict(zip(counts, reversed(counts.values()), strict=True))
    assert swapped != counts
    found = verdicts(reference, {**reference, "predictions": swapped})
    assert {name for name, verdict in found.items() if verdict != "none"} == {"predictions"}


def test_label_that_is_never_predicted_does_not_change_the_index(reference: dict[str, Any]) -> None:
    profile = {**reference, "predictions": {"unacceptable": 200, "acceptable": 300}}
    before = measure_drift(reference, profile)["predictions"]
    more = [{**each, "predictions": {**each["predictions"], "never": 0}} for each in (reference, profile)]
    after = measure_drift(*more)["predictions"]
    assert (after.psi, after.bound) == (before.psi, before.bound)


def test_drift_is_empty_without_a_reference_or_rows(reference: dict[str, Any]) -> None:
    empty = {**reference, "rows": 0, "tokens": {}}
    assert measure_drift(None, reference) == measure_drift(reference, empty) == measure_drift(empty, reference) == {}


def test_report_for_a_model_without_a_profile_is_one_line_and_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    found = FoundModel("models:/m/1", "m", "1", None, None, Path(), Path(), "", "")
    report_drift({}, TaskModel(found, labels=[], max_length=16, threshold=0.5, profile=None))
    (line,) = capsys.readouterr().out.splitlines()
    assert "profile" in line and not numbers_in(line)


@pytest.mark.filterwarnings("error")
def test_figure_title_names_what_drifted(profile: Profiler, reference: dict[str, Any], corpus: list[str]) -> None:
    calm = drift_figure(measure_drift(reference, profile(corpus[500:])))
    assert not re.search(r"moved|drifted|PSI", calm.get_suptitle())
    drifted = measure_drift(reference, profile(["cat " * 30] * 40))
    figure = drift_figure(drifted)
    assert figure.get_suptitle().startswith("Tokens drifted")
    assert numbers_in(figure.get_suptitle())[0] == round(drifted["tokens"].psi, 3)
    assert len(figure.axes) == 4
    values = {"edges": [0.0, 2.5, 5.0], "rows": [400, 100]}
    pairs = {name: value for name, value in reference.items() if name != "scores"} | {"predictions": values}
    assert len(drift_figure(measure_drift(pairs, pairs)).axes) == 3
