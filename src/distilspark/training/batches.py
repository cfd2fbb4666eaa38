"""Batches of like length as a `tf.data.Dataset`, a new order every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.features.buckets import pad, training_batches
from distilspark.features.encoding import Encoded

INPUTS = {name: tf.TensorSpec((None, None), tf.int32) for name in ("token_ids", "padding_mask")}


class TrainingBatches:
    """The batches of every epoch: which rows they hold depends on the seed and the epoch's number alone."""

    signature: tuple[Any, ...] = (INPUTS, tf.TensorSpec((None,), tf.float32))

    def __init__(
        self, encoded: Encoded, labels: NDArray[np.float32], batch_size: int, bucket_width: int, seed: int
    ) -> None:
        """`labels` (n,) go with the encoded rows."""
        self.encoded, self.labels = encoded, labels
        self.batch_size, self.bucket_width, self.seed = batch_size, bucket_width, seed
        self.epoch = self.step = 0

    def go_to(self, epoch: int, step: int) -> None:
        """Let the next iteration be that epoch's, without its first `step` batches."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The next epoch's batches."""
        batches = self._draw(self.epoch)[self.step :]
        self.epoch, self.step = self.epoch + 1, 0
        for drawn in batches:
            yield self._fill(drawn)

    def _draw(self, epoch: int) -> list[Any]:
        rng = np.random.default_rng((self.seed, epoch))
        return list(training_batches(self.encoded.lengths, self.batch_size, self.bucket_width, rng))

    def _fill(self, drawn: Any) -> tuple[Any, ...]:
        return pad([self.encoded.token_ids[row] for row in drawn], self.bucket_width), self.labels[drawn]

    def dataset(self) -> Any:
        """A dataset whose every iteration is the next epoch; its length, that of the first of them, is known."""
        batches = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=self.signature)
        length = len(self) - self.step
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread holds up an epoch's end by up to its length
        return batches.apply(tf.data.experimental.assert_cardinality(length)).prefetch(2).with_options(options)
