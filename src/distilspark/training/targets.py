"""Training targets: label scale and class weights, computed from all training labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from distilspark.config import TaskConfig, TrainingConfig

Labels = NDArray[np.float64]
ClassWeights = dict[int, float]  # label id -> factor of its rows' losses


@dataclass(frozen=True)
class LabelScale:
    """An affine scale: the network is fitted to (label - shift) / scale."""

    shift: float = 0.0
    scale: float = 1.0

    def standardize(self, labels: Labels) -> Labels:
        """Convert from the labels' own scale to the network's."""
        return (labels - self.shift) / self.scale

    def rescale(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """Convert from the network's scale to the labels' own."""
        return outputs * self.scale + self.shift


@dataclass(frozen=True)
class TargetTransform:
    """Label scaling and class weights, computed from all training labels."""

    scale: LabelScale
    class_weights: ClassWeights | None

    def row_weights(self, labels: Labels) -> NDArray[np.float32]:
        """Return the weight of each row's label: its class weight or 1; 0 where there is no label."""
        known = self.class_weights or {}
        return np.array([0 if np.isnan(label) else known.get(int(label), 1) for label in labels], np.float32)


def make_target_transform(labels: Labels, task: TaskConfig, config: TrainingConfig) -> TargetTransform:
    """Compute class weights for classification, a label scale for regression, if configured."""
    labels = labels[~np.isnan(labels)]
    weighted = task.head_kind.has_classes and config.class_weights == "balanced"
    scaled = not task.head_kind.has_classes and config.standardize_labels
    scale = label_scale(labels) if scaled else LabelScale()
    return TargetTransform(scale, balanced_weights(labels) if weighted else None)


def label_scale(labels: Labels) -> LabelScale:
    """Return the scale with mean 0 and standard deviation 1; constant labels are only shifted."""
    return LabelScale(float(labels.mean()), float(labels.std()) or 1.0)


def balanced_weights(labels: Labels) -> ClassWeights:
    """Weight each label id by N / (classes * count), so that all classes weigh the same (King and Zeng 2001).

    >>> balanced_weights(np.array([0, 1, 1, 1]))
    {0: 2.0, 1: 0.6666666666666666}
    """
    classes = np.unique(labels)
    weights = compute_class_weight("balanced", classes=classes, y=labels)
    return {int(label): float(weight) for label, weight in zip(classes, weights, strict=True)}


def fold_label_scale(network: keras.Model, scale: LabelScale) -> None:
    """Fold the scale into the last layer, in place: (h W + b) s + m = h (W s) + (b s + m)."""
    classifier = network.get_layer("classifier")
    classifier.kernel.assign(classifier.kernel * scale.scale)
    classifier.bias.assign(classifier.bias * scale.scale + scale.shift)
