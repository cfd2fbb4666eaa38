"""Fine-tune a network: the method, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.config import EVEN, EarlyStoppingConfig, TaskConfig, TrainingConfig
from distilspark.evaluation.metrics import LOWER_IS_BETTER
from distilspark.features.encoding import Encoded
from distilspark.model.losses import make_loss
from distilspark.training.batches import TrainingBatches
from distilspark.training.callbacks import BestEpoch, Report, Reporter, Validation
from distilspark.training.class_weights import balanced_weights
from distilspark.training.optimizer import make_optimizer
from distilspark.training.prediction import Predictor
from distilspark.training.resuming import Checkpointer, Checkpoints, Position

Labels = NDArray[np.float64]


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
class FitResult:
    """A training's outcome; the network has the weights of the best epoch and speaks in the labels' own scale."""

    history: pd.DataFrame  # one row an epoch: epoch, train/loss, val/*, time/epoch
    best_epoch: int  # counts from 1
    class_weights: dict[int, float] | None
    threshold: float = EVEN  # that the network decides by (`fold_threshold`)


def seed_everything(seed: int) -> None:
    """Make what follows repeatable on one machine: the generators of Python, NumPy and TensorFlow, and its ops."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit(
    network: keras.Model,
    train: tuple[Encoded, Labels],
    validation: tuple[Encoded, Labels],
    task: TaskConfig,
    config: TrainingConfig,
    batch_tokens: int,
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> FitResult:
    """Fine-tune `network` in place; `report(epoch, metrics)` is called after every epoch.

    The epoch kept is the best by the early-stopping monitor on the validation split. With `checkpoints` a training that
    was killed goes on, to the same weights; the epochs that it had done are reported again.

    Raises:
        WorkError: the outputs became NaN or infinite.
        UserError: the checkpoint is another training's.

    """
    labels, class_weights = train[1], None
    if task.head == "classification" and config.class_weights == "balanced":
        class_weights = balanced_weights(labels)
    scale = _label_scale(labels) if config.standardize_labels and task.head == "regression" else LabelScale()
    loss = make_loss(config.loss)
    targets = scale.standardize(labels).astype(np.float32)
    batches = TrainingBatches(train[0], targets, config.batch_size, config.bucket_width, config.seed)
    network.compile(optimizer=make_optimizer(config, config.epochs * len(batches)), loss=loss, jit_compile=False)
    predictor = Predictor(network, batch_tokens, config.bucket_width)
    validator = Validation(
        predictor, *validation, task.head, scale.rescale, _validation_loss(loss, scale.standardize(validation[1]))
    )
    reporter = Reporter(report, config.epochs, len(batches), ("train/loss", "val/loss", f"val/{task.metric}"))
    stopping = _early_stopping(config.early_stopping, task)
    callbacks, start = [validator, reporter, stopping], Position(0, 0)
    if checkpoints:
        keeper = Checkpointer(checkpoints, batches, reporter, stopping)
        callbacks, start = [*callbacks, keeper], keeper.resume(network)
    with reporter.progress:
        for first, last in start.legs(config.epochs):
            network.fit(
                batches.dataset(),
                initial_epoch=first,
                epochs=last,
                class_weight=class_weights,
                callbacks=callbacks,
                verbose=0,
            )
            if network.stop_training:
                break
    stopping.restore(network)
    _fold_scale(network, scale)
    return FitResult(pd.DataFrame(reporter.history), stopping.best_epoch + 1, class_weights)


def _label_scale(labels: Labels) -> LabelScale:
    return LabelScale(float(labels.mean()), float(labels.std()) or 1.0)


def _validation_loss(loss: keras.losses.Loss, targets: Labels) -> Callable[[NDArray[Any]], float]:
    return lambda raw: float(loss(targets[:, None], raw))


def _early_stopping(config: EarlyStoppingConfig, task: TaskConfig) -> BestEpoch:
    name = {"metric": task.metric, "loss": "loss"}[config.monitor]
    mode = "min" if name == "loss" or name in LOWER_IS_BETTER else "max"
    return BestEpoch(f"val/{name}", mode, config.patience)


def _fold_scale(network: keras.Model, scale: LabelScale) -> None:
    """Let the last layer speak in the labels' own scale: (h W + b) scale + shift = h (W scale) + (b scale + shift)."""
    last = network.get_layer("classifier")
    last.kernel.assign(last.kernel * scale.scale)
    last.bias.assign(last.bias * scale.scale + scale.shift)
