"""The losses of the two heads."""

from __future__ import annotations

from collections.abc import Callable

import keras

LOSSES: dict[str, Callable[[], keras.losses.Loss]] = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    "mse": lambda: keras.losses.MeanSquaredError(name="mse"),
    "huber": lambda: keras.losses.Huber(delta=1.0, name="huber"),
}


def make_loss(name: str) -> keras.losses.Loss:
    """The loss `training.loss` names; cross-entropy takes logits and label ids. Class weights come in through `fit`."""
    return LOSSES[name]()
