"""The batches of an epoch, and predictions in row order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilspark.features.buckets import pad
from distilspark.heads import HEADS
from distilspark.model.network import build_network
from distilspark.training.batches import BatchSettings, TrainingBatches
from distilspark.training.prediction import Predictor


@pytest.fixture
def make(toy_rows: Callable[..., Any]) -> Callable[..., TrainingBatches]:
    encoded, _ = toy_rows(53)
    numbers = np.arange(53, dtype=np.float32)  # targets that identify rows
    return lambda seed=1, size=8, parts=1: TrainingBatches(encoded, numbers, BatchSettings(size, 8, seed, parts))


def epoch(batches: TrainingBatches) -> list[list[int]]:
    return [labels.astype(int).tolist() for _, labels in batches]


def test_every_row_is_in_every_epoch_once(make: Callable[..., TrainingBatches]) -> None:
    batches = make()
    assert len(batches) == 7
    for _ in range(3):
        drawn = epoch(batches)
        assert len(drawn) == len(batches)
        assert Counter(row for batch in drawn for row in batch) == Counter(range(53))
        assert sorted(map(len, drawn)) == [5, 8, 8, 8, 8, 8, 8]


def test_order_depends_on_seed_and_epoch(make: Callable[..., TrainingBatches]) -> None:
    first, same, other = make(), make(), make(seed=2)
    epochs = [epoch(first) for _ in range(3)]
    assert epochs == [epoch(same) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != epoch(other)


def test_rows_keep_their_labels_and_padding(make: Callable[..., TrainingBatches], toy_rows: Callable[..., Any]) -> None:
    encoded, _ = toy_rows(53)
    for inputs, labels in make():
        assert inputs["token_ids"].shape[1] % 8 == 0
        for ids, mask, row in zip(inputs["token_ids"], inputs["padding_mask"], labels.astype(int), strict=True):
            assert ids[mask == 1].tolist() == encoded.token_ids[row].tolist()
            assert not ids[mask == 0].any()


def test_dataset_is_a_new_epoch_each_time(make: Callable[..., TrainingBatches]) -> None:
    dataset = make().dataset()
    assert int(dataset.cardinality()) == 7
    drawn = [[labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] for _ in range(2)]
    expected = make()
    assert drawn == [epoch(expected), epoch(expected)]


def test_interrupted_epoch_continues(make: Callable[..., TrainingBatches]) -> None:
    whole, interrupted = make(), make()
    epochs = [epoch(whole) for _ in range(3)]
    interrupted.seek(1, 3)
    dataset = interrupted.dataset()
    assert int(dataset.cardinality()) == 4
    assert [labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] == epochs[1][3:]
    dataset = interrupted.dataset()
    assert int(dataset.cardinality()) == 7
    assert [labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] == epochs[2]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_together_are_the_whole_epoch(make: Callable[..., TrainingBatches], parts: int) -> None:
    whole, divided = make(), make(parts=parts)
    assert len(divided) == 7
    for number in range(2):
        sizes = [divided.steps_in(number * parts + part) for part in range(parts)]
        assert sum(sizes) == 7 and max(sizes) - min(sizes) <= 1
        drawn = []
        for size in sizes:
            dataset = divided.dataset()
            assert int(dataset.cardinality()) == size
            drawn += [labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()]
        assert drawn == epoch(whole)


def test_interrupted_part_continues(make: Callable[..., TrainingBatches]) -> None:
    whole, interrupted = make(), make(parts=3)  # parts of 2, 2 and 3 steps
    epochs = [epoch(whole) for _ in range(3)]
    for step in range(7):
        interrupted.seek(1, step)
        part, done = interrupted.part_at(1, step)
        assert interrupted.start_of(part) == (1, step - done)
        assert int(interrupted.dataset().cardinality()) == interrupted.steps_in(part) - done
        rest = [batch for _ in range(part, 6) for batch in epoch(interrupted)]
        assert rest == epochs[1][step:]
        assert epoch(interrupted) == epochs[2][:2]
    assert [interrupted.epochs_after(part) for part in (0, 1, 3, 4)] == [0, 1 / 3, 1, 4 / 3]


@pytest.mark.parametrize("rows, size, count", [(1, 8, 1), (8, 8, 1), (9, 8, 2), (3, 1, 3)])
def test_small_sets_have_the_expected_number_of_batches(
    toy_rows: Callable[..., Any], rows: int, size: int, count: int
) -> None:
    encoded, labels = toy_rows(rows)
    batches = TrainingBatches(encoded, labels.astype(np.float32), BatchSettings(size, 8, 0))
    assert len(batches) == len(list(batches)) == count


@pytest.mark.parametrize("head, units", [("classification", 2), ("regression", 1)])
def test_predictions_are_in_row_order(tiny_folder: Path, toy_rows: Callable[..., Any], head: str, units: int) -> None:
    encoded, _ = toy_rows(40)
    network = build_network(tiny_folder, head, units)
    whole = network.predict(pad(encoded.token_ids, 8), verbose=0)
    for batch_tokens in (1, 100, 10_000):
        raw = Predictor(network, batch_tokens, 8).raw_outputs(encoded)
        assert raw.shape == (40, units)
        np.testing.assert_allclose(raw, whole, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-3
    outputs = HEADS[head].activate(raw)
    if head == "classification":
        np.testing.assert_allclose(outputs.sum(axis=1), 1)
        np.testing.assert_allclose(outputs, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), rtol=1e-5)
    else:
        np.testing.assert_array_equal(outputs, raw[:, 0])


def test_predictions_follow_changed_weights(tiny_folder: Path, toy_rows: Callable[..., Any]) -> None:
    encoded, _ = toy_rows(5)
    network = build_network(tiny_folder, "regression")
    predictor = Predictor(network, 1000, 8)
    before = predictor.raw_outputs(encoded)
    network.get_layer("classifier").bias.assign([2.0])
    np.testing.assert_allclose(predictor.raw_outputs(encoded), before + 2, atol=1e-6)
