"""TensorFlow's collectives between processes: start them, and average gradients and losses by all-reduce.

Keras's `fit` does not work under `MultiWorkerMirroredStrategy` (keras#20585). The strategy only starts the collectives'
runtime; the optimizer and the loss call the collectives themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from distilspark.errors import WorkError
from distilspark.training.optimizer import FusedAdam

GROUP_KEY = 1  # of all workers
# Keys of the collectives of a step; ROWS_KEY + n is that of 2^n rows.
GRADIENTS_KEY, LOSS_KEY, PRESENCE_KEY, ROWS_KEY = 1, 2, 3, 4


def start_collectives(rank: int, addresses: Sequence[str], threads: int) -> Any:
    """Start TensorFlow's collectives between processes, before the process uses TensorFlow for anything else.

    The process listens at `addresses[rank]`. Keep the returned object as long as collectives are used.

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


def all_reduce_mean(tensors: Sequence[Any], world_size: int, key: int) -> list[Any]:
    """Return the mean of each tensor over all workers, by one collective; all workers call it in the same order."""
    flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
    mean = tf.raw_ops.CollectiveReduceV2(
        input=flat,
        group_size=world_size,
        group_key=GROUP_KEY,
        instance_key=key,
        ordering_token=[],
        merge_op="Add",
        final_op="Div",
        communication_hint="ring",
    )
    parts = tf.split(mean, [tf.size(tensor) for tensor in tensors], num=len(tensors))
    shaped = zip(parts, tensors, strict=True)
    return [tf.ensure_shape(tf.reshape(part, tf.shape(tensor)), tensor.shape) for part, tensor in shaped]


def all_reduce_rows(gradient: Any, world_size: int) -> Any:
    """Return the mean of an embedding's sparse gradient over all workers: the rows that any of them has.

    A collective's shape is fixed. So the rows are padded to a power of two, and each power has its own key.
    """
    rows = gradient.indices
    own = tf.scatter_nd(rows[:, None], tf.ones_like(rows, tf.float32), gradient.dense_shape[:1])
    (share,) = all_reduce_mean([own], world_size, PRESENCE_KEY)
    all_rows = tf.cast(tf.where(share > 0)[:, 0], rows.dtype)
    power = tf.cast(tf.math.ceil(tf.experimental.numpy.log2(tf.cast(tf.size(all_rows), tf.float64))), tf.int32)
    padded = tf.math.unsorted_segment_sum(
        gradient.values, tf.searchsorted(all_rows, rows), tf.bitwise.left_shift(1, power)
    )
    (mean,) = all_reduce_mean([padded], world_size, ROWS_KEY + power)
    return tf.IndexedSlices(mean[: tf.size(all_rows)], all_rows, gradient.dense_shape)


class AllReduceAdam(FusedAdam):
    """`FusedAdam` on the mean of all workers' gradients; of embeddings, only the batches' rows are exchanged."""

    def __init__(self, *, world_size: int, **settings: Any) -> None:
        """`settings`: those of `FusedAdam`."""
        super().__init__(**settings)
        self.world_size = world_size

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """Average the gradients, then clip, decay and step as `FusedAdam`."""
        is_sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in grads]
        dense = [gradient for gradient, sparse in zip(grads, is_sparse, strict=True) if not sparse]
        means = iter(all_reduce_mean(dense, self.world_size, GRADIENTS_KEY))
        averaged = [
            all_reduce_rows(gradient, self.world_size) if sparse else next(means)
            for gradient, sparse in zip(grads, is_sparse, strict=True)
        ]
        super().apply(averaged, trainable_variables)


class AllReduceLoss(keras.losses.Loss):  # type: ignore[misc]
    """A loss whose value is the mean over all workers, and whose gradient is this worker's own."""

    def __init__(self, loss: keras.losses.Loss, world_size: int) -> None:
        """`loss` is computed on this worker's rows."""
        super().__init__(name=loss.name)
        self.worker_loss, self.world_size = loss, world_size

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return a scalar."""
        own = self.worker_loss(y_true, y_pred, sample_weight)
        (mean,) = all_reduce_mean([tf.stop_gradient(own)], self.world_size, LOSS_KEY)
        return own + tf.stop_gradient(mean - own)
