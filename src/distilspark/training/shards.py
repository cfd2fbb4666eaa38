"""One worker's part of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.features.buckets import pad, round_up
from distilspark.features.encoding import Encoded
from distilspark.training.batches import TrainingBatches


class ShardBatches(TrainingBatches):
    """The batches of one shard: every worker takes the same number of steps, whatever the size of its shard.

    A global batch is made of all workers' batches of a step. At the same step all workers have rows of like length, so
    that none waits long for another. A row's weight makes the mean over the workers' means the mean over all rows.
    """

    signature = (*TrainingBatches.signature, tf.TensorSpec((None,), tf.float32))

    def __init__(
        self,
        encoded: Encoded,
        labels: NDArray[np.float32],
        batch_size: int,
        bucket_width: int,
        seed: int,
        rank: int,
        sizes: Sequence[int],
        row_weights: NDArray[np.float32],
    ) -> None:
        """`batch_size` is the global one; `sizes`: the rows of all shards, this one's at `rank`, none of them 0."""
        super().__init__(encoded, labels, batch_size, bucket_width, seed)
        self.rank, self.row_weights = rank, row_weights
        steps = min(-(-sum(sizes) // batch_size), *sizes)
        bounds = np.outer(np.arange(steps + 1), sizes) // steps
        self.counts = np.diff(bounds, axis=0)  # (steps, workers): rows of each batch

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self.counts)

    def _draw(self, epoch: int) -> list[Any]:
        shuffled = np.random.default_rng((self.seed, epoch, self.rank)).permutation(len(self.labels))
        order = shuffled[np.argsort(round_up(self.encoded.lengths[shuffled], self.bucket_width), kind="stable")]
        batches = np.split(order, np.cumsum(self.counts[:, self.rank])[:-1])
        weights = self.counts[:, self.rank] * self.counts.shape[1] / self.counts.sum(axis=1)
        together = np.random.default_rng((self.seed, epoch)).permutation(len(self))  # the same for all workers
        return [(batches[step], weights[step]) for step in together]

    def _fill(self, drawn: Any) -> tuple[Any, ...]:
        rows, weight = drawn
        inputs = pad([self.encoded.token_ids[row] for row in rows], self.bucket_width)
        return inputs, self.labels[rows], np.float32(weight) * self.row_weights[rows]
