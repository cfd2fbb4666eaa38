"""Class weights from the training labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight


def balanced_weights(labels: NDArray[np.float64]) -> dict[int, float]:
    """N / (classes * count) for each label id: every class weighs the same in the loss (King and Zeng 2001).

    >>> balanced_weights(np.array([0, 1, 1, 1]))
    {0: 2.0, 1: 0.6666666666666666}
    """
    classes = np.unique(labels)
    weights = compute_class_weight("balanced", classes=classes, y=labels)
    return {int(label): float(weight) for label, weight in zip(classes, weights, strict=True)}
