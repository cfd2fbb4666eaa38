"""The batches of an epoch, and what a network says about them in order."""

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
from distilspark.training.batches import TrainingBatches
from distilspark.training.class_weights import balanced_weights
from distilspark.training.prediction import Predictor


@pytest.fixture
def make(toy_rows: Callable[..., Any]) -> Callable[..., TrainingBatches]:
    encoded, _ = toy_rows(53)
    numbers = np.arange(53, dtype=np.float32)  # labels that tell rows apart
    return lambda seed=1, size=8: TrainingBatches(encoded, numbers, size, 8, seed)


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


def test_the_order_follows_seed_and_epoch(make: Callable[..., TrainingBatches]) -> None:
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


def test_the_dataset_is_a_new_epoch_each_time(make: Callable[..., TrainingBatches]) -> None:
    dataset = make().dataset()
    assert int(dataset.cardinality()) == 7
    seen = [[labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] for _ in range(2)]
    expected = make()
    assert seen == [epoch(expected), epoch(expected)]


def test_an_epoch_that_was_broken_off_goes_on(make: Callable[..., TrainingBatches]) -> None:
    whole, broken = make(), make()
    epochs = [epoch(whole) for _ in range(3)]
    broken.go_to(1, 3)
    dataset = broken.dataset()
    assert int(dataset.cardinality()) == 4
    assert [labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] == epochs[1][3:]
    dataset = broken.dataset()
    assert int(dataset.cardinality()) == 7
    assert [labels.astype(int).tolist() for _, labels in dataset.as_numpy_iterator()] == epochs[2]


@pytest.mark.parametrize("rows, size, count", [(1, 8, 1), (8, 8, 1), (9, 8, 2), (3, 1, 3)])
def test_small_sets(toy_rows: Callable[..., Any], rows: int, size: int, count: int) -> None:
    encoded, labels = toy_rows(rows)
    batches = TrainingBatches(encoded, labels.astype(np.float32), size, 8, 0)
    assert len(batches) == len(list(batches)) == count


@pytest.mark.parametrize("head, units", [("classification", 2), ("regression", 1)])
def test_predictions_come_in_the_order_of_the_rows(
    tiny_folder: Path, toy_rows: Callable[..., Any], head: str, units: int
) -> None:
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


def test_predictions_see_weights_that_change(tiny_folder: Path, toy_rows: Callable[..., Any]) -> None:
    encoded, _ = toy_rows(5)
    network = build_network(tiny_folder, "regression")
    predictor = Predictor(network, 1000, 8)
    before = predictor.raw_outputs(encoded)
    network.get_layer("classifier").bias.assign([2.0])
    np.testing.assert_allclose(predictor.raw_outputs(encoded), before + 2, atol=1e-6)


def test_balanced_weights_by_hand() -> None:
    assert balanced_weights(np.array([0, 0, 0, 1.0])) == pytest.approx({0: 4 / (2 * 3), 1: 2.0})
    assert balanced_weights(np.array([0.0, 1, 2, 2])) == pytest.approx({0: 4 / 3, 1: 4 / 3, 2: 2 / 3})
    labels = np.array([0] * 30 + [1] * 70, dtype=float)
    weights = balanced_weights(labels)
    assert 30 * weights[0] == pytest.approx(70 * weights[1]) == pytest.approx(50)
    assert balanced_weights(np.ones(4)) == {1: 1.0}
