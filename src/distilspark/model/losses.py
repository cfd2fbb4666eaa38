"""The losses of the two heads, for labels and for a teacher's predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from distilspark.config import DistillationConfig

SMALLEST = float(np.finfo(np.float32).tiny)  # of a probability

LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    "mse": lambda: keras.losses.MeanSquaredError(name="mse"),
    "huber": lambda: keras.losses.Huber(delta=1.0, name="huber"),
}


def make_loss(name: str) -> keras.losses.Loss:
    """Return the loss `name`; cross-entropy takes logits and label ids. Class weights are passed to `fit`."""
    return LOSSES[name]()


class DistillationLoss(keras.losses.Loss):  # type: ignore[misc]
    """The labels' and the teacher's loss, (1 - alpha) hard + alpha soft (Hinton, Vinyals and Dean 2015).

    `y_true` is (n, 2 + units): each row's label, the weight of the label's loss (the class weight; 0 if there is no
    label), and the teacher's outputs: probabilities, or the value on the network's scale.
    """

    def __init__(self, name: str, config: DistillationConfig) -> None:
        """`name` is `training.loss`."""
        super().__init__(name=name)
        self.hard, self.soft, self.config = make_loss(name), SOFT_LOSSES[name], config

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each row."""
        label, weight, teacher = y_true[:, :1], y_true[:, 1], y_true[:, 2:]
        hard = weight * self.hard.call(label, y_pred)
        return (1 - self.config.alpha) * hard + self.config.alpha * self.soft(teacher, y_pred, self.config.temperature)


def soft_cross_entropy(teacher: Any, logits: Any, temperature: float) -> Any:
    """Return T² KL(teacher, student) of each row, both softened by the temperature T.

    `teacher` has its probabilities at T = 1. The factor T² keeps the gradient's scale independent of T.
    """
    softened = ops.log_softmax(ops.log(ops.maximum(teacher, SMALLEST)) / temperature)
    student = ops.log_softmax(logits / temperature)
    return temperature**2 * ops.sum(ops.exp(softened) * (softened - student), axis=-1)


def soft_squared_error(teacher: Any, values: Any, temperature: float) -> Any:
    """Return the squared error of each row; values have no temperature."""
    return ops.mean(ops.square(teacher - values), axis=-1)


SOFT_LOSSES: dict[str, Callable[[Any, Any, float], Any]] = {  # by the loss of the labels
    "cross_entropy": soft_cross_entropy,
    "mse": soft_squared_error,
    "huber": soft_squared_error,
}
