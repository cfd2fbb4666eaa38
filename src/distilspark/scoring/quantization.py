"""The graph in int8, what it costs on rows whose labels are known, and the choice between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distilspark.config import Head, Precision, ScoringConfig, TaskConfig
from distilspark.evaluation.metrics import LOWER_IS_BETTER, compute_metrics
from distilspark.scoring.onnx_graph import Arrays, Graph

ZERO = 128  # the unsigned number that stands for an activation of 0
ACTIVATIONS = 127  # largest number of an activation, either side of ZERO
WEIGHTS = 64  # largest number of a weight: pairs of products fit in 16 bits, where AVX2 adds them up
SMALLEST = 1e-9  # a token without any activation has a scale, too


class Int8Graph(Graph):
    """Its layers multiply integers: weights scaled by output unit, activations by token.

    A scale for each token, where `quantize_dynamic` of ONNX Runtime has one for the whole batch: what a row gets does
    not hang on the rows that it is scored with. The head, which runs once a row, stays in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scaled: dict[str, tuple[str, str]] = {}  # query, key and value share their inputs

    def dense(self, inputs: str, arrays: Arrays, name: str) -> str:
        """As in `Graph`, but in int8 where the layer is one of the transformer's."""
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
        """The activations (B, L, dim) as uint8, and the scale of each token (B, L, 1)."""
        if inputs not in self._scaled:
            largest = self.node("ReduceMax", self.node("Abs", inputs), self.constant(np.array([-1])), keepdims=1)
            scales = self.node(
                "Mul",
                self.node("Max", largest, self.constant(np.float32(SMALLEST))),
                self.constant(np.float32(1 / ACTIVATIONS)),
            )
            shares = self.node("Div", inputs, scales)
            rounded = self.node("Add", shares, self.constant(np.float32(ZERO + 0.5)))  # the cast cuts what is left
            self._scaled[inputs] = self.node("Cast", rounded, to=TensorProto.UINT8), scales
        return self._scaled[inputs]


def quantize_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (out, in) as integers from -64 to 64, and the scale (out,) of each output unit."""
    scales = np.maximum(np.abs(weights).max(axis=1), SMALLEST) / WEIGHTS
    return np.rint(weights / scales[:, None]).astype(np.int8), scales.astype(np.float32)


@dataclass(frozen=True)
class Comparison:
    """The same rows scored in float32 and in int8."""

    float32: float  # the task's own metric
    int8: float
    metric_drop: float  # how much worse int8 is; negative where it is better
    flips: float  # classification: share of labels that change; regression: 1 - Spearman of the two
    max_difference: float  # of one output
    mean_difference: float


def compare(task: TaskConfig, labels: NDArray[Any], float32: NDArray[Any], int8: NDArray[Any]) -> Comparison:
    """What int8 costs; `labels` and both outputs as in `distilspark.evaluation.predictions.Predictions`."""
    before, after = (compute_metrics(task.head, labels, outputs)[task.metric] for outputs in (float32, int8))
    differences = np.abs(int8 - float32)
    return Comparison(
        float32=before,
        int8=after,
        metric_drop=after - before if task.metric in LOWER_IS_BETTER else before - after,
        flips=_FLIPS[task.head](float32, int8),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
    )


def choose_precision(comparison: Comparison, bounds: ScoringConfig) -> Precision:
    """What the config names; with `auto`, int8 where metric and single predictions keep to the bounds, else float32."""
    if bounds.precision != "auto":
        return bounds.precision
    kept = comparison.metric_drop <= bounds.max_metric_drop and comparison.flips <= bounds.max_flips
    return "int8" if kept else "float32"


def _changed_labels(before: NDArray[Any], after: NDArray[Any]) -> float:
    return float((before.argmax(axis=1) != after.argmax(axis=1)).mean())


def _changed_ranks(before: NDArray[Any], after: NDArray[Any]) -> float:
    return 1 - compute_metrics("regression", before, after)["spearman"]


_FLIPS: dict[Head, Callable[[NDArray[Any], NDArray[Any]], float]] = {
    "classification": _changed_labels,
    "regression": _changed_ranks,
}
