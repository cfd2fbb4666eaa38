"""Test a search's batches, and the jobs that it composes to validate its ranges."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from distilspark.config import SearchConfig
from distilspark.metrics import METRICS
from distilspark.workflows.search import ask_and_tell, extremes

SPACE = {"a": FloatDistribution(0.0, 0.5), "b": CategoricalDistribution(["x", "y"]), "c": IntDistribution(1, 8)}


def test_extremes_have_each_end_of_each_key_with_the_first_of_the_others() -> None:
    jobs = extremes(SPACE)
    assert len(jobs) == 6 and all(len(job) == 3 for job in jobs)
    first = {"a=0.0", "b=x", "c=1"}
    assert [set(job) - first for job in jobs] == [set(), {"a=0.5"}, set(), {"b=y"}, set(), {"c=8"}]


def test_batches_have_the_parallel_trials_and_the_last_the_rest() -> None:
    settings = SearchConfig(trials=5, parallel=2, startup_trials=5, seed=1)
    batches = list(ask_and_tell(SPACE, settings, METRICS["mcc"], " ".join, list))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all([override.partition("=")[0] for override in job] == [*SPACE] for batch in batches for job in batch)
