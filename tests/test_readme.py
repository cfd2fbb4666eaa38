"""What the README says can be done, can be done; the figures that it gives stand in a benchmark's file."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from distilspark.cli import hydra_arguments
from distilspark.config import CompareConfig, EvaluateConfig, PredictConfig, PromoteConfig, TrainConfig, from_hydra

ROOT = Path(__file__).parents[1]
SCHEMAS: dict[str, Any] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "promote": PromoteConfig,
    "predict": PredictConfig,
    "compare": CompareConfig,
}
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
def test_mlflow_run_commands_compose(command: str) -> None:
    words = shlex.split(command)
    pairs = [words[place + 1] for place, word in enumerate(words) if word == "-P"]
    overrides = hydra_arguments([f"--{pair}" for pair in pairs])
    entry = words[words.index("-e") + 1] if "-e" in words else "train"
    entry = {"ablate": "train"}.get(entry, entry)
    if entry == "train" and "model=minilm" not in overrides:
        overrides.append("model=minilm")  # what model=auto may become
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = from_hydra(SCHEMAS[entry], compose(entry, overrides))
    assert entry == "compare" or config.task.name in command


def test_paths_exist() -> None:
    paths = re.findall(r"(?:`|\]\()((?:docs|conf|src|tests|benchmarks)/[\w./-]+)[`)]", README)
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


def test_the_ablation_is_the_benchmarks() -> None:
    results = json.loads((ROOT / "benchmarks/results/ablation_cola_class_weights.json").read_text())
    for found in results["differences"]:
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{found['variant']}` | .")]
        names = ["mcc", "low", "high", *(["difference", "difference_low", "difference_high"] if found["pairs"] else [])]
        assert re.findall(r"\.\d{4}", row) == [f"{abs(found[name]):.4f}"[1:] for name in names]
        assert found["pairs"] is None or f"p = {found['p']:.3f}".replace("= 0", "= ") in row


def test_a_clusters_figures_are_the_benchmarks() -> None:
    results = json.loads((ROOT / "benchmarks/results/cluster_training.json").read_text())
    measured, paper = results["measured"], results["on_paper"]
    rows = {"one worker, 32 rows": "one_worker", "two workers, 32 rows together": "two_workers"}
    for label, name in {**rows, "two workers, 64 rows together": "two_workers_twice_the_batch"}.items():
        share = f"{paper['checks'][name]['collective_share']:.0%}".replace("%", " %") if name in paper["checks"] else ""
        step = f"{measured[name]['step']:.2f}".removeprefix("0")
        assert f"| {label} | {step} | {share}{' ' if share else ''}|" in README
    assert max(abs(1 - check["ratio"]) for check in paper["checks"].values()) <= 0.09
    grown = {point["workers"]: point["batch_grows_speedup"] for point in paper["scaling"]["10 Gbit/s"]}
    assert f"8 workers are {grown[8]:.1f} times and 64 workers {grown[64]:.0f} times" in README
    same = [point["same_batch_speedup"] for points in paper["scaling"].values() for point in points]
    assert max(same) == 1, "none gains anything"
    gradient, speed = measured["one_worker"]["gradient_mb"], paper["collective_gb_a_second"]
    assert f"gradient, {gradient:.0f} MB" in README and f"move {speed:.2f} GB".replace(" 0.", " .") in README


def test_two_workers_are_as_good_as_one() -> None:
    (line,) = [paragraph for paragraph in README.split("\n\n") if paragraph.startswith("**The quality stays**")]
    reached = []
    for name in ("stsb_two_workers", "stsb"):
        results = json.loads((ROOT / f"benchmarks/results/quality_{name}.json").read_text())
        assert len(results["seeds"]) == 3
        pearson = results["summary"]["dev/pearson"]
        mean, sd, lowest, highest = (f"{pearson[key]:.4f}"[1:] for key in ("mean", "sd", "lowest", "highest"))
        assert f"{mean} ± {sd} " in line and f"({lowest} to {highest})" in line
        reached.append(pearson)
    two, one = reached
    assert abs(two["mean"] - one["mean"]) < min(two["sd"], one["sd"])


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_speeds_are_the_benchmarks(precision: str) -> None:
    results = json.loads((ROOT / "benchmarks/results/scoring.json").read_text())
    speed = results["measurements"][f"distilspark_{precision}"]["rows_a_second"]
    times = results["times_as_fast"][precision]
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{precision}`")]
    assert row == (
        f"| `{precision}` | {speed:.0f} | {times['keras_padded']:.2f} times | {times['pytorch_pipeline']:.2f} times |"
    )


def test_the_workers_memory_is_the_benchmarks() -> None:
    results = json.loads((ROOT / "benchmarks/results/scoring.json").read_text())
    peak = max(results["measurements"]["memory"]["peak_mib_in_each_chunk"])
    assert f"A worker's memory stays at {peak} MiB over a million rows" in README
