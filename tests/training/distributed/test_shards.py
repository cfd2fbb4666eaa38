"""A worker's batches: its own rows, in as many steps as other workers have, weighted so that all rows count equally."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distilspark.training.batches import BatchSettings
from distilspark.training.distributed.shards import Shard, ShardBatches

Epoch = list[tuple[Any, Any, Any]]


@pytest.fixture
def workers(toy_rows: Callable[..., Any]) -> Callable[..., list[ShardBatches]]:
    """`workers(*sizes)` returns the batches of all workers, with targets that identify all rows."""

    def make(*sizes: int, batch_size: int = 16, seed: int = 1) -> list[ShardBatches]:
        starts = np.cumsum([0, *sizes])
        return [
            ShardBatches(
                toy_rows(size, seed=rank)[0],
                np.arange(starts[rank], starts[rank] + size, dtype=np.float32),
                np.ones(size, np.float32),
                BatchSettings(batch_size, 2, seed),
                Shard(rank, sizes),
            )
            for rank, size in enumerate(sizes)
        ]

    return make


@pytest.mark.parametrize("sizes", [(53, 53), (53, 40), (70, 3), (31, 30, 29), (1, 1)])
def test_every_row_is_in_every_epoch_once_in_equal_numbers_of_steps(workers: Any, sizes: tuple[int, ...]) -> None:
    shards = workers(*sizes)
    assert len({len(shard) for shard in shards}) == 1
    for _ in range(2):
        epochs = [list(shard) for shard in shards]
        assert [len(epoch) for epoch in epochs] == [len(shard) for shard in shards]
        drawn = Counter(int(row) for epoch in epochs for _, labels, _ in epoch for row in labels)
        assert drawn == Counter(range(sum(sizes)))


def test_global_batch_has_the_configured_size(workers: Any) -> None:
    steps = list(zip(*workers(53, 44, batch_size=16), strict=True))
    assert len(steps) == -(-97 // 16)
    assert all(12 <= sum(len(labels) for _, labels, _ in step) <= 16 for step in steps)


@pytest.mark.parametrize("sizes", [(53, 40), (31, 17, 29)])
def test_mean_of_the_workers_means_is_the_mean_of_all_rows(workers: Any, sizes: tuple[int, ...]) -> None:
    for step in zip(*workers(*sizes), strict=True):
        mean = np.mean([np.mean(weights * labels) for _, labels, weights in step])
        assert mean == pytest.approx(np.concatenate([labels for _, labels, _ in step]).mean(), rel=1e-6)


def test_workers_have_rows_of_similar_length_in_a_step(workers: Any) -> None:
    steps = list(zip(*workers(160, 160), strict=True))
    widths = [[inputs["token_ids"].shape[1] for inputs, _, _ in step] for step in steps]
    assert max(abs(one - other) for one, other in widths) <= 2
    assert len({one for one, _ in widths}) > 3


def test_order_depends_on_seed_epoch_and_rank(workers: Any) -> None:
    def drawn(shards: list[ShardBatches]) -> list[list[float]]:
        return [[float(row) for _, labels, _ in shard for row in labels] for shard in shards]

    first = workers(40, 40)
    epochs = [drawn(first), drawn(first)]
    same = workers(40, 40)
    assert epochs == [drawn(same), drawn(same)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != drawn(workers(40, 40, seed=2))


def test_interrupted_epoch_of_a_worker_continues(workers: Any) -> None:
    whole, interrupted = workers(40, 30)[1], workers(40, 30)[1]
    epochs = [[labels.tolist() for _, labels, _ in whole] for _ in range(3)]
    interrupted.seek(1, 2)
    assert int(interrupted.dataset().cardinality()) == len(whole) - 2
    assert [labels.tolist() for _, labels, _ in interrupted] == epochs[1][2:]
    assert [labels.tolist() for _, labels, _ in interrupted] == epochs[2]


def test_parts_of_an_epoch_have_the_same_steps_on_all_workers(toy_rows: Callable[..., Any]) -> None:
    settings, sizes = BatchSettings(16, 2, 1, parts=2), (40, 30)
    workers = [
        ShardBatches(toy_rows(size)[0], np.arange(size, dtype=np.float32), np.ones(size, np.float32), settings, shard)
        for size, shard in zip(sizes, (Shard(0, sizes), Shard(1, sizes)), strict=True)
    ]
    for shard, size in zip(workers, sizes, strict=True):
        parts = [[labels.tolist() for _, labels, _ in shard] for _ in range(2)]
        assert [len(part) for part in parts] == [shard.steps_in(part) for part in range(2)] == [2, 3]
        assert sorted(row for part in parts for batch in part for row in batch) == list(range(size))


def test_class_weights_follow_their_rows(toy_rows: Callable[..., Any]) -> None:
    encoded, labels = toy_rows(30)
    weights = np.where(labels == 1, 2.0, 0.5).astype(np.float32)
    batches = ShardBatches(encoded, labels.astype(np.float32), weights, BatchSettings(20, 2, 1), Shard(0, (30, 30)))
    for _, classes, row_weights in batches:
        np.testing.assert_array_equal(row_weights, np.where(classes == 1, 2.0, 0.5))
