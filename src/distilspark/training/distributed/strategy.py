"""Strategies: a training in one process, or in collective workers that take every step together.

Gradients are averaged inside the optimizer (`collectives.py`). All other messages between workers go through an
all-gather, once an epoch. Keras's `fit` is the same for both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.config import TrainingConfig
from distilspark.errors import WorkError
from distilspark.training.batches import BatchSettings, Examples, TrainingBatches
from distilspark.training.callbacks import StepTimer
from distilspark.training.checkpoint.state import weights_digest
from distilspark.training.distributed.collectives import AllReduceAdam, AllReduceLoss
from distilspark.training.distributed.shards import Shard, ShardBatches
from distilspark.training.optimizer import FusedAdam, make_optimizer
from distilspark.training.targets import ClassWeights, TargetTransform

AllGather = Callable[[str], Sequence[str]]  # takes this worker's message, returns all workers' in the order of ranks
Callbacks = list[keras.callbacks.Callback]


class Strategy(Protocol):
    """The parts of a training that depend on the number of processes."""

    @property
    def is_chief(self) -> bool:
        """True for the process that validates, decides when to stop, and writes checkpoints."""

    def make_batches(self, examples: Examples, target: TargetTransform, config: TrainingConfig) -> TrainingBatches:
        """Return this process's part of the batches of every epoch."""

    def make_optimizer(self, config: TrainingConfig, steps: int) -> FusedAdam:
        """Return the optimizer for a training of `steps` updates."""

    def make_loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Return the loss that Keras minimises and reports, from the loss of one process's rows."""

    def fit_class_weights(self, target: TargetTransform) -> ClassWeights | None:
        """Return the class weights that Keras's `fit` has to apply; None if the batches have them."""

    def make_callbacks(self, chief_callbacks: Callbacks) -> Callbacks:
        """Return this process's callbacks except the checkpoint saver; only the chief has `chief_callbacks`."""

    def offset_dropout_seeds(self, network: keras.Model) -> None:
        """Give every process its own dropout masks, in place."""


@dataclass(frozen=True)
class SingleProcess:
    """One process that has all rows."""

    is_chief: bool = True

    def make_batches(self, examples: Examples, target: TargetTransform, config: TrainingConfig) -> TrainingBatches:
        """Batch all rows."""
        return TrainingBatches(examples.encoded, make_targets(examples, target), _batch_settings(config))

    def make_optimizer(self, config: TrainingConfig, steps: int) -> FusedAdam:
        """Step along this process's gradient."""
        return make_optimizer(config, steps)

    def make_loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Return the loss as it is."""
        return loss

    def fit_class_weights(self, target: TargetTransform) -> ClassWeights | None:
        """Leave all class weights to Keras."""
        return target.class_weights

    def make_callbacks(self, chief_callbacks: Callbacks) -> Callbacks:
        """Return the chief's callbacks."""
        return chief_callbacks

    def offset_dropout_seeds(self, network: keras.Model) -> None:
        """Leave the seeds as they are."""


class CollectiveWorkers:
    """One of several workers, each with a shard of the rows. All have the same weights after every step."""

    def __init__(self, shard: Shard, all_gather: AllGather) -> None:
        """The collectives must have been started (`start_collectives`)."""
        self.shard, self.all_gather = shard, all_gather

    @property
    def is_chief(self) -> bool:
        """True for the worker of rank 0."""
        return self.shard.rank == 0

    def make_batches(self, examples: Examples, target: TargetTransform, config: TrainingConfig) -> TrainingBatches:
        """Batch the rows of this worker's shard, with their class weights."""
        targets, row_weights = make_targets(examples, target), target.row_weights(examples.labels)
        return ShardBatches(examples.encoded, targets, row_weights, _batch_settings(config), self.shard)

    def make_optimizer(self, config: TrainingConfig, steps: int) -> FusedAdam:
        """Step along the mean gradient of all workers."""
        return make_optimizer(config, steps, partial(AllReduceAdam, world_size=self.shard.world_size))

    def make_loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """Report the mean loss over all workers."""
        return AllReduceLoss(loss, self.shard.world_size)

    def fit_class_weights(self, target: TargetTransform) -> ClassWeights | None:
        """Return None: the batches have the class weights."""
        return None

    def make_callbacks(self, chief_callbacks: Callbacks) -> Callbacks:
        """Add step times before, and the comparison of weights after the chief's."""
        return [StepTimer(), *(chief_callbacks if self.is_chief else []), WorkerSync(self.all_gather)]

    def offset_dropout_seeds(self, network: keras.Model) -> None:
        """Add the rank to every seed; the chief's seeds stay those that its checkpoints hold."""
        weights = {id(variable) for variable in network.weights}
        for variable in network.variables:
            if id(variable) not in weights:
                variable.assign(variable.numpy() + np.array([self.shard.rank, 0], variable.dtype))


class WorkerSync(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that checks after each epoch that all workers have the same weights, and stops when the chief stops.

    Must come after early stopping, and before the checkpoints.
    """

    def __init__(self, all_gather: AllGather) -> None:
        """`all_gather` exchanges JSON messages."""
        super().__init__()
        self.all_gather = all_gather

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Exchange the digests of the weights and the decisions to stop.

        Raises:
            WorkError: the weights differ.

        """
        own = {"weights": weights_digest(self.model), "stop": bool(self.model.stop_training)}
        messages = [json.loads(message) for message in self.all_gather(json.dumps(own))]
        digests = [message["weights"][:12] for message in messages]
        if len(set(digests)) > 1:
            raise WorkError(f"at validation {epoch + 1} the workers' weights differ ({', '.join(digests)})")
        self.model.stop_training = messages[0]["stop"]


SINGLE_PROCESS = SingleProcess()


def _batch_settings(config: TrainingConfig) -> BatchSettings:
    return BatchSettings(config.batch_size, config.bucket_width, config.seed, config.validations_per_epoch)


def make_targets(examples: Examples, target: TargetTransform) -> NDArray[np.float32]:
    """Return the labels (n,) on the network's scale; with a teacher, `DistillationLoss`'s, (n, 2 + units)."""
    labels = target.scale.standardize(examples.labels)
    if examples.soft is None:
        return labels.astype(np.float32)
    columns = np.nan_to_num(labels), target.row_weights(examples.labels), target.scale.standardize(examples.soft)
    return np.column_stack(columns).astype(np.float32)
