"""int8 outputs are close to float32 and independent of the batch, and precision is chosen within the bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from distilspark.config import ScoringConfig, TrainConfig
from distilspark.package.pyfunc import Scorer
from distilspark.package.quantization import QuantizationCost, choose_precision, measure_quantization, quantize_weights

Package = Callable[..., Path]
Composer = Callable[..., TrainConfig]
TEXTS = [f"the dog {'was not ' * (number % 9)}{word}" for number, word in enumerate(["it", "who", "she", "."] * 15)]
GOOD = QuantizationCost(float32=0.5, int8=0.5, metric_drop=0.0, flips=0.0, max_difference=0.1, mean_difference=0.01)
BOUNDS = ScoringConfig(precision="auto", max_metric_drop=0.01, max_flips=0.02)


def test_every_layer_of_the_transformer_is_quantized(package: Package) -> None:
    plain, quantized = (onnx.load(package("cola", precision=each) / "model.onnx") for each in ("float32", "int8"))
    before, after = (Counter(node.op_type for node in model.graph.node) for model in (plain, quantized))
    layers = 2 * 6  # query, key, value, attention output, two feed-forward
    assert after["MatMulInteger"] == layers
    assert before["MatMul"] - after["MatMul"] == layers
    assert after["ReduceMax"] == 2 * 4, "query, key and value share the scales of their inputs"
    kinds = {each.name: each.data_type for each in quantized.graph.initializer}
    matrices = [name for name in kinds if name.startswith("distilbert.transformer") and name.endswith("lin.weight")]
    assert matrices and all(kinds[name] == onnx.TensorProto.INT8 for name in matrices)
    assert kinds["classifier.weight"] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_int8_outputs_are_close_to_float32(package: Package, task: str) -> None:
    rows = pd.DataFrame({"sentence1": TEXTS, "sentence2": TEXTS[::-1]})
    exact, close = (Scorer(package(task, precision=each)).outputs(rows) for each in ("float32", "int8"))
    assert np.corrcoef(exact[:, -1], close[:, -1])[0, 1] > 0.99
    assert 0 < abs(exact - close).max() < np.ptp(exact[:, -1]) / 5


def test_int8_output_of_a_row_does_not_depend_on_its_batch(package: Package) -> None:
    scorer = Scorer(package("stsb", precision="int8"))
    rows = pd.DataFrame({"sentence1": TEXTS, "sentence2": TEXTS[::-1]})
    together = scorer.outputs(rows)
    alone = np.concatenate([scorer.outputs(rows.iloc[[place]]) for place in range(len(rows))])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_weights_are_quantized_with_one_scale_per_output_unit() -> None:
    weights = np.array([[0.5, -1.0, 0.25], [100.0, 50.0, -100.0], [0, 0, 0]], np.float32)
    integers, scales = quantize_weights(weights)
    assert integers.tolist() == [[32, -64, 16], [64, 32, -64], [0, 0, 0]]
    np.testing.assert_allclose(integers * scales[:, None], weights, atol=1e-6)
    noise = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    integers, scales = quantize_weights(noise)
    assert (abs(integers * scales[:, None] - noise) <= scales[:, None] / 2 + 1e-6).all()


def test_quantization_cost_of_classification_equals_values_by_hand(compose_config: Composer) -> None:
    task = compose_config("task=cola", "model=tiny").task
    labels = np.array([1.0, 1, 0, 0])
    before = np.array([[0.2, 0.8], [0.1, 0.9], [0.7, 0.3], [0.9, 0.1]])
    after = np.array([[0.2, 0.8], [0.6, 0.4], [0.7, 0.3], [0.9, 0.1]])
    cost = measure_quantization(task, labels, before, after)
    assert (cost.float32, cost.flips) == (1, 0.25)
    assert cost.metric_drop == pytest.approx(1 - cost.int8) == pytest.approx(1 - 1 / np.sqrt(3))
    assert (cost.max_difference, cost.mean_difference) == pytest.approx((0.5, 0.125))
    assert measure_quantization(task, labels, after, before).metric_drop == pytest.approx(-cost.metric_drop)


def test_quantization_cost_of_regression_equals_values_by_hand(compose_config: Composer) -> None:
    task = compose_config("task=stsb", "model=tiny").task
    labels, before = np.array([1.0, 2, 3, 4]), np.array([1.1, 2.1, 3.1, 4.1])
    assert measure_quantization(task, labels, before, before * 2).flips == pytest.approx(0)
    swapped = measure_quantization(task, labels, before, before[[1, 0, 2, 3]])
    assert swapped.flips == pytest.approx(0.2)  # 1 - Spearman of one swap among four
    assert swapped.metric_drop > 0
    by_error = measure_quantization(replace(task, metric="mse"), labels, before, before + 1)
    assert by_error.metric_drop == pytest.approx(1.1**2 - 0.1**2)
    assert measure_quantization(task, labels, before, np.full(4, 2.0)).flips == 1, "a constant has no ranks"


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({}, "int8"),
        ({"metric_drop": 0.01, "flips": 0.02}, "int8"),
        ({"metric_drop": -0.5}, "int8"),
        ({"metric_drop": 0.0101}, "float32"),
        ({"flips": 0.0201}, "float32"),
        ({"metric_drop": float("nan")}, "float32"),
        ({"flips": float("nan")}, "float32"),
    ],
)
def test_precision_is_int8_only_within_the_bounds(changed: dict[str, float], expected: str) -> None:
    assert choose_precision(replace(GOOD, **changed), BOUNDS) == expected


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_explicit_precision_is_used_regardless_of_the_cost(precision: str) -> None:
    bad = replace(GOOD, metric_drop=1.0, flips=1.0)
    for comparison in (GOOD, bad):
        assert choose_precision(comparison, replace(BOUNDS, precision=precision)) == precision
