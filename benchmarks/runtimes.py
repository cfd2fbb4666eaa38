"""ONNX Runtime, which scores packages, against OpenVINO: rows a second by the size of a batch, and changed labels.

`make bench-runtimes` runs every way in its own process on one thread, in turn; medians are compared. The networks have
heads that were not trained, whose labels flip more easily than a trained model's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, get_args

import keras
import numpy as np
from hydra import compose, initialize_config_dir
from tqdm import tqdm

from distilspark.config import Precision, TrainConfig, from_hydra
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import fetch
from distilspark.model.network import build_network, export_arrays
from distilspark.package.build import write_package
from distilspark.paths import CONF, ROOT
from distilspark.processor import multiplies_bfloat16
from glue import NAME, read_cola
from results_file import machine, write_results
from scoring_material import balance_head

HERE = Path(__file__).parent
RIVALS_PYTHON = HERE / "rivals" / ".venv" / "bin" / "python"
SEED = 1
PRECISIONS = {
    "onnxruntime": ["float32", "int8"],
    "openvino": ["float32", *(["bfloat16"] if multiplies_bfloat16() else []), "int8"],
}
WAYS = [(runtime, precision) for runtime, precisions in PRECISIONS.items() for precision in precisions]


def main() -> None:
    """Measure all ways in turn and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=["minilm", "grammar"], help="files of conf/model/")
    parser.add_argument("--rows", type=int, default=8000, help="the first half warms up")
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 512, 1024, 2048], help="padded, in one call")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if not RIVALS_PYTHON.is_file():
        parser.error("the rivals have no environment yet: `make bench-runtimes` sets up benchmarks/rivals/.venv")
    before, results = machine(), {}
    with tempfile.TemporaryDirectory(prefix="distilspark-bench-") as scratch:
        for model in chosen.models:
            folder = Path(scratch) / model
            write_material(folder, model, chosen.rows)
            plan = tqdm([way for _ in range(chosen.rounds) for way in WAYS], desc=model, unit="process")
            speeds: dict[tuple[str, str], list[dict[str, float]]] = {}
            for way in plan:
                speeds.setdefault(way, []).append(measure(folder, way, chosen))
            results[model] = summarise(folder, speeds)
    settings = {"data": f"CoLA ({NAME})", "rows": chosen.rows - chosen.rows // 2, "threads": chosen.threads}
    write_results("runtimes", {"machine": before, **settings, "rounds": chosen.rounds, "results": results})


def write_material(folder: Path, model: str, rows: int) -> None:
    """Write the network's packages, and the encoded sentences."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = from_hydra(TrainConfig, compose("train", ["task=cola", f"model={model}"]))
    checkpoint = fetch(config.model)
    keras.utils.set_random_seed(SEED)
    network = build_network(checkpoint, config.task.head, config.task.head_kind.units(config.task))
    drawn = read_cola("train")["sentence"].sample(rows, random_state=SEED).tolist()
    balance_head(network, checkpoint, drawn, config.model.max_length)
    for precision in get_args(Precision):
        write_package(folder / precision, export_arrays(network), checkpoint, config.task, config.model, [], precision)
    encoded = encode(load_tokenizer(checkpoint), drawn, None, config.model.max_length)
    np.savez(folder / "rows.npz", token_ids=np.concatenate(encoded.token_ids), lengths=encoded.lengths)


def measure(folder: Path, way: tuple[str, str], chosen: argparse.Namespace) -> dict[str, float]:
    """Run one process and return rows a second by batch size."""
    runtime, precision = way
    graph = folder / (precision if runtime == "onnxruntime" else "float32") / "model.onnx"
    outputs = folder / f"{runtime}_{precision}.npy"
    arguments = [runtime, precision, graph, folder / "rows.npz", chosen.threads, outputs, *chosen.tokens]
    command = [str(RIVALS_PYTHON), str(HERE / "rivals" / "run_graph.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    speeds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return speeds


def summarise(folder: Path, speeds: dict[tuple[str, str], list[dict[str, float]]]) -> dict[str, Any]:
    """Return each way's median rows a second by batch size, and the share of labels that it changes."""
    expected = np.load(folder / "onnxruntime_float32.npy").argmax(axis=1)
    summary = {}
    for (runtime, precision), measured in speeds.items():
        labels = np.load(folder / f"{runtime}_{precision}.npy").argmax(axis=1)
        summary[f"{runtime}_{precision}"] = {
            "rows_a_second": {size: median(each[size] for each in measured) for size in measured[0]},
            "flips": round(float((labels != expected).mean()), 4),
        }
    return summary


if __name__ == "__main__":
    main()
