"""What each worker trains on: its own rows, in as many steps as the others, weighted so that all rows count alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distilspark.training.shards import ShardBatches

Epoch = list[tuple[Any, Any, Any]]


@pytest.fixture
def team(toy_rows: Callable[..., Any]) -> Callable[..., list[ShardBatches]]:
    """The shards of a team, with labels that tell all rows apart."""

    def make(*sizes: int, batch_size: int = 16, seed: int = 1) -> list[ShardBatches]:
        starts = np.cumsum([0, *sizes])
        return [
            ShardBatches(
                toy_rows(size, seed=rank)[0],
                np.arange(starts[rank], starts[rank] + size, dtype=np.float32),
                *(batch_size, 2, seed, rank, sizes),
                np.ones(size, np.float32),
            )
            for rank, size in enumerate(sizes)
        ]

    return make


@pytest.mark.parametrize("sizes", [(53, 53), (53, 40), (70, 3), (31, 30, 29), (1, 1)])
def test_every_row_is_in_every_epoch_once_in_equal_numbers_of_steps(team: Any, sizes: tuple[int, ...]) -> None:
    members = team(*sizes)
    assert len({len(member) for member in members}) == 1
    for _ in range(2):
        epochs = [list(member) for member in members]
        assert [len(epoch) for epoch in epochs] == [len(member) for member in members]
        seen = Counter(int(row) for epoch in epochs for _, labels, _ in epoch for row in labels)
        assert seen == Counter(range(sum(sizes)))


def test_a_global_batch_is_as_large_as_was_asked_for(team: Any) -> None:
    members = team(53, 44, batch_size=16)
    steps = list(zip(*members, strict=True))
    assert len(steps) == -(-97 // 16)
    assert all(12 <= sum(len(labels) for _, labels, _ in step) <= 16 for step in steps)


@pytest.mark.parametrize("sizes", [(53, 40), (31, 17, 29)])
def test_the_mean_of_the_members_means_is_that_of_all_rows(team: Any, sizes: tuple[int, ...]) -> None:
    for step in zip(*team(*sizes), strict=True):
        ours = np.mean([np.mean(weights * labels) for _, labels, weights in step])
        assert ours == pytest.approx(np.concatenate([labels for _, labels, _ in step]).mean(), rel=1e-6)


def test_rows_of_a_step_are_of_like_length_everywhere(team: Any) -> None:
    steps = list(zip(*team(160, 160), strict=True))
    widths = [[inputs["token_ids"].shape[1] for inputs, _, _ in step] for step in steps]
    assert max(abs(one - other) for one, other in widths) <= 2
    assert len({one for one, _ in widths}) > 3


def test_the_order_follows_seed_epoch_and_rank(team: Any) -> None:
    def drawn(members: list[ShardBatches]) -> list[list[float]]:
        return [[float(row) for _, labels, _ in member for row in labels] for member in members]

    first = team(40, 40)
    epochs = [drawn(first), drawn(first)]
    same = team(40, 40)
    assert epochs == [drawn(same), drawn(same)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != drawn(team(40, 40, seed=2))


def test_an_epoch_that_was_broken_off_goes_on(team: Any) -> None:
    whole, broken = team(40, 30)[1], team(40, 30)[1]
    epochs = [[labels.tolist() for _, labels, _ in whole] for _ in range(3)]
    broken.go_to(1, 2)
    assert int(broken.dataset().cardinality()) == len(whole) - 2
    assert [labels.tolist() for _, labels, _ in broken] == epochs[1][2:]
    assert [labels.tolist() for _, labels, _ in broken] == epochs[2]


def test_class_weights_go_with_their_rows(toy_rows: Callable[..., Any]) -> None:
    encoded, labels = toy_rows(30)
    weights = np.where(labels == 1, 2.0, 0.5).astype(np.float32)
    batches = ShardBatches(encoded, labels.astype(np.float32), 20, 2, 1, 0, (30, 30), weights)
    for _, classes, given in batches:
        np.testing.assert_array_equal(given, np.where(classes == 1, 2.0, 0.5))
