"""Batches of like length as a `tf.data.Dataset`, in a new order every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.features.buckets import pad, training_batches
from distilspark.features.encoding import Encoded

INPUTS = {name: tf.TensorSpec((None, None), tf.int32) for name in ("token_ids", "padding_mask")}


@dataclass(frozen=True)
class Examples:
    """Encoded rows and their labels."""

    encoded: Encoded
    labels: NDArray[np.float64]  # (n,), on the labels' own scale


def join(first: Examples, second: Examples) -> Examples:
    """Return the rows of both."""
    rows = pd.concat([first.encoded.to_frame(), second.encoded.to_frame()], ignore_index=True)
    return Examples(Encoded.from_frame(rows), np.concatenate([first.labels, second.labels]))


@dataclass(frozen=True)
class BatchSettings:
    """Size and order of batches."""

    batch_size: int  # rows; with several workers, of all of them together
    bucket_width: int  # tokens: a batch is padded to the next multiple of it
    seed: int


class TrainingBatches:
    """The batches of every epoch. The rows of a batch depend only on the seed and the epoch's number."""

    output_signature: tuple[Any, ...] = (INPUTS, tf.TensorSpec((None,), tf.float32))

    def __init__(self, encoded: Encoded, targets: NDArray[np.float32], settings: BatchSettings) -> None:
        """`targets` (n,) are the labels on the network's scale."""
        self.encoded, self.targets, self.settings = encoded, targets, settings
        self.epoch = self.step = 0

    def seek(self, epoch: int, step: int) -> None:
        """Continue with that epoch, without its first `step` batches; both count from 0."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Return the batches in an epoch."""
        return -(-len(self.targets) // self.settings.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of the next epoch."""
        batches = self._draw_epoch(self.epoch)[self.step :]
        self.epoch, self.step = self.epoch + 1, 0
        for drawn in batches:
            yield self._make_batch(drawn)

    def _draw_epoch(self, epoch: int) -> list[Any]:
        rng = np.random.default_rng((self.settings.seed, epoch))
        return list(training_batches(self.encoded.lengths, self.settings.batch_size, self.settings.bucket_width, rng))

    def _make_batch(self, rows: Any) -> tuple[Any, ...]:
        return self._pad(rows), self.targets[rows]

    def _pad(self, rows: Any) -> dict[str, NDArray[np.int32]]:
        return pad([self.encoded.token_ids[row] for row in rows], self.settings.bucket_width)

    def dataset(self) -> Any:
        """Return a dataset whose every iteration is the next epoch; its cardinality is the first one's."""
        batches = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=self.output_signature)
        length = len(self) - self.step
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread holds up an epoch's end by up to its length
        return batches.apply(tf.data.experimental.assert_cardinality(length)).prefetch(2).with_options(options)
