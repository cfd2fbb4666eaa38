"""The graph in int8, its cost in quality, and the choice between int8 and float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distilspark.config import Precision, ScoringConfig, TaskConfig
from distilspark.package.graph import Arrays, Graph

ZERO = 128  # the zero point of activations
ACTIVATIONS = 127  # largest quantized activation, on either side of ZERO
WEIGHTS = 64  # largest quantized weight: pairs of products fit in the 16 bits in which AVX2 adds them
SMALLEST = 1e-9  # gives a token without any activation a scale


class Int8Graph(Graph):
    """A graph whose layers multiply integers: weights scaled by output unit, activations by token.

    Each token has its own scale (`quantize_dynamic` of ONNX Runtime has one for the whole batch), so a row's
    prediction does not depend on the rest of its batch. The head, which runs once a row, stays in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scaled: dict[str, tuple[str, str]] = {}  # query, key and value share their inputs

    def dense(self, inputs: str, arrays: Arrays, name: str) -> str:
        """Add a layer as in `Graph`, but in int8 if it is one of the transformer's."""
        if not name.startswith("distilbert."):
            return super().dense(inputs, arrays, name)
        numbers, scales = self._scale(inputs)
        weights, weight_scales = quantize_weights(arrays[f"{name}.weight"])
        integers = self.node(
            "MatMulInteger", numbers, self.constant(weights.T, f"{name}.weight"), self.constant(np.uint8(ZERO))
        )
        product = self.node("Cast", integers, to=TensorProto.FLOAT)
        by_unit = self.node("Mul", product, self.constant(weight_scales, f"{name}.scale"))
        return self.node(
            "Add", self.node("Mul", by_unit, scales), self.constant(arrays[f"{name}.bias"], f"{name}.bias")
        )

    def _scale(self, inputs: str) -> tuple[str, str]:
        """Return the activations (B, L, dim) as uint8, and the scale of each token (B, L, 1)."""
        if inputs not in self._scaled:
            largest = self.node("ReduceMax", self.node("Abs", inputs), self.constant(np.array([-1])), keepdims=1)
            scales = self.node(
                "Mul",
                self.node("Max", largest, self.constant(np.float32(SMALLEST))),
                self.constant(np.float32(1 / ACTIVATIONS)),
            )
            shares = self.node("Div", inputs, scales)
            rounded = self.node("Add", shares, self.constant(np.float32(ZERO + 0.5)))  # the cast truncates
            self._scaled[inputs] = self.node("Cast", rounded, to=TensorProto.UINT8), scales
        return self._scaled[inputs]


def quantize_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise weights (out, in) to integers from -64 to 64, and the scale (out,) of each output unit."""
    scales = np.maximum(np.abs(weights).max(axis=1), SMALLEST) / WEIGHTS
    return np.rint(weights / scales[:, None]).astype(np.int8), scales.astype(np.float32)


@dataclass(frozen=True)
class QuantizationCost:
    """The effect of int8 on labelled rows."""

    float32: float  # the task's own metric
    int8: float
    metric_drop: float  # how much worse int8 is; negative if it is better
    flips: float  # as `Head.changed`
    max_difference: float  # of one output
    mean_difference: float


def measure_quantization(
    task: TaskConfig, labels: NDArray[Any], float32: NDArray[Any], int8: NDArray[Any]
) -> QuantizationCost:
    """Compare two packages by their outputs, which are as in `distilspark.evaluation.predictions.Predictions`."""
    head = task.head_kind
    before, after = (head.compute_metrics(labels, outputs)[task.metric] for outputs in (float32, int8))
    differences = np.abs(int8 - float32)
    return QuantizationCost(
        float32=before,
        int8=after,
        metric_drop=task.headline.sign * (before - after),
        flips=head.changed(float32, int8),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
    )


def choose_precision(cost: QuantizationCost, bounds: ScoringConfig) -> Precision:
    """Return the config's precision; with `auto`, int8 if its cost is within the bounds, else float32."""
    if bounds.precision != "auto":
        return bounds.precision
    kept = cost.metric_drop <= bounds.max_metric_drop and cost.flips <= bounds.max_flips
    return "int8" if kept else "float32"
