"""Batches of rows of similar length, each padded to its own longest row, which saves most of the padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.integer]  # tokens of each row
Rows = NDArray[np.int64]  # indices of rows


def round_up(lengths: Lengths, bucket_width: int) -> Lengths:
    """Round each length up to the next multiple of `bucket_width`.

    >>> round_up(np.array([1, 8, 9]), 8).tolist()
    [8, 8, 16]
    """
    return -(-lengths // bucket_width) * bucket_width


def training_batches(lengths: Lengths, batch_size: int, bucket_width: int, rng: np.random.Generator) -> list[Rows]:
    """Draw an epoch: the row indices of each batch, in random order; every row exactly once.

    Rows are shuffled within each length bucket. Only a batch that straddles two buckets pads to the longer one. If
    `batch_size` does not divide the rows, one batch is smaller; its bucket is random too.
    """
    shuffled = rng.permutation(len(lengths))
    order = shuffled[np.argsort(round_up(lengths[shuffled], bucket_width), kind="stable")]
    starts = np.arange(0, len(order), batch_size)
    remainder = len(order) % batch_size
    if remainder:
        starts[rng.integers(1, len(starts) + 1) :] -= batch_size - remainder
    batches = np.split(order, starts[1:])
    return [batches[index] for index in rng.permutation(len(batches))] if len(order) else []


def scoring_batches(lengths: Lengths, batch_tokens: int, bucket_width: int) -> list[Rows]:
    """Return the row indices of each batch, longest rows first; every row exactly once.

    A batch has at most `batch_tokens` tokens with padding, unless a single row is longer.
    """
    order = np.argsort(-lengths, kind="stable")
    widths = np.maximum(round_up(lengths[order], bucket_width), 1)
    batches, start = [], 0
    while start < len(order):
        end = start + max(1, batch_tokens // int(widths[start]))
        batches.append(order[start:end])
        start = end
    return batches


def pad(
    token_ids: Sequence[NDArray[np.int32]], bucket_width: int, max_length: int | None = None
) -> dict[str, NDArray[np.int32]]:
    """Pad one batch: `token_ids` and `padding_mask` (1 for a token, 0 for padding), both (B, L).

    L is the longest row rounded up to `bucket_width`, but at most `max_length`. Padding has id 0 and is masked.
    """
    lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
    width = int(round_up(lengths.max(initial=1), bucket_width))
    if max_length is not None:
        width = max(int(lengths.max(initial=1)), min(width, max_length))
    mask = (np.arange(width) < lengths[:, None]).astype(np.int32)
    padded = np.zeros(mask.shape, dtype=np.int32)
    if len(token_ids):
        padded[mask.astype(bool)] = np.concatenate(token_ids)
    return {"token_ids": padded, "padding_mask": mask}
