"""Fine-tune a network: the method, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.config import DEFAULT_THRESHOLD, EarlyStoppingConfig, TaskConfig, TrainConfig, TrainingConfig
from distilspark.features.encoding import Encoded
from distilspark.model.losses import make_loss
from distilspark.model.network import build_network
from distilspark.training.batches import TrainingBatches
from distilspark.training.callbacks import BestEpoch, Report, Reporter, Validation
from distilspark.training.class_weights import balanced_weights
from distilspark.training.prediction import Predictor
from distilspark.training.resuming import Checkpointer, Checkpoints, Outcome, Position
from distilspark.training.team import Alone

Labels = NDArray[np.float64]
ALONE = Alone()


@dataclass(frozen=True)
class LabelScale:
    """Labels are fitted as (label - shift) / scale."""

    shift: float = 0.0
    scale: float = 1.0

    def standardize(self, labels: Labels) -> Labels:
        """From the labels' own scale to the network's."""
        return (labels - self.shift) / self.scale

    def rescale(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """From the network's scale to the labels' own."""
        return outputs * self.scale + self.shift


@dataclass(frozen=True)
class Aim:
    """What is fitted, as all training labels decide it."""

    scale: LabelScale
    class_weights: dict[int, float] | None


@dataclass(frozen=True)
class FitResult:
    """A training's outcome; the network has the weights of the best epoch and speaks in the labels' own scale."""

    history: pd.DataFrame  # one row an epoch: epoch, train/loss, val/*, time/epoch
    best_epoch: int  # counts from 1
    class_weights: dict[int, float] | None
    threshold: float = DEFAULT_THRESHOLD  # that the network decides by (`fold_threshold`)


def first_network(config: TrainConfig, checkpoint: Path) -> keras.Model:
    """The network before its first step, on `checkpoint`'s weights: the same seed gives the same."""
    seed_everything(config.training.seed)
    return build_network(
        checkpoint,
        config.task.head,
        config.task.head_kind.units(config.task),
        pooling=config.model.pooling,
        dropout=config.model.dropout,
    )


def seed_everything(seed: int) -> None:
    """Make what follows repeatable on one machine: the generators of Python, NumPy and TensorFlow, and its ops."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def aim_at(labels: Labels, task: TaskConfig, config: TrainingConfig) -> Aim:
    """Class weights for classification, a scale for regression, where `training.*` asks for them."""
    weighted = task.head_kind.has_classes and config.class_weights == "balanced"
    scaled = not task.head_kind.has_classes and config.standardize_labels
    return Aim(_label_scale(labels) if scaled else LabelScale(), balanced_weights(labels) if weighted else None)


def fit(
    network: keras.Model,
    train: tuple[Encoded, Labels],
    validation: tuple[Encoded, Labels],
    task: TaskConfig,
    config: TrainingConfig,
    batch_tokens: int,
    report: Report,
    checkpoints: Checkpoints | None = None,
    team: Alone = ALONE,
    aim: Aim | None = None,
) -> FitResult:
    """Fine-tune `network` in place; `report(epoch, metrics)` is called after every epoch.

    The epoch kept is the best by the early-stopping monitor on the validation split. With `checkpoints` a training that
    was killed goes on, to the same weights; the epochs that it had done are reported again. A member of a `team` has
    its shard as `train`, and the `aim` of all rows; a member that does not lead only takes the steps.

    Raises:
        WorkError: the outputs became NaN or infinite.
        UserError: the checkpoint is another training's.

    """
    aim = aim or aim_at(train[1], task, config)
    loss = make_loss(config.loss)
    batches = team.batches(train[0], aim.scale.standardize(train[1]).astype(np.float32), config, aim.class_weights)
    optimizer = team.optimizer(config, config.epochs * len(batches))
    network.compile(optimizer=optimizer, loss=team.loss(loss), jit_compile=False)
    validator = Validation(
        Predictor(network, batch_tokens, config.bucket_width),
        *validation,
        task.head_kind,
        aim.scale.rescale,
        _validation_loss(loss, aim.scale.standardize(validation[1])),
    )
    reporter = Reporter(report, config.epochs, len(batches), ("train/loss", "val/loss", f"val/{task.metric}"))
    stopping = _early_stopping(config.early_stopping, task)
    callbacks = [*team.timers(), *([validator, reporter, stopping] if team.leads else []), *team.callbacks()]
    start = Position(0, 0)
    if checkpoints:
        keeper = Checkpointer(checkpoints, batches, reporter, stopping, team.leads)
        callbacks, start = [*callbacks, keeper], keeper.resume(network)
    team.settle(network)
    with reporter.progress:
        _run(network, batches, start.legs(config.epochs), callbacks, team.class_weights(aim.class_weights))
    if team.leads:
        stopping.restore(network)
        _fold_scale(network, aim.scale)
    return FitResult(pd.DataFrame(reporter.history), stopping.best_epoch + 1, aim.class_weights)


def take_over(network: keras.Model, outcome: Outcome, aim: Aim) -> FitResult:
    """Make `network` what a training elsewhere, which fitted `aim`, came to."""
    network.set_weights(outcome.best_weights)
    _fold_scale(network, aim.scale)
    return FitResult(pd.DataFrame(outcome.history), outcome.best_epoch + 1, aim.class_weights)


def _run(
    network: keras.Model,
    batches: TrainingBatches,
    legs: list[tuple[int, int]],
    callbacks: list[keras.callbacks.Callback],
    class_weights: dict[int, float] | None,
) -> None:
    for first, last in legs:
        network.fit(
            batches.dataset(),
            initial_epoch=first,
            epochs=last,
            class_weight=class_weights,
            callbacks=callbacks,
            verbose=0,
        )
        if network.stop_training:
            return


def _label_scale(labels: Labels) -> LabelScale:
    return LabelScale(float(labels.mean()), float(labels.std()) or 1.0)


def _validation_loss(loss: keras.losses.Loss, targets: Labels) -> Callable[[NDArray[Any]], float]:
    return lambda raw: float(loss(targets[:, None], raw))


def _early_stopping(config: EarlyStoppingConfig, task: TaskConfig) -> BestEpoch:
    name = {"metric": task.metric, "loss": "loss"}[config.monitor]
    mode = "min" if name == "loss" else task.headline.mode
    return BestEpoch(f"val/{name}", mode, config.patience)


def _fold_scale(network: keras.Model, scale: LabelScale) -> None:
    """Let the last layer speak in the labels' own scale: (h W + b) scale + shift = h (W scale) + (b scale + shift)."""
    last = network.get_layer("classifier")
    last.kernel.assign(last.kernel * scale.scale)
    last.bias.assign(last.bias * scale.scale + scale.shift)
