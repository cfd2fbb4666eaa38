"""The composed config of a command, with `model=auto` decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from distilspark.config import ModelConfig, from_hydra
from distilspark.errors import UserError
from distilspark.paths import CONF


def decide_model(composed: DictConfig) -> DictConfig:
    """Replace `model=auto` by the task's first available candidate; keep any other choice."""
    given = overrides()
    decided = with_model(composed, given, _compose)
    return composed if decided == given else _compose(decided)


def with_model(composed: DictConfig, given: list[str], compose_with: Callable[[list[str]], DictConfig]) -> list[str]:
    """Return the overrides with the first available candidate as model; unchanged unless the model is `auto`."""
    by_task = composed.get("model", {}).get("candidates", {})
    candidates = by_task and by_task.get(composed.task.name, by_task.get("other", []))
    for name in candidates:
        from distilspark.model.checkpoints import is_available  # imports the hub's client

        named = [*(override for override in given if not override.startswith("model=")), f"model={name}"]
        if name == candidates[-1] or is_available(from_hydra(ModelConfig, compose_with(named).model)):
            return named
    return given


def overrides() -> list[str]:
    """Return the overrides of the command line, and in a multirun the job's own; interpolations as they are."""
    given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(given)


def sweep_parent() -> str | None:
    """Return the id of the sweep's parent run, which our sweepers set for each job; None outside a sweep."""
    parent: str | None = HydraConfig.get().sweeper.get("parent")
    return parent


def shares_terminal() -> bool:
    """Return whether the launcher may run other jobs at the same time."""
    return str(HydraConfig.get().runtime.choices["hydra/launcher"]) != "basic"


def check_multirun() -> None:
    """Raise `UserError` if a single run's config has sweep parameters, which it would ignore."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and hydra.sweeper.params:
        varied = ", ".join(hydra.sweeper.params)
        raise UserError(f"experiment={hydra.runtime.choices['experiment']} varies {varied}: add --multirun")


def _compose(given: list[str]) -> DictConfig:
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(HydraConfig.get().job.config_name, given)
    finally:
        GlobalHydra.instance().hydra = running
