"""Who trains: one process alone, or a team whose members each have a shard and take every step together.

Gradients meet in TensorFlow's collectives, within the optimizer; all else that members tell one another goes through
an exchange, once an epoch. Keras's own `fit` knows nothing of it (it does not work under a distribution strategy).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.config import TrainingConfig
from distilspark.errors import WorkError
from distilspark.features.encoding import Encoded
from distilspark.training.batches import TrainingBatches
from distilspark.training.optimizer import FusedAdam, make_optimizer
from distilspark.training.resuming import weights_digest
from distilspark.training.shards import ShardBatches

Exchange = Callable[[str], Sequence[str]]  # takes this member's message, gives all members' in the order of their ranks
ClassWeights = dict[int, float] | None
GROUP, GRADIENTS, LOSS = 1, 1, 2  # the keys of the collectives


class Alone:
    """One process that has all rows."""

    leads = True

    def batches(
        self, encoded: Encoded, targets: NDArray[np.float32], config: TrainingConfig, class_weights: ClassWeights
    ) -> TrainingBatches:
        """The batches of every epoch."""
        return TrainingBatches(encoded, targets, config.batch_size, config.bucket_width, config.seed)

    def optimizer(self, config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
        """The optimizer of so many steps."""
        return make_optimizer(config, steps)

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """What a step minimises."""
        return loss

    def class_weights(self, class_weights: ClassWeights) -> ClassWeights:
        """What Keras has to multiply losses by."""
        return class_weights

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """What an epoch ends with, before the checkpoint."""
        return []

    def timers(self) -> list[keras.callbacks.Callback]:
        """What an epoch ends with, before the validation."""
        return []

    def settle(self, network: keras.Model) -> None:
        """Make the network this member's own."""


class Team(Alone):
    """A member of a team. All have the same weights at every step; the first leads: it validates, stops and keeps."""

    def __init__(self, rank: int, sizes: Sequence[int], exchange: Exchange) -> None:
        """`sizes`: the rows of the members' shards. The collectives' runtime must be up (`join`)."""
        self.rank, self.sizes, self.exchange = rank, sizes, exchange
        self.leads = rank == 0

    def batches(
        self, encoded: Encoded, targets: NDArray[np.float32], config: TrainingConfig, class_weights: ClassWeights
    ) -> TrainingBatches:
        """Their part for this member; the class weights are in it."""
        weights = np.array([class_weights[int(label)] if class_weights else 1.0 for label in targets], np.float32)
        sizes = (config.batch_size, config.bucket_width, config.seed)
        return ShardBatches(encoded, targets, *sizes, self.rank, self.sizes, weights)

    def optimizer(self, config: TrainingConfig, steps: int) -> keras.optimizers.Optimizer:
        """One that steps along the mean gradient."""
        optimizer = make_optimizer(config, steps, TeamAdam)
        optimizer.members = len(self.sizes)
        return optimizer

    def loss(self, loss: keras.losses.Loss) -> keras.losses.Loss:
        """The loss on this member's rows, which says that on all of them."""
        return TeamLoss(loss, len(self.sizes))

    def class_weights(self, class_weights: ClassWeights) -> ClassWeights:
        """None: the batches have them."""
        return None

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """All agree, or the training fails."""
        return [Agreement(self.exchange)]

    def timers(self) -> list[keras.callbacks.Callback]:
        """The seconds of a step."""
        return [StepTime()]

    def settle(self, network: keras.Model) -> None:
        """Give each member other dropout masks; the leader's states stay, which its checkpoints hold."""
        weights = {id(variable) for variable in network.weights}
        for variable in network.variables:
            if id(variable) not in weights:
                variable.assign(variable.numpy() + np.array([self.rank, 0], variable.dtype))


def join(rank: int, addresses: Sequence[str], threads: int) -> Any:
    """Set up TensorFlow's collectives between processes; the first thing that a process does with TensorFlow.

    The address at `rank` is this process's own; a server listens at its port. What is returned must be kept.

    Raises:
        WorkError: the port is taken.

    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(addresses)}), task_type="worker", task_id=rank, rpc_layer="grpc"
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        raise WorkError(f"worker {rank} cannot listen at {addresses[rank]}: {error.message}") from error


def mean_over_members(tensors: Sequence[Any], members: int, key: int) -> list[Any]:
    """The mean of each tensor over all members, by one collective; all members must call it in the same order."""
    flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
    mean = tf.raw_ops.CollectiveReduceV2(
        input=flat,
        group_size=members,
        group_key=GROUP,
        instance_key=key,
        ordering_token=[],
        merge_op="Add",
        final_op="Div",
        communication_hint="ring",
    )
    parts = tf.split(mean, [tensor.shape.num_elements() for tensor in tensors])
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class TeamAdam(FusedAdam):
    """`FusedAdam` on the mean of all members' gradients."""

    members = 1

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """Average, then clip, decay and step as alone."""
        variables = trainable_variables or self._trainable_variables
        dense = [tf.ensure_shape(gradient, variable.shape) for gradient, variable in zip(grads, variables, strict=True)]
        super().apply(mean_over_members(dense, self.members, GRADIENTS), variables)


class TeamLoss(keras.losses.Loss):  # type: ignore[misc]
    """A loss whose value is the mean over all members, and whose gradient is this member's own."""

    def __init__(self, loss: keras.losses.Loss, members: int) -> None:
        """`loss`: that of a member."""
        super().__init__(name=loss.name)
        self.of_member, self.members = loss, members

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """A scalar."""
        own = self.of_member(y_true, y_pred, sample_weight)
        (mean,) = mean_over_members([tf.stop_gradient(own)], self.members, LOSS)
        return own + tf.stop_gradient(mean - own)


class StepTime(keras.callbacks.Callback):  # type: ignore[misc]
    """The median seconds of an epoch's steps, as `time/step`."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Count anew."""
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """A step begins."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """A step ends."""
        self.seconds.append(time.perf_counter() - self.started)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Put it into the epoch's logs."""
        logs["time/step"] = float(np.median(self.seconds))


class Agreement(keras.callbacks.Callback):  # type: ignore[misc]
    """After each epoch: all members have the same weights, and stop where the leader stops."""

    def __init__(self, exchange: Exchange) -> None:
        """Must come after what stops the training, and before what keeps it."""
        super().__init__()
        self.exchange = exchange

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Tell the others, and hear them."""
        mine = {"weights": weights_digest(self.model), "stop": bool(self.model.stop_training)}
        answers = [json.loads(answer) for answer in self.exchange(json.dumps(mine))]
        digests = [answer["weights"][:12] for answer in answers]
        if len(set(digests)) > 1:
            raise WorkError(f"after epoch {epoch + 1} the workers' weights differ ({', '.join(digests)})")
        self.model.stop_training = answers[0]["stop"]
