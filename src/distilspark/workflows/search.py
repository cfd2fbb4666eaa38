"""Hyperparameter search with Optuna, which chooses jobs by the metric of earlier ones on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from mlflow.entities import Run
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from distilspark.config import SearchConfig, flatten
from distilspark.errors import UserError
from distilspark.metrics import Metric
from distilspark.tracking.sweeps import kept_metric, key_of
from distilspark.workflows.sweep import Overrides, SweepPlan

Values = CategoricalDistribution | FloatDistribution | IntDistribution
Space = Mapping[str, Values]


def plan_search(overrides: Sequence[Override], search: SearchConfig) -> SweepPlan:
    """Plan a search over the overrides that are sweeps."""
    space = {each.get_key_element(): distribution(each) for each in overrides if each.is_sweep_override()}
    if not space:
        raise UserError("nothing to search: give a key a choice or an interval, or take experiment=search")
    settled = [each for each in overrides if not each.is_sweep_override()]
    plan = SweepPlan(  # named, because `batches` uses its `label`
        shared=[f"{each.get_key_element()}={each.get_value_element_as_str()}" for each in settled],
        varied=tuple(sorted(map(key_of, space))),
        size=search.trials,
        samples=extremes(space),
        is_complete=False,
        batches=lambda so_far, metric: ask_and_tell(space, search, metric, plan.label, so_far),
        settings={**{key: str(each) for key, each in space.items()}, **flatten(search), "trials": None},
    )
    return plan


def distribution(override: Override) -> Values:
    """Return the distribution of a key's values from Hydra's syntax: `choice`, `range` or `interval`, `tag(log, …)`."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None and high is not None
        return IntDistribution(low, int(high), log) if isinstance(low, int) else FloatDistribution(low, high, log)
    if isinstance(sweep, RangeSweep) and isinstance(sweep.start, int) and isinstance(sweep.stop, int):
        return IntDistribution(sweep.start, sweep.stop - 1, step=int(sweep.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def extremes(space: Space) -> list[Overrides]:
    """Return jobs that each have one bound or choice of one key, and the first of all other keys."""
    ends = {key: _ends(each) for key, each in space.items()}
    return [
        [f"{key}={end}", *(f"{other}={ends[other][0]}" for other in ends if other != key)]
        for key in ends
        for end in ends[key]
    ]


def _ends(values: Values) -> list[object]:
    return list(values.choices) if isinstance(values, CategoricalDistribution) else [values.low, values.high]


def ask_and_tell(
    space: Space,
    search: SearchConfig,
    metric: Metric,
    label: Callable[[Overrides], str],
    so_far: Callable[[], list[Run]],
) -> Iterator[list[Overrides]]:
    """Yield batches of trials, each chosen by the results of those before it.

    A resumed search repeats its trials from the first: those that have finished are not launched again, only told to
    Optuna. A trial without a finished run has failed.
    """
    sampler = optuna.samplers.TPESampler(seed=search.seed, n_startup_trials=search.startup_trials)
    study = optuna.create_study(direction="maximize" if metric.higher_is_better else "minimize", sampler=sampler)
    fixed: dict[str, BaseDistribution] = dict(space)
    for start in range(0, search.trials, search.parallel):
        asked = [study.ask(fixed) for _ in range(min(search.parallel, search.trials - start))]
        batch = [[f"{key}={value}" for key, value in trial.params.items()] for trial in asked]
        yield batch
        reached = {run.data.tags["sweep.job"]: kept_metric(run, metric) for run in so_far()}
        for trial, own in zip(asked, batch, strict=True):
            value = reached.get(label(own))
            study.tell(trial, value, state=TrialState.FAIL if value is None else None)
