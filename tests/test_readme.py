"""What the README says can be done, can be done; the figures that it gives stand in a benchmark's file."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from distilspark.command_line import hydra_arguments
from distilspark.config import TrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def test_commands_were_found() -> None:
    assert len(COMMANDS) >= 6
    assert COMMANDS[0] == "make train TASK=cola"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("mlflow run ")])
def test_mlflow_run_commands_compose(command: str, compose_config: Callable[..., TrainConfig]) -> None:
    words = shlex.split(command)
    pairs = [words[place + 1] for place, word in enumerate(words) if word == "-P"]
    overrides = hydra_arguments([f"--{pair}" for pair in pairs])
    decided = [] if "model=minilm" in overrides else ["model=minilm"]  # what model=auto may become
    assert compose_config(*overrides, *decided).task.name in command


def test_paths_exist() -> None:
    paths = re.findall(r"`((?:docs|conf|src|tests|benchmarks)/[\w./-]+)`", README)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_results_are_the_benchmarks(task: str) -> None:
    results = json.loads((ROOT / f"benchmarks/results/quality_{task}.json").read_text())
    shown = [f"{figure:.4f}"[1:] for metric in results["summary"].values() for figure in metric.values()]
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{task}`")]
    figures = re.findall(r"(?<!\d)\.\d{4}", row)
    assert len(figures) >= 3
    intervals = [f"{figure:.4f}"[1:] for name, figure in results["runs"][0].items() if name.endswith(("_low", "_high"))]
    assert [figure for figure in figures if figure not in shown + intervals] == []
