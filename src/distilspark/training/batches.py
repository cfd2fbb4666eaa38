"""Batches of similar length as a `tf.data.Dataset`, in a new order every epoch."""

from __future__ import annotations

from bisect import bisect_right
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
    """Encoded rows, their labels, and a teacher's predictions for them."""

    encoded: Encoded
    labels: NDArray[np.float64]  # (n,), on the labels' own scale; NaN in rows without a label
    soft: NDArray[np.float64] | None = None  # (n, units): the teacher's probabilities, or values on the labels' scale


def join(first: Examples, second: Examples) -> Examples:
    """Return the rows of both."""
    rows = pd.concat([first.encoded.to_frame(), second.encoded.to_frame()], ignore_index=True)
    soft = None if first.soft is None or second.soft is None else np.concatenate([first.soft, second.soft])
    return Examples(Encoded.from_frame(rows), np.concatenate([first.labels, second.labels]), soft)


@dataclass(frozen=True)
class BatchSettings:
    """Size and order of batches."""

    batch_size: int  # rows; with several workers, of all of them together
    bucket_width: int  # tokens: a batch is padded to the next multiple of it
    seed: int
    parts: int = 1  # of an epoch, with nearly equal numbers of steps; at most one per step


class TrainingBatches:
    """The batches of every epoch. The rows of a batch depend only on the seed and the epoch's number.

    A part of an epoch is the steps between two validations. Parts are numbered over all epochs, from 0.
    """

    def __init__(self, encoded: Encoded, targets: NDArray[np.float32], settings: BatchSettings) -> None:
        """`targets` are as `make_targets` returns them."""
        self.encoded, self.targets, self.settings = encoded, targets, settings
        self.epoch = self.step = 0

    @property
    def output_signature(self) -> tuple[Any, ...]:
        """The shapes and types of a batch."""
        return INPUTS, tf.TensorSpec((None, *self.targets.shape[1:]), tf.float32)

    def seek(self, epoch: int, step: int) -> None:
        """Continue with that epoch, without its first `step` batches; both count from 0."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.targets) // self.settings.batch_size)

    def start_of(self, part: int) -> tuple[int, int]:
        """Return the epoch and the step at which a part begins."""
        epoch, number = divmod(part, self.settings.parts)
        return epoch, number * len(self) // self.settings.parts

    def part_at(self, epoch: int, step: int) -> tuple[int, int]:
        """Return the part that a step belongs to, and the steps before it in that part."""
        first = epoch * self.settings.parts
        starts = [self.start_of(first + number)[1] for number in range(self.settings.parts)]
        number = bisect_right(starts, step) - 1
        return first + number, step - starts[number]

    def steps_in(self, part: int) -> int:
        """Return the number of batches in a part."""
        return (self.start_of(part + 1)[1] or len(self)) - self.start_of(part)[1]

    def epochs_after(self, part: int) -> float:
        """Return the number of epochs in the first `part` parts; an int if it is whole."""
        epochs, rest = divmod(part, self.settings.parts)
        return epochs + rest / self.settings.parts if rest else epochs

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of the next part."""
        epoch, start = self.epoch, self.step
        part, done = self.part_at(epoch, start)
        self.epoch, self.step = self.start_of(part + 1)
        for drawn in self._draw_epoch(epoch)[start : start + self.steps_in(part) - done]:
            yield self._make_batch(drawn)

    def _draw_epoch(self, epoch: int) -> list[Any]:
        rng = np.random.default_rng((self.settings.seed, epoch))
        return list(training_batches(self.encoded.lengths, self.settings.batch_size, self.settings.bucket_width, rng))

    def _make_batch(self, rows: Any) -> tuple[Any, ...]:
        return self._pad(rows), self.targets[rows]

    def _pad(self, rows: Any) -> dict[str, NDArray[np.int32]]:
        return pad([self.encoded.token_ids[row] for row in rows], self.settings.bucket_width)

    def dataset(self) -> Any:
        """Return a dataset that yields the next part in each iteration; its cardinality is that of the first."""
        batches = tf.data.Dataset.from_generator(lambda: iter(self), output_signature=self.output_signature)
        part, done = self.part_at(self.epoch, self.step)
        length = self.steps_in(part) - done
        options = tf.data.Options()
        options.autotune.enabled = False  # its thread holds up an epoch's end by up to its length
        return batches.apply(tf.data.experimental.assert_cardinality(length)).prefetch(2).with_options(options)
