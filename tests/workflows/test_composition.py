"""`model=auto` becomes the task's first available candidate; an explicit choice is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.paths import CONF
from distilspark.workflows.composition import check_multirun, with_model
from helpers.fake_hub import serve_hub
from helpers.fake_index import write_wheel

TASKS = ("cola", "stsb", "mnli")


@pytest.fixture(autouse=True)
def index(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, no hub, and a package index in a folder."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def offered(index: Path, compose_config: Callable[..., TrainConfig]) -> None:
    """The index has the wheel of `model=grammar`, which these tests do not open."""
    write_wheel(index, index, (), str(compose_config("model=grammar").model.checkpoint.wheel))


def composed_with(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides)


def chosen(*overrides: str) -> list[str]:
    return with_model(composed_with([*overrides]), [*overrides], composed_with)


@pytest.mark.parametrize("task", TASKS)
def test_auto_is_distilbert_if_the_hub_answers(
    task: str, offered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_hub(tmp_path) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        assert chosen(f"task={task}") == [f"task={task}", "model=distilbert"]


@pytest.mark.parametrize("task", TASKS)
def test_auto_without_the_hub_is_grammar_for_cola_and_minilm_for_others(task: str, offered: None) -> None:
    model = "grammar" if task == "cola" else "minilm"
    assert chosen(f"task={task}", "model=auto") == [f"task={task}", f"model={model}"]


def test_auto_for_a_custom_task_is_minilm(offered: None) -> None:
    assert chosen("task=sst2", "task.name=reviews")[-1] == "model=minilm"


def test_auto_without_hub_and_index_is_minilm() -> None:
    assert chosen("task=cola") == ["task=cola", "model=minilm"]


def test_auto_without_hub_and_index_is_grammar_for_cola_if_cached(
    cache: Path, compose_config: Callable[..., TrainConfig]
) -> None:
    digest = str(compose_config("model=grammar").model.checkpoint.sha256)
    (cache / "checkpoints" / f"grammar-{digest[:12]}").mkdir(parents=True)
    assert chosen("task=cola") == ["task=cola", "model=grammar"]


@pytest.mark.parametrize("model", ["distilbert", "grammar", "minilm"])
def test_explicit_model_is_kept(model: str, offered: None) -> None:
    assert chosen("task=cola", f"model={model}") == ["task=cola", f"model={model}"]


@pytest.mark.parametrize("mode, is_refused", [(RunMode.RUN, True), (RunMode.MULTIRUN, False)])
def test_experiment_with_sweep_parameters_needs_a_multirun(
    monkeypatch: pytest.MonkeyPatch, mode: RunMode, is_refused: bool
) -> None:
    given = ["model=tiny", "experiment=class_weights", f"hydra.mode={mode.name}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", given, return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    HydraConfig.instance().set_config(composed)
    refused = pytest.raises(UserError, match=r"^experiment=class_weights .*training\.seed.*--multirun")
    with refused if is_refused else nullcontext():
        check_multirun()
