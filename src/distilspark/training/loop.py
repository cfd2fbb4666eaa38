"""Fine-tune a network: compile it, train epoch by epoch, keep the best epoch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.config import DEFAULT_THRESHOLD, Precision, TrainConfig, TrainingConfig
from distilspark.errors import UserError, WorkError
from distilspark.model.losses import DistillationLoss, make_loss
from distilspark.model.network import build_network, freeze_layers, layer_depths, load_head
from distilspark.training.averaging import AverageSwap, FixedEpochs, Soup
from distilspark.training.batches import Examples, TrainingBatches
from distilspark.training.callbacks import BestEpoch, EpochLogger, EpochReporter, Validation
from distilspark.training.checkpoint.state import CheckpointOptions, CheckpointSaver, Position, TrainedState
from distilspark.training.distributed.strategy import SINGLE_PROCESS, Strategy
from distilspark.training.precision import computing_in
from distilspark.training.prediction import Predictor
from distilspark.training.targets import ClassWeights, TargetTransform, fold_label_scale


@dataclass(frozen=True)
class TrainingData:
    """The rows that a process trains and validates on, and the targets' transform."""

    train: Examples  # of a worker: its shard
    validation: Examples  # of a worker that is not the chief: empty
    target: TargetTransform  # computed from all training rows


@dataclass(frozen=True)
class FitResult:
    """The result of a training; the network has the kept weights, its outputs are on the labels' own scale."""

    history: pd.DataFrame  # one row a validation: epoch (done, from 1), train/loss, val/*, time/epoch
    best_step: int  # number of the best validation, from 1; with one an epoch, of the best epoch
    kept_steps: tuple[int, ...]  # validations whose mean weights the network has: the best one, or those of a soup
    kept_metrics: dict[str, float]  # val/*, of the weights that the network has
    class_weights: ClassWeights | None
    threshold: float = DEFAULT_THRESHOLD  # the decision threshold (`fold_threshold`)
    precision: Precision | None = None  # of the package, if chosen before a refit

    @property
    def kept(self) -> str:
        """A readable description of the kept weights."""
        numbers = ", ".join(f"{round(self.epochs_at(step), 2)}" for step in self.kept_steps)
        return f"epoch {numbers}" if len(self.kept_steps) == 1 else f"the mean of epochs {numbers}"

    @property
    def best_epoch(self) -> float:
        """The number of epochs at the best validation."""
        return self.epochs_at(self.best_step)

    def epochs_at(self, step: int) -> float:
        """Return the number of epochs at a validation; an int if every validation ends an epoch."""
        done: float = self.history["epoch"].iloc[step - 1].item()
        return done


@dataclass(frozen=True)
class Observers:
    """The callbacks that follow a training from epoch to epoch."""

    reporter: EpochReporter
    keeper: BestEpoch | FixedEpochs
    validation: Validation | None = None

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """All callbacks, in their order."""
        return [*([self.validation] if self.validation else []), self.reporter, self.keeper]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's ops deterministic on one machine."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def build_initial_network(config: TrainConfig, checkpoint: Path) -> keras.Model:
    """Build the untrained network on `checkpoint`'s weights; the same seed gives the same weights.

    Pretraining has already reinitialized the top layers, if configured.
    """
    seed_everything(config.training.seed)
    is_pretrained = bool(config.training.pretraining.rows)
    network = build_network(
        checkpoint,
        config.task.head,
        config.task.head_kind.units(config.task),
        pooling=config.model.pooling,
        dropout=config.model.dropout,
        reinitialize_layers=0 if is_pretrained else config.model.reinitialize_layers,
    )
    if is_pretrained and config.training.pretraining.keep_head:
        load_head(network, checkpoint)
    freeze_layers(network, config.model.freeze)
    return network


def fit(
    network: keras.Model,
    data: TrainingData,
    config: TrainConfig,
    log_epoch: EpochLogger,
    checkpoints: CheckpointOptions | None = None,
    strategy: Strategy = SINGLE_PROCESS,
) -> FitResult:
    """Fine-tune `network` in place, and set it to the weights of the best epoch on the validation split.

    With `checkpoints` an interrupted training is resumed and ends with the weights of an uninterrupted one; its epochs
    are logged again. Under a distributed `strategy` only the chief's network and result are complete.

    Raises:
        WorkError: the outputs became NaN or infinite.
        UserError: the checkpoint belongs to another training.

    """
    batches = strategy.make_batches(data.train, data.target, config.training)
    validation = make_validation(network, data, config)
    early_stopping = make_early_stopping(config, validation)
    reporter = EpochReporter(log_epoch, config.training.validations, batches, config.task.metric)
    observers = Observers(reporter, early_stopping, validation)
    run_training(network, batches, data.target, config.training, observers, checkpoints, strategy)
    return make_result(reporter.history, early_stopping.get_state(), data.target)


def fit_steps(
    network: keras.Model,
    examples: Examples,
    target: TargetTransform,
    config: TrainConfig,
    log_epoch: EpochLogger,
    steps: Sequence[int],
    checkpoints: CheckpointOptions | None = None,
) -> None:
    """Train `network` in place without validation, and set it to the mean of its weights at `steps`.

    `steps` are numbers of epochs, or of the parts of epochs that end with a validation in `fit`. The learning rate
    schedule is that of `training.epochs`; training ends early, after the last step.

    Raises:
        WorkError: weights became NaN or infinite.
        UserError: the checkpoint belongs to another training.

    """
    batches = SINGLE_PROCESS.make_batches(examples, target, config.training)
    reporter = EpochReporter(log_epoch, max(steps), batches, config.task.metric, "refit epoch")
    observers = Observers(reporter, FixedEpochs(steps))
    run_training(network, batches, target, config.training, observers, checkpoints, SINGLE_PROCESS)
    if not all(np.isfinite(array).all() for array in network.get_weights()):
        raise WorkError("the refit's weights are NaN or infinite: lower training.learning_rate")


def load_trained_state(network: keras.Model, state: TrainedState, target: TargetTransform) -> FitResult:
    """Load the result of a training that other processes have run into `network`."""
    network.set_weights(state.best_weights)
    fold_label_scale(network, target.scale)
    return make_result(state.history, state.stopping, target)


def make_result(history: list[dict[str, float]], stopping: dict[str, Any], target: TargetTransform) -> FitResult:
    """Make the result from the epochs' metrics and the state of early stopping."""
    best = int(stopping["best_epoch"])
    kept = stopping.get("soup") or {"epochs": [best], "metrics": history[best] if history else {}}  # {}: not the chief
    steps = tuple(epoch + 1 for epoch in kept["epochs"])
    metrics = {name: value for name, value in kept["metrics"].items() if name.startswith("val/")}
    return FitResult(pd.DataFrame(history), best + 1, steps, metrics, target.class_weights)


def compile_network(network: keras.Model, config: TrainingConfig, steps_per_epoch: int, strategy: Strategy) -> None:
    """Set optimizer and loss.

    Learning rates fall layer by layer from the head down (discriminative fine-tuning, Howard and Ruder 2018), by
    `training.layer_decay`: a layer's weight decay, which is multiplied by its rate, falls with it.
    """
    optimizer = strategy.make_optimizer(config, config.epochs * steps_per_epoch)
    if config.layer_decay != 1:
        optimizer.rate_factors = tuple(config.layer_decay**depth for depth in layer_depths(network))
    loss = DistillationLoss(config.loss, config.distillation) if config.teacher else make_loss(config.loss)
    network.compile(optimizer=optimizer, loss=strategy.make_loss(loss), jit_compile=False)


def make_validation(network: keras.Model, data: TrainingData, config: TrainConfig) -> Validation:
    """Make the validation callback: loss on the network's scale, metrics on the labels' own."""
    loss, scale = make_loss(config.training.loss), data.target.scale
    targets = scale.standardize(data.validation.labels)[:, None]

    def validation_loss(raw: NDArray[Any]) -> float:
        return float(loss(targets, raw))

    predictor = Predictor(network, config.evaluation.batch_tokens, config.training.bucket_width)
    return Validation(predictor, data.validation, config.task.head_kind, scale.rescale, validation_loss)


def make_early_stopping(config: TrainConfig, validation: Validation) -> BestEpoch:
    """Make early stopping by the task's metric, or the loss, on the validation split."""
    early_stopping = config.training.early_stopping
    name = {"metric": config.task.metric, "loss": "loss"}[early_stopping.monitor]
    mode = "min" if name == "loss" else config.task.headline.mode
    monitored = (f"val/{name}", mode, early_stopping.patience * config.training.validations_per_epoch)
    if config.training.averaging == "soup":
        return Soup(*monitored, validation, config.training.validations)
    return BestEpoch(*monitored)


def on_averages(callbacks: list[keras.callbacks.Callback], config: TrainingConfig) -> list[keras.callbacks.Callback]:
    """Wrap callbacks so that they see the moving averages, if there are any, at an epoch's end."""
    return [AverageSwap(), *callbacks, AverageSwap()] if config.averaging == "ema" else callbacks


def run_training(
    network: keras.Model,
    batches: TrainingBatches,
    target: TargetTransform,
    config: TrainingConfig,
    observers: Observers,
    checkpoints: CheckpointOptions | None,
    strategy: Strategy,
) -> None:
    """Compile the network, restore its checkpoint, train it, and set it to the kept weights, on the labels' own scale.

    Keras's `fit` is called for each part of an epoch, since it cannot start within an epoch: a Keras epoch is a part.
    """
    if batches.settings.parts > len(batches):
        raise UserError(f"training.validate_every={config.validate_every}: an epoch has {len(batches)} steps only")
    compile_network(network, config, len(batches), strategy)
    reporter, keeper = observers.reporter, observers.keeper
    callbacks = strategy.make_callbacks(on_averages(observers.callbacks, config))
    start = Position(0, 0)
    if checkpoints:
        saver = CheckpointSaver(checkpoints, batches, reporter, keeper, writes=strategy.is_chief)
        callbacks, start = [*callbacks, saver], saver.restore(network)
    strategy.offset_dropout_seeds(network)
    first, _ = batches.part_at(start.epoch, start.step)
    class_weights = None if config.teacher else strategy.fit_class_weights(target)  # a teacher's targets include them
    with reporter.progress, computing_in(network, config.precision):
        train_parts(network, batches, range(first, reporter.parts), callbacks, class_weights)
    if strategy.is_chief:
        keeper.restore_best_weights_to(network)
        fold_label_scale(network, target.scale)


def train_parts(
    network: keras.Model,
    batches: TrainingBatches,
    parts: Iterable[int],
    callbacks: list[keras.callbacks.Callback],
    class_weights: ClassWeights | None,
) -> None:
    """Call Keras's `fit` for each part, until early stopping ends the training."""
    for part in parts:
        network.fit(
            batches.dataset(),
            initial_epoch=part,
            epochs=part + 1,
            class_weight=class_weights,
            callbacks=callbacks,
            verbose=0,
        )
        if network.stop_training:
            return
