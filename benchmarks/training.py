"""Training: an epoch of CoLA in buckets against the same code padded to 64, and memory over ten epochs.

`make bench-train` runs it with MiniLM on ../shared/glue, or on the sample corpus if that data is missing.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
from hydra import compose, initialize_config_dir

from distilspark.config import TrainConfig, from_hydra
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import fetch
from distilspark.model.network import build_network
from distilspark.paths import CONF
from distilspark.training.batches import Examples
from distilspark.training.loop import TrainingData, fit, seed_everything
from distilspark.training.targets import make_target_transform
from glue import NAME, read_cola
from results_file import machine, write_results


def main() -> None:
    """Run both measurements and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=6840, help="training rows in the measured epochs")
    parser.add_argument("--memory-rows", type=int, default=320, help="training rows in the ten epochs")
    parser.add_argument("--model", default="minilm", help="a file of conf/model/")
    arguments = parser.parse_args()
    before = machine()
    figures = {
        "data": f"CoLA ({NAME})",
        "model": arguments.model,
        "epoch": measure_epochs(arguments.model, arguments.rows),
        "memory": measure_memory(arguments.model, arguments.memory_rows),
    }
    write_results("training", figures | {"machine": before})


def measure_epochs(model: str, rows: int) -> dict[str, Any]:
    """Return the best seconds of the second epoch (the first one traces) from two runs for each bucket width."""
    widths = {"bucketed": _config(model).training.bucket_width, "padded_to_64": 64}
    seconds: dict[str, list[float]] = {name: [] for name in widths}
    for _ in range(2):
        for name, width in widths.items():
            seconds[name].append(_train(model, rows, width, epochs=2)[-1]["seconds"])
    best = {name: min(measured) for name, measured in seconds.items()}
    ratio = best["padded_to_64"] / best["bucketed"]
    return {"rows": rows, "seconds": seconds, "padded_over_bucketed": round(ratio, 2)}


def measure_memory(model: str, rows: int) -> dict[str, Any]:
    """Return resident memory after each of ten epochs, each with validation predictions."""
    epochs = _train(model, rows, _config(model).training.bucket_width, epochs=10)
    after = [round(epoch["memory_mib"]) for epoch in epochs]
    return {"rows": rows, "mib_after_epoch": after, "growth_from_epoch_2_to_10_mib": after[-1] - after[1]}


def _train(model: str, rows: int, bucket_width: int, epochs: int) -> list[dict[str, float]]:
    overrides = [f"training.bucket_width={bucket_width}", f"training.epochs={epochs}"]
    config = _config(model, *overrides, f"training.early_stopping.patience={epochs}")
    checkpoint = fetch(config.model)
    tokenizer = load_tokenizer(checkpoint)
    table = read_cola("train").sample(rows + rows // 4, random_state=1)
    parts = [table.iloc[:rows], table.iloc[rows:]]
    train, validation = (
        Examples(encode(tokenizer, part["sentence"].tolist(), None, 64), part["label"].to_numpy(np.float64))
        for part in parts
    )
    seed_everything(1)
    network = build_network(checkpoint, "classification", 2, pooling=config.model.pooling)
    measured: list[dict[str, float]] = []

    def report(epoch: int, metrics: dict[str, float]) -> None:
        measured.append({"seconds": metrics["time/epoch"], "memory_mib": psutil.Process().memory_info().rss / 2**20})

    data = TrainingData(train, validation, make_target_transform(train.labels, config.task, config.training))
    fit(network, data, config, report)
    return measured


def _config(model: str, *overrides: str) -> TrainConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return from_hydra(TrainConfig, compose("train", [f"model={model}", *overrides]))


if __name__ == "__main__":
    main()
