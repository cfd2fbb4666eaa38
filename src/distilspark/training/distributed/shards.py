"""Batches of one worker's shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.features.buckets import round_up
from distilspark.features.encoding import Encoded
from distilspark.training.batches import BatchSettings, TrainingBatches


@dataclass(frozen=True)
class Shard:
    """A worker's rank, and the sizes of all workers' shards."""

    rank: int
    sizes: tuple[int, ...]  # rows of every worker's shard, in the order of ranks; none of them 0

    @property
    def world_size(self) -> int:
        """The number of workers."""
        return len(self.sizes)


class ShardBatches(TrainingBatches):
    """A worker's part of every global batch. All workers take the same number of steps, whatever their shards' sizes.

    A global batch is the union of all workers' batches of a step. At the same step all workers have rows of similar
    length, so that none waits long for another. Row weights make the mean over the workers' means the mean over all
    rows.
    """

    def __init__(
        self,
        encoded: Encoded,
        targets: NDArray[np.float32],
        row_weights: NDArray[np.float32],
        settings: BatchSettings,
        shard: Shard,
    ) -> None:
        """`row_weights` (n,) multiply the losses: the class weights, or ones."""
        super().__init__(encoded, targets, settings)
        self.row_weights, self.shard = row_weights, shard
        steps = min(-(-sum(shard.sizes) // settings.batch_size), *shard.sizes)
        bounds = np.outer(np.arange(steps + 1), shard.sizes) // steps
        self.counts = np.diff(bounds, axis=0)  # (steps, workers): rows of each batch

    @property
    def output_signature(self) -> tuple[Any, ...]:
        """The shapes and types of a batch."""
        return (*super().output_signature, tf.TensorSpec((None,), tf.float32))

    def __len__(self) -> int:
        """Return the steps in an epoch."""
        return len(self.counts)

    def _draw_epoch(self, epoch: int) -> list[Any]:
        seed, rank = self.settings.seed, self.shard.rank
        shuffled = np.random.default_rng((seed, epoch, rank)).permutation(len(self.targets))
        widths = round_up(self.encoded.lengths[shuffled], self.settings.bucket_width)
        order = shuffled[np.argsort(widths, kind="stable")]
        batches = np.split(order, np.cumsum(self.counts[:, rank])[:-1])
        weights = self.counts[:, rank] * self.shard.world_size / self.counts.sum(axis=1)
        step_order = np.random.default_rng((seed, epoch)).permutation(len(self))  # the same for all workers
        return [(batches[step], weights[step]) for step in step_order]

    def _make_batch(self, drawn: Any) -> tuple[Any, ...]:
        rows, weight = drawn
        return self._pad(rows), self.targets[rows], np.float32(weight) * self.row_weights[rows]
