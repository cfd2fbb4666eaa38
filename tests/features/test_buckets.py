"""Length buckets: batches hold every row once, are deterministic, and pad less than unsorted batches."""

from __future__ import annotations

import numpy as np
import pytest

from distilspark.features.buckets import pad, round_up, scoring_batches, training_batches

LENGTHS = np.random.default_rng(0).integers(3, 65, 1003)


def padded_tokens(batches: list[np.ndarray], width: int = 8) -> int:
    return sum(len(rows) * int(round_up(LENGTHS[rows].max(), width)) for rows in batches)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 1003])
@pytest.mark.parametrize("seed", range(3))
def test_epoch_has_every_row_once(rows: int, seed: int) -> None:
    batches = training_batches(LENGTHS[:rows], 8, 8, np.random.default_rng(seed))
    assert sorted(np.concatenate([[], *batches]).astype(int)) == list(range(rows))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes == sorted([8] * (rows // 8) + ([rows % 8] if rows % 8 else []))


def test_batches_depend_only_on_the_random_generator() -> None:
    def epoch(seed: int) -> list[list[int]]:
        return [rows.tolist() for rows in training_batches(LENGTHS, 16, 8, np.random.default_rng(seed))]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
    rng = np.random.default_rng(1)
    first, second = (training_batches(LENGTHS, 16, 8, rng) for _ in range(2))
    assert {frozenset(rows.tolist()) for rows in first}.isdisjoint(frozenset(rows.tolist()) for rows in second)


def test_batches_hold_rows_of_similar_length_in_random_order() -> None:
    batches = training_batches(LENGTHS, 16, 8, np.random.default_rng(1))
    widths = [int(round_up(LENGTHS[rows], 8).max()) for rows in batches]
    assert np.count_nonzero(np.diff(widths)) > len(batches) / 2  # sorted batches would change their width seven times
    mixed = [rows for rows in batches if len(set(round_up(LENGTHS[rows], 8).tolist())) > 1]
    assert len(mixed) <= 8  # at most one for each border between two buckets
    assert padded_tokens(batches) < 0.65 * 64 * len(LENGTHS)


def test_smaller_batch_can_come_from_any_bucket() -> None:
    seen = set()
    for seed in range(40):
        small = [rows for rows in training_batches(LENGTHS, 16, 8, np.random.default_rng(seed)) if len(rows) < 16]
        seen.add(int(round_up(LENGTHS[small[0]].max(), 8)))
    assert len(seen) > 4


@pytest.mark.parametrize("batch_tokens", [64, 512, 4096, 10**6])
def test_scoring_has_every_row_once_within_the_token_limit(batch_tokens: int) -> None:
    batches = scoring_batches(LENGTHS, batch_tokens, 8)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))
    assert all(padded_tokens([rows]) <= batch_tokens for rows in batches)
    ordered = LENGTHS[np.concatenate(batches)]
    assert (np.diff(ordered) <= 0).all()


def test_a_row_over_the_token_limit_is_scored_alone() -> None:
    assert [rows.tolist() for rows in scoring_batches(np.array([3, 100, 5]), 16, 8)] == [[1], [2, 0]]
    assert scoring_batches(np.array([], dtype=int), 16, 8) == []


@pytest.mark.parametrize("bucket_width, max_length, expected", [(8, None, 16), (1, None, 9), (8, 12, 12), (8, 5, 9)])
def test_pad_rounds_up_but_never_cuts(bucket_width: int, max_length: int | None, expected: int) -> None:
    rows = [np.arange(1, 10, dtype=np.int32), np.array([5, 6], dtype=np.int32)]
    inputs = pad(rows, bucket_width, max_length)
    assert {name: (array.shape, array.dtype) for name, array in inputs.items()} == {
        "token_ids": ((2, expected), np.int32),
        "padding_mask": ((2, expected), np.int32),
    }
    for row, ids, mask in zip(rows, inputs["token_ids"], inputs["padding_mask"], strict=True):
        assert ids[: len(row)].tolist() == row.tolist()
        assert not ids[len(row) :].any()
        assert mask.tolist() == [1] * len(row) + [0] * (expected - len(row))
