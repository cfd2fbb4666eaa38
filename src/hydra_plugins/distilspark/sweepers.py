"""Sweepers whose jobs are children of one MLflow run: `conf/hydra/sweeper/*.yaml`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from distilspark.workflows.sweep import SweepPlan


class TrackedSweeper(Sweeper):
    """A sweep as one MLflow run with a child run for each job.

    Args:
        params: the varied values, in Hydra's sweep syntax; the command line overrides them.
        resume: reuse finished jobs of an earlier, unfinished attempt at the same sweep.
        parent: the id of the sweep's run; set for each job by the sweeper, never by the user.

    """

    def __init__(self, params: dict[str, Any], resume: bool, parent: str | None) -> None:
        self.params = params
        self.resume = resume
        self.hydra_context: HydraContext
        self.config: DictConfig
        self.launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes before `sweep`, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep that the experiment and the command line describe."""
        from distilspark.workflows.sweep import Hydra, run_sweep

        lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        loader = self.hydra_context.config_loader
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(lines)
        given = list({override.get_key_element(): override for override in parsed}.values())  # the last of each key
        hydra = Hydra(
            config=self.config,
            compose=lambda overrides: loader.load_sweep_config(self.config, overrides),
            launch=lambda jobs, number: self.launcher.launch(jobs, initial_job_idx=number),
        )
        run_sweep(hydra, self.plan(given), resume=self.resume)

    @abstractmethod
    def plan(self, overrides: Sequence[Override]) -> SweepPlan:
        """Return the plan: the overrides that jobs share, the keys in which they differ, and the jobs to launch."""


class GridSweeper(TrackedSweeper):
    """A grid of every combination of the varied values, as Hydra's own."""

    def plan(self, overrides: Sequence[Override]) -> SweepPlan:
        """Plan all jobs in one batch; the values of the first key change slowest."""
        from distilspark.errors import UserError
        from distilspark.tracking.sweeps import key_of
        from distilspark.workflows.sweep import SweepPlan

        if endless := [each.input_line for each in overrides if each.is_interval_sweep()]:
            raise UserError(f"{endless[0]}: a grid has no intervals. A search has: hydra/sweeper=optuna")
        (grid,) = BasicSweeper.split_arguments(list(overrides), max_batch_size=None)
        columns = list(zip(*grid, strict=True))
        shared = [values[0] for values in columns if len(set(values)) == 1]
        jobs = [[override for override in job if override not in shared] for job in grid]
        return SweepPlan(
            shared=shared,
            varied=tuple(sorted(key_of(values[0]) for values in columns if len(set(values)) > 1)),
            size=len(jobs),
            samples=jobs,
            is_complete=True,
            batches=lambda so_far, metric: iter([jobs]),
            settings={},
        )


class OptunaSweeper(TrackedSweeper):
    """A search by Optuna's TPE (Bergstra et al. 2011) for the best metric on the validation split.

    Args:
        search: the fields of `SearchConfig`.
        others: as for `TrackedSweeper`.

    """

    def __init__(self, search: DictConfig, **others: Any) -> None:
        super().__init__(**others)
        self.search = search

    def plan(self, overrides: Sequence[Override]) -> SweepPlan:
        """Plan the trials, in batches that run in parallel."""
        from distilspark.config import SearchConfig, from_hydra
        from distilspark.workflows.search import plan_search

        return plan_search(overrides, from_hydra(SearchConfig, self.search))
