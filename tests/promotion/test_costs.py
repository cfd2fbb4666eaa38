"""Quality against speed and size, measured on packages and judged like the gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distilspark.config import EvaluationConfig, GateConfig, TimingConfig, TrainConfig
from distilspark.evaluation.findings import Variant, compare_variants
from distilspark.package.build import size_of
from distilspark.promotion import costs
from distilspark.promotion.costs import tabulate_costs
from helpers.made_runs import made_classifier

CONFIG = EvaluationConfig(confidence=0.95, resamples=200, seed=1, examples=3)
GATE = GateConfig(margin=0.01, gain=1.25, timing=TimingConfig(rows=20, rounds=5))


def test_costs_are_measured_on_the_packages(
    package: Callable[..., Path], compose_config: Callable[..., TrainConfig]
) -> None:
    variants = [Variant(name, {"1": made_classifier(60, 0.8, 1)}) for name in ("float32", "int8")]
    task = compose_config("model=tiny").task
    packages = {name: package("cola", precision=name) for name in ("float32", "int8")}
    table = tabulate_costs(compare_variants(task, "precision", variants, CONFIG), packages, GATE, CONFIG)
    assert table["variant"].tolist() == ["float32", "int8"]
    assert table["megabytes"].tolist() == [size_of(folder) / 1e6 for folder in packages.values()]
    assert (table["rows_a_second"] > 0).all()
    assert table["gate"].isna().tolist() == [True, False]
    assert table["times_as_large"].iloc[1] == pytest.approx(table["megabytes"].iloc[1] / table["megabytes"].iloc[0])


@pytest.mark.parametrize(
    "skill, seconds, verdict, reason",
    [
        (0.8, 0.5, "promoted", "clearly"),
        (0.8, 1.0, "not promoted", "neither"),
        (0.55, 0.5, "not promoted", "worse"),
    ],
)
def test_gate_judges_each_variant_against_the_first(
    package: Callable[..., Path],
    compose_config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    skill: float,
    seconds: float,
    verdict: str,
    reason: str,
) -> None:
    first, second = made_classifier(400, 0.8, 1), made_classifier(400, skill, 1)
    found = compare_variants(
        compose_config("model=tiny").task, "", [Variant("a", {"1": first}), Variant("b", {"1": second})], CONFIG
    )
    monkeypatch.setattr(costs, "time_packages", lambda *_: (np.array([[1.0] * 5, [seconds] * 5]), 20))
    table = tabulate_costs(found, dict.fromkeys(("a", "b"), package("cola")), GATE, CONFIG)
    assert table["rows_a_second"].tolist() == [20, 20 / seconds]
    assert (table["gate"].iloc[1], table["reason"].iloc[1].split()[0]) == (verdict, reason)
