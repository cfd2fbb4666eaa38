"""The ONNX graph equals the network for every head, pooling and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
from scipy.special import softmax

from distilspark.features.buckets import pad
from distilspark.heads import HEADS
from distilspark.model.network import export_arrays
from distilspark.package.graph import build_graph
from helpers.packages import make_network

UNITS = {"classification": 3, "regression": 1}


def run_graph(network: keras.Model, head: str, pooling: str, inputs: dict[str, Any]) -> Any:
    graph = build_graph(export_arrays(network), HEADS[head], heads=2, pooling=pooling)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.astype(np.int64) for name, value in inputs.items()})[0]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("head", list(UNITS))
@pytest.mark.parametrize("lengths", [[1], [3, 64, 7, 12], [512], [5, 512]])
def test_graph_outputs_equal_the_network(tiny_folder: Path, head: str, pooling: str, lengths: list[int]) -> None:
    network = make_network(tiny_folder, head, UNITS[head], pooling)
    rng = np.random.default_rng(0)
    vocabulary = network.get_layer("distilbert").vocabulary_size
    rows = [rng.integers(1, vocabulary, length).astype(np.int32) for length in lengths]
    inputs = pad(rows, 8)
    expected = network(inputs).numpy()
    if head == "classification":
        expected = softmax(expected, axis=1)
    outputs = run_graph(network, head, pooling, inputs)
    assert outputs.shape == (len(lengths), UNITS[head])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    if len(lengths) > 2:
        assert np.ptp(expected[:, 0]) > 0.01


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_padding_does_not_change_graph_outputs(tiny_folder: Path, pooling: str) -> None:
    network = make_network(tiny_folder, "regression", 1, pooling)
    row = np.arange(1, 12, dtype=np.int32)
    narrow = run_graph(network, "regression", pooling, pad([row], 1))
    wide = pad([row, np.arange(1, 200, dtype=np.int32)], 1)
    wide["token_ids"] = np.where(wide["padding_mask"] == 1, wide["token_ids"], 9)
    np.testing.assert_allclose(run_graph(network, "regression", pooling, wide)[:1], narrow, atol=1e-5)
