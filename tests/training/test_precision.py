"""`training.precision`: the transformer layers compute in bfloat16 while training, and in float32 otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hydra import compose, initialize_config_dir

from distilspark import processor
from distilspark.config import TrainConfig, from_hydra
from distilspark.features.buckets import pad
from distilspark.model.network import build_network
from distilspark.paths import CONF
from distilspark.training.checkpoint.store import training_fingerprint
from distilspark.training.precision import computing_in
from distilspark.training.prediction import Predictor
from distilspark.training.pretraining import _describe_inputs, _pretraining_config

Composer = Callable[..., TrainConfig]
FAST = ("training.batch_size=16", "training.learning_rate=5e-3", "training.epochs=2")
CPU = "processor\t: 0\nmodel name\t: Some\nflags\t\t: fpu avx2 {}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that simulates a machine: `flag` of its processor, `gpus` as nvidia-smi prints them."""
    monkeypatch.setattr(processor, "CPU_INFORMATION", tmp_path / "cpuinfo")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def prepare(flag: str = "", gpus: str = "") -> None:
        if flag:
            (tmp_path / "cpuinfo").write_text(CPU.format(flag))
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return prepare


@pytest.mark.parametrize(
    "flag, gpus, expected",
    [
        ("avx512_bf16", "", "bfloat16"),
        ("amx_bf16", "", "bfloat16"),
        ("avx512f", "", "float32"),
        ("avx512f", "8.0\\n9.0\\n", "bfloat16"),
        ("amx_bf16", "7.5\\n8.6\\n", "float32"),
        ("amx_bf16", "NVIDIA-SMI has failed\\n", "bfloat16"),
        ("", "", "float32"),  # no /proc
    ],
)
def test_auto_follows_the_machine(machine: Any, flag: str, gpus: str, expected: str) -> None:
    machine(flag, gpus)
    with initialize_config_dir(str(CONF), version_base="1.3"):  # `compose_config` keeps this machine's choice
        for given, precision in {"auto": expected, "float32": "float32", "bfloat16": "bfloat16"}.items():
            composed = compose("train", ["model=tiny", f"training.precision={given}"])
            assert from_hydra(TrainConfig, composed).training.precision == precision


@pytest.fixture
def network(tiny_folder: Path) -> keras.Model:
    return build_network(tiny_folder, "classification", 2, pooling="mean")


def test_layers_compute_in_bfloat16_inside_the_block_only(network: keras.Model, toy_rows: Any) -> None:
    inputs = {name: tf.constant(value) for name, value in pad(toy_rows(8)[0].token_ids, 8).items()}
    before = network(inputs).numpy()
    with computing_in(network, "bfloat16"):
        assert network.get_layer("distilbert")(inputs).dtype == tf.bfloat16
        inside = network(inputs)
        assert inside.dtype == tf.float32
    assert {variable.dtype for variable in network.weights} == {"float32"}
    np.testing.assert_array_equal(network(inputs).numpy(), before)
    difference = np.abs(inside.numpy() - before).max()
    assert 0 < difference < 0.05 * np.abs(before).max() + 0.01


def test_embeddings_have_sparse_gradients_in_bfloat16(network: keras.Model, toy_rows: Any) -> None:
    inputs = {name: tf.constant(value) for name, value in pad(toy_rows(8)[0].token_ids, 8).items()}
    table = network.get_layer("distilbert").embeddings.token_embedding.embeddings
    with computing_in(network, "bfloat16"), tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(inputs))
    assert isinstance(tape.gradient(loss, table.value), tf.IndexedSlices)


def test_predictions_inside_the_block_are_in_float32(network: keras.Model, toy_rows: Any) -> None:
    encoded = toy_rows(8)[0]
    expected = Predictor(network, 999, 8).raw_outputs(encoded)
    with computing_in(network, "bfloat16"):
        np.testing.assert_array_equal(Predictor(network, 999, 8).raw_outputs(encoded), expected)


@pytest.mark.slow
def test_training_in_bfloat16_learns_and_is_repeatable(train_toy: Callable[..., Any]) -> None:
    runs = {
        name: train_toy(*FAST, f"training.precision={precision}")
        for name, precision in {"one": "bfloat16", "again": "bfloat16", "float32": "float32"}.items()
    }
    weights = {name: network.get_weights() for name, (network, *_) in runs.items()}
    assert all(np.array_equal(a, b) for a, b in zip(weights["one"], weights["again"], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights["one"], weights["float32"], strict=True))
    assert {variable.dtype for variable in runs["one"][0].weights} == {"float32"}
    losses = {name: result.history["train/loss"] for name, (_, result, _) in runs.items()}
    assert losses["one"].iloc[-1] < 0.7 * losses["one"].iloc[0]
    assert losses["one"].to_numpy() == pytest.approx(losses["float32"].to_numpy(), rel=0.1)


def test_precision_is_a_part_of_what_a_training_is(compose_config: Composer, tiny_folder: Path) -> None:
    configs = [compose_config("model=tiny", f"training.precision={name}") for name in ("float32", "bfloat16")]
    assert len({training_fingerprint(config) for config in configs}) == 2
    made_from = [_describe_inputs(_pretraining_config(config), 100, tiny_folder) for config in configs]
    assert "training.precision" not in made_from[0]  # as in checkpoints of versions without the key
    assert made_from[1] == made_from[0] | {"training.precision": "bfloat16"}
