"""Made-up predictions with realistic errors: one model like CoLA's, one like STS-B's, one with three labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from distilspark.config import TaskConfig, TrainConfig
from distilspark.evaluation.predictions import Predictions

Composer = Callable[..., TrainConfig]
Builder = Callable[..., Predictions]


@pytest.fixture(scope="session")
def cola(compose_config: Composer) -> TaskConfig:
    return compose_config("task=cola", "model=tiny").task


@pytest.fixture(scope="session")
def stsb(compose_config: Composer) -> TaskConfig:
    return compose_config("task=stsb", "model=tiny").task


@pytest.fixture(scope="session")
def mnli(cola: TaskConfig) -> TaskConfig:
    """A task with three labels on sentence pairs."""
    labels = ["entailment", "neutral", "contradiction"]
    columns = {**cola.columns, "sentence2": ["hypothesis"]}
    return replace(cola, name="mnli", title="MNLI", metric="accuracy", labels=labels, columns=columns)


@pytest.fixture(scope="session")
def classified() -> Builder:
    """`classified(n, classes=2, seed=0)`: predictions of a classifier that is mostly right."""
    return _classified


@pytest.fixture(scope="session")
def regressed() -> Builder:
    """`regressed(n, seed=0)`: predictions with a Pearson correlation of about .87, on tied labels."""
    return _regressed


def _rows(n: int, seed: int, pair: bool, sources: list[str | None]) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"row-{i}" for i in range(n)],
            "sentence1": [f"Sentence number {i}." for i in range(n)],
            "sentence2": [f"Another one, {i}." if pair else None for i in range(n)],
            "source": random.choice(np.array(sources, dtype=object), n),
            "tokens": random.poisson(9, n) + 3,
        }
    )


def _classified(n: int, classes: int = 2, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    logits = random.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = _rows(n, seed, classes > 2, ["ks08", "bc01", "new"])
    return Predictions(rows, labels.astype(float), outputs.astype(np.float32))


def _regressed(n: int, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    labels = np.round(random.uniform(0, 5, n) * 5) / 5
    outputs = 0.8 * labels + 0.5 + random.normal(0, 0.66, n)
    return Predictions(_rows(n, seed, True, [None]), labels, outputs.astype(np.float32))
