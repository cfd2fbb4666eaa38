"""A toy task that a random two-layer network can learn: one word determines the label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from distilspark.config import TrainConfig
from distilspark.features.encoding import Encoded, encode, load_tokenizer
from distilspark.model.network import build_network
from distilspark.training.batches import Examples
from distilspark.training.checkpoint.state import CheckpointOptions
from distilspark.training.loop import FitResult, TrainingData, fit, seed_everything
from distilspark.training.targets import make_target_transform

Rows = tuple[Encoded, NDArray[np.float64]]
WORDS = ("the", "dog", "that", "it", "she", "was", "who", "not")


@pytest.fixture(scope="session")
def toy_rows(tiny_folder: Path) -> Callable[..., Rows]:
    """`toy_rows(n, seed)`: sentences of 4 to 20 words; the label is 1 if they contain `dog` (a third)."""
    tokenizer = load_tokenizer(tiny_folder)

    def make(n: int, seed: int = 0) -> Rows:
        rng = np.random.default_rng(seed)
        labels = (rng.random(n) < 1 / 3).astype(float)
        texts = []
        for label in labels:
            words = rng.choice([word for word in WORDS if word != "dog"], rng.integers(3, 20)).tolist()
            texts.append(" ".join(["dog" if label else "the", *words]))
        return encode(tokenizer, texts, None, 64), labels

    return make


@pytest.fixture(scope="session")
def train_toy(tiny_folder: Path, toy_rows: Callable[..., Rows], compose_config: Callable[..., TrainConfig]) -> Any:
    """`train_toy(*overrides, task=, train=, validation=, ...)` returns the network, `fit`'s result and its reports."""

    def run(
        *overrides: str,
        task: str = "cola",
        train: Rows | None = None,
        validation: Rows | None = None,
        pooling: str = "cls",
        checkpoints: CheckpointOptions | None = None,
    ) -> tuple[keras.Model, FitResult, list[tuple[int, dict[str, float]]]]:
        config = compose_config("model=tiny", f"task={task}", *overrides)
        seed_everything(config.training.seed)
        network = build_network(
            tiny_folder, config.task.head, config.task.head_kind.units(config.task), pooling=pooling
        )
        reported: list[tuple[int, dict[str, float]]] = []
        examples = Examples(*(train or toy_rows(200)))
        target = make_target_transform(examples.labels, config.task, config.training)
        data = TrainingData(examples, Examples(*(validation or toy_rows(80, seed=1))), target)
        result = fit(network, data, config, lambda epoch, metrics: reported.append((epoch, metrics)), checkpoints)
        return network, result, reported

    return run
