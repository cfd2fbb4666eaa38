"""The composed config of a command, with `model=auto` decided."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from distilspark.config import ModelConfig, from_hydra
from distilspark.model.checkpoints import is_available
from distilspark.paths import CONF


def decide_model(composed: DictConfig) -> DictConfig:
    """Put the first available candidate of `conf/model/auto.yaml` in its place; another choice stays as it is."""
    candidates = composed.model.get("candidates", [])
    for name in candidates:
        decided = _compose_with(f"model={name}")
        if name == candidates[-1] or is_available(from_hydra(ModelConfig, decided.model)):
            return decided
    return composed


def overrides() -> list[str]:
    """What the caller set on the command line, and in a multirun the job's own values."""
    return list(HydraConfig.get().overrides.task)


def _compose_with(choice: str) -> DictConfig:
    group = choice.partition("=")[0]
    others = [override for override in overrides() if not override.startswith(f"{group}=")]
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(HydraConfig.get().job.config_name, [*others, choice])
    finally:
        GlobalHydra.instance().hydra = running
