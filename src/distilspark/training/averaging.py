"""Weight averaging: a moving average over the steps of a training, and the greedy soup of its epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.training.callbacks import BestEpoch, Validation

Weights = list[NDArray[Any]]  # of all variables of a network
INGREDIENTS = 5  # maximum number of epochs in a soup: all are in memory and in every checkpoint


class AverageSwap(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that swaps the network's weights with the optimizer's moving averages after each epoch.

    It is used twice: before validation, which then evaluates the averages, and after early stopping, which has saved
    them by then. Training continues with the raw weights.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Swap weights and averages; a second swap undoes the first."""
        for variable, average in zip(self.model.trainable_variables, self.model.optimizer.averages, strict=True):
            raw = variable.numpy()
            variable.assign(average)
            average.assign(raw)


@dataclass(frozen=True)
class Ingredient:
    """The weights and metrics at the end of an epoch."""

    epoch: int  # counts from 0
    metrics: dict[str, float]  # val/*
    weights: Weights


class Soup(BestEpoch):
    """Early stopping that ends with the greedy soup of the best epochs (Wortsman et al. 2022, recipe 1).

    The soup begins with the best epoch. The other epochs follow in the order of their monitored values; each is added
    to the mean if the value on the validation split does not get worse. Wortsman et al. average several trainings;
    the epochs of one need no further training (Izmailov et al. 2018 average them without selection).
    """

    def __init__(self, monitor: str, mode: str, patience: int, validation: Validation, epochs: int) -> None:
        """`validation` evaluates soups; `epochs`: the maximum number of epochs."""
        super().__init__(monitor, mode, patience)
        self.validation, self.epochs = validation, epochs
        self.ingredients: list[Ingredient] = []  # the best first; empty once the soup is made
        self.soup: dict[str, Any] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the epoch if it is one of the best; make the soup when training ends."""
        super().on_epoch_end(epoch, logs)
        metrics = {name: float(value) for name, value in logs.items() if name.startswith("val/")}
        self.ingredients.append(Ingredient(epoch, metrics, self.model.get_weights()))
        self.ingredients.sort(key=lambda each: self._loss(each.metrics))
        del self.ingredients[INGREDIENTS:]
        if self.model.stop_training or epoch + 1 == self.epochs:
            self._make(epoch)

    def saved_weights(self) -> Weights:
        """Return the weights of all ingredients, or of the soup once it is made."""
        return [array for each in self.ingredients for array in each.weights] or super().saved_weights()

    def get_state(self) -> dict[str, Any]:
        """Return all state but weights."""
        ingredients = [{"epoch": each.epoch, "metrics": each.metrics} for each in self.ingredients]
        return {**super().get_state(), "ingredients": ingredients, "soup": self.soup}

    def set_state(self, state: dict[str, Any], weights: Weights) -> None:
        """Restore the state and weights that `get_state` and `saved_weights` returned."""
        parts = _split(weights, len(state["ingredients"]))
        super().set_state(state, parts[0] if parts else weights)
        self.ingredients = [
            Ingredient(**each, weights=part) for part, each in zip(parts, state["ingredients"], strict=True)
        ]

    def _loss(self, metrics: dict[str, float]) -> np.float32:
        """Return the monitored value, the lower the better, in the precision that Keras compares."""
        return np.float32(metrics[self.monitor] if self.mode == "min" else -metrics[self.monitor])

    def _make(self, epoch: int) -> None:
        raw = self.model.get_weights()
        members, metrics = self.ingredients[:1], self.ingredients[0].metrics
        for ingredient in self.ingredients[1:]:
            self.model.set_weights(mean_weights([each.weights for each in (*members, ingredient)]))
            tried = self.validation.evaluate(epoch)
            if self._loss(tried) <= self._loss(metrics):
                members, metrics = [*members, ingredient], tried
        self.model.set_weights(raw)
        self.best_weights = mean_weights([each.weights for each in members])
        self.soup = {"epochs": sorted(each.epoch for each in members), "metrics": metrics}
        self.ingredients = []


class FixedEpochs(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that averages the weights of given epochs, for a training without validation."""

    def __init__(self, epochs: Sequence[int]) -> None:
        """`epochs` count from 1."""
        super().__init__()
        self.epochs = epochs
        self.weights: list[Weights] = []  # of the epochs done so far

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep the weights if the epoch is one of `epochs`."""
        if epoch + 1 in self.epochs:
            self.weights.append(self.model.get_weights())

    def saved_weights(self) -> Weights:
        """Return the weights of all kept epochs."""
        return [array for each in self.weights for array in each]

    def get_state(self) -> dict[str, Any]:
        """Return all state but weights."""
        return {"kept": len(self.weights)}

    def set_state(self, state: dict[str, Any], weights: Weights) -> None:
        """Restore the state and weights that `get_state` and `saved_weights` returned."""
        self.weights = _split(weights, state["kept"])

    def restore_best_weights_to(self, network: keras.Model) -> None:
        """Set the network's weights to the mean."""
        network.set_weights(mean_weights(self.weights))


def mean_weights(weights: Sequence[Weights]) -> Weights:
    """Return the mean of each variable; for a single network, its own weights bit by bit."""
    return [np.mean(arrays, axis=0, dtype=np.float64).astype(arrays[0].dtype) for arrays in zip(*weights, strict=True)]


def _split(weights: Weights, count: int) -> list[Weights]:
    """Split the concatenated weights of `count` networks."""
    size = len(weights) // max(1, count)
    return [weights[number * size : (number + 1) * size] for number in range(count)]
