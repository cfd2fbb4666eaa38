"""Test how the sweepers plan and search jobs, without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from distilspark.config import SearchConfig
from distilspark.errors import UserError
from distilspark.metrics import METRICS
from distilspark.workflows.search import distribution, plan_search
from distilspark.workflows.sweep import SweepPlan
from hydra_plugins.distilspark.sweepers import GridSweeper

SPACE = ("training.learning_rate=tag(log,interval(1e-5,3e-4))", "model.pooling=choice(cls,mean)")


def parse(*lines: str) -> list[Any]:
    return OverridesParser.create().parse_overrides(list(lines))


def grid(*lines: str) -> SweepPlan:
    return GridSweeper(params={}, resume=True, parent=None).plan(parse(*lines))


def test_hydra_discovers_the_sweepers() -> None:
    found = {each.__name__ for each in Plugins.instance().discover(Sweeper)}
    assert {"GridSweeper", "OptunaSweeper"} <= found


def test_grid_has_every_combination() -> None:
    plan = grid("training.seed=1,2", "training.class_weights=balanced,off", "task=cola", "spark.master='local[2]'")
    assert plan.shared == ["task=cola", "spark.master='local[2]'"]
    assert plan.varied == ("training.class_weights", "training.seed")
    (jobs,) = plan.batches(list, METRICS["mcc"])
    assert jobs == [
        ["training.seed=1", "training.class_weights=balanced"],
        ["training.seed=1", "training.class_weights=off"],
        ["training.seed=2", "training.class_weights=balanced"],
        ["training.seed=2", "training.class_weights=off"],
    ]
    assert plan.samples == jobs and plan.size == 4 and plan.is_complete
    assert plan.label(jobs[1]) == "training.class_weights=off training.seed=1"


def test_a_key_with_one_value_is_shared() -> None:
    plan = grid("training.seed=1", "training.loss=mse,huber")
    assert (plan.varied, plan.shared) == (("training.loss",), ["training.seed=1"])
    assert grid("task=cola").samples == [[]]


def test_a_grid_refuses_an_interval() -> None:
    with pytest.raises(UserError, match=r"model\.dropout=interval.*hydra/sweeper=optuna"):
        grid("model.dropout=interval(0.0,0.3)")


@pytest.mark.parametrize(
    "line, expected",
    [
        ("a=interval(0.0,0.3)", FloatDistribution(0.0, 0.3)),
        ("a=tag(log,interval(1e-5,3e-4))", FloatDistribution(1e-5, 3e-4, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=range(1,4)", IntDistribution(1, 3)),
        ("a=range(8,33,8)", IntDistribution(8, 32, step=8)),
        ("a=8,16", CategoricalDistribution(["8", "16"])),
        ("a=cls,null", CategoricalDistribution(["cls", "null"])),
    ],
)
def test_hydra_sweeps_become_optuna_distributions(line: str, expected: Any) -> None:
    assert distribution(parse(line)[0]) == expected


def test_a_search_without_a_space_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to search"):
        plan_search(parse("task=cola"), SearchConfig(3, 1, 2, 1))


def search(plan: SweepPlan, objective: Callable[[str], float | None], metric: str = "mcc") -> list[str]:
    """Launch the trials that have no result, like a sweep; return their labels."""
    return go_on(plan, objective, {}, metric=metric)


def go_on(
    plan: SweepPlan,
    objective: Callable[[str], float | None],
    reached: dict[str, float],
    stop_after: int = 99,
    metric: str = "mcc",
) -> list[str]:
    """Continue a search from the results in `reached`, and add to them."""

    def so_far() -> list[Any]:
        return [
            SimpleNamespace(data=SimpleNamespace(tags={"sweep.job": label}, metrics={f"val/kept_{metric}": value}))
            for label, value in reached.items()
        ]

    launched: list[str] = []
    for batch in plan.batches(so_far, METRICS[metric]):
        for label in map(plan.label, batch):
            if label not in reached and len(launched) < stop_after:
                launched.append(label)
                value = objective(label)
                reached |= {} if value is None else {label: value}
        if len(launched) >= stop_after:
            break
    return launched


def likes_mean(label: str) -> float:
    """Return a score that is higher for mean pooling and larger learning rates."""
    return ("pooling=mean" in label) + float(label.rpartition("=")[2])


def test_search_prefers_better_values_and_is_reproducible() -> None:
    plans = [plan_search(parse("task=cola", *SPACE), SearchConfig(16, 1, 4, seed)) for seed in (1, 1, 2)]
    first, again, other = (search(plan, likes_mean) for plan in plans)
    assert first == again != other
    assert len(first) == 16
    late = [label for label in first[8:] if "pooling=mean" in label]
    assert len(late) >= 6
    assert plans[0].shared == ["task=cola"]
    assert plans[0].varied == ("model.pooling", "training.learning_rate")
    assert not plans[0].is_complete


def test_search_minimizes_an_error_metric() -> None:
    by_score, by_error = (plan_search(parse("task=cola", *SPACE), SearchConfig(16, 1, 4, 1)) for _ in range(2))
    errors = search(by_error, lambda label: -likes_mean(label), metric="mse")
    assert errors == search(by_score, likes_mean)


@pytest.mark.parametrize("parallel", [1, 3])
def test_stopped_search_resumes_with_the_same_trials(parallel: int) -> None:
    def plan(trials: int = 10) -> SweepPlan:
        return plan_search(parse(*SPACE), SearchConfig(trials, parallel, 3, 1))

    whole = search(plan(), likes_mean)
    reached: dict[str, float] = {}
    before = go_on(plan(), likes_mean, reached, stop_after=6)
    after = go_on(plan(), likes_mean, reached)
    assert before + after == whole
    assert len(go_on(plan(12), likes_mean, reached)) == 2
    assert go_on(plan(), likes_mean, reached) == []


def test_failed_trials_do_not_end_the_search() -> None:
    launched = search(plan_search(parse(*SPACE), SearchConfig(6, 1, 2, 1)), lambda label: None)
    assert len(launched) == 6


def test_samples_of_a_search_include_the_ends_of_every_range() -> None:
    plan = plan_search(parse(*SPACE), SearchConfig(6, 1, 2, 1))
    said: Sequence[str] = [override for sample in plan.samples for override in sample]
    assert {"training.learning_rate=1e-05", "training.learning_rate=0.0003"} <= set(said)
    assert {"model.pooling=cls", "model.pooling=mean"} <= set(said)
    assert {len(sample) for sample in plan.samples} == {2}


def test_number_of_trials_is_not_part_of_a_searchs_identity() -> None:
    plans = [plan_search(parse(*SPACE), SearchConfig(trials, 1, 2, seed)) for trials, seed in ((5, 1), (9, 1), (5, 2))]
    assert plans[0].settings == plans[1].settings != plans[2].settings
