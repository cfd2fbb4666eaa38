"""Training against Hugging Face's Trainer and the report's way: rows a second, processor time, memory.

`make bench-train` runs it on ../shared/glue, or on the sample corpus if that data is missing. All ways train the same
checkpoint on the same rows with the same batch size, each in its own process, in turn; medians are compared. The first
20 steps of a process are not timed. Trainer groups rows by length; bf16 is measured only if the processor supports it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from hydra import compose, initialize_config_dir
from tqdm import tqdm

from distilspark.config import TrainConfig, from_hydra
from distilspark.model.checkpoints import fetch
from distilspark.paths import CONF, ROOT
from distilspark.processor import multiplies_bfloat16
from glue import NAME, read_cola, read_stsb
from results_file import machine, write_results

HERE = Path(__file__).parent
RIVALS_PYTHON = HERE / "rivals" / ".venv" / "bin" / "python"
SIZES = {"minilm": "6 layers, 384 wide", "grammar": "DistilBERT's size: 6 layers, 768 wide"}
OUTPUTS = {"cola": 2, "stsb": 1}
PRECISIONS = ["float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
WAYS = [*(f"{name}_{precision}" for precision in PRECISIONS for name in ("ours", "trainer")), "padded_float32"]


def main() -> None:
    """Measure all ways in turn and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", choices=[*SIZES, "tiny"], default=list(SIZES))
    parser.add_argument("--tasks", nargs="+", choices=OUTPUTS, default=list(OUTPUTS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--steps", type=int, default=100, help="of a process; the first 20 are not measured")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if not RIVALS_PYTHON.is_file():
        parser.error("the rivals have no environment yet: `make bench-train` sets up benchmarks/rivals/.venv")
    before, cases = machine(), [(model, task) for model in chosen.models for task in chosen.tasks]
    measured: dict[str, dict[str, list[Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="distilspark-bench-") as folder:
        rows = write_rows(Path(folder))
        plan = [(case, way) for case in cases for _ in range(chosen.rounds) for way in chosen.ways]
        for (model, task), way in tqdm(plan, unit="process"):
            figures = measure(way, model, task, rows[task], chosen)
            measured.setdefault(f"{model} on {task}", {}).setdefault(way, []).append(figures)
    settings = {"data": NAME, "batch": chosen.batch, "steps": chosen.steps, "rounds": chosen.rounds, "sizes": SIZES}
    results = {case: {"measured": ways, "ours_times_as_fast": compare(ways)} for case, ways in measured.items()}
    write_results("training_speed", {"machine": before, **settings, "results": results})


def write_rows(folder: Path) -> dict[str, Path]:
    """Write each task's training rows in the format that all ways read."""
    tables = {"cola": read_cola("train").rename(columns={"sentence": "sentence1"}), "stsb": read_stsb("train")}
    for task, table in tables.items():
        columns = [name for name in ("sentence1", "sentence2", "label") if name in table]
        table[columns].to_parquet(folder / f"{task}.parquet", index=False)
    return {task: folder / f"{task}.parquet" for task in tables}


def measure(way: str, model: str, task: str, rows: Path, chosen: argparse.Namespace) -> dict[str, float]:
    """Run one process and return its figures."""
    common = [str(chosen.batch), str(chosen.steps)]
    name, _, precision = way.partition("_")
    if name == "trainer":
        arguments = [str(fetch_checkpoint(model)), str(rows), str(OUTPUTS[task]), *common, precision]
        command = [str(RIVALS_PYTHON), str(HERE / "rivals" / "trainer.py"), *arguments]
    else:
        arguments = [name, task, model, str(rows), *common, precision]
        command = [sys.executable, str(HERE / "train_steps.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def fetch_checkpoint(model: str) -> Path:
    """Return the folder with a model's checkpoint."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return fetch(from_hydra(TrainConfig, compose("train", [f"model={model}"])).model)


def compare(ways: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Return our median rows a second divided by that of each other way in the same precision."""
    medians = {way: median(each["rows_per_second"] for each in measured) for way, measured in ways.items()}
    others = [(way, speed) for way, speed in medians.items() if not way.startswith("ours_")]
    return {way: round(medians[f"ours_{way.partition('_')[2]}"] / speed, 2) for way, speed in others}


if __name__ == "__main__":
    main()
