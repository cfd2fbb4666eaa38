"""Exponential moving averages and soups of weights, and how training uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.heads import CLASSIFICATION
from distilspark.model.network import build_network
from distilspark.training.averaging import INGREDIENTS, Soup, mean_weights
from distilspark.training.optimizer import make_optimizer
from distilspark.training.prediction import Predictor
from helpers.texts import has_facts

Train = Callable[..., Any]
FAST = ("training.batch_size=16", "training.learning_rate=5e-3", "training.epochs=4")
PATIENT = "training.early_stopping.patience=9"


def test_moving_averages_equal_the_formula(compose_config: Callable[..., TrainConfig]) -> None:
    settings = ("training.averaging=ema", "training.ema_decay=0.5", "training.learning_rate=0.1")
    optimizer = make_optimizer(compose_config("model=tiny", *settings).training, 30)
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer.build([variable])
    expected = np.zeros(2)
    for step in range(30):
        optimizer.apply([np.array([1.0, step - 9.0], np.float32)], [variable])
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * variable.numpy()
        np.testing.assert_allclose(optimizer.averages[0].numpy(), expected, rtol=1e-5)
    before = variable.numpy()
    optimizer.finalize_variable_values([variable])
    np.testing.assert_array_equal(variable.numpy(), before)
    assert not np.allclose(before, expected, rtol=1e-3)


class Judge:
    """A validation of a network with one variable: values closer to `best` score higher."""

    def __init__(self, network: keras.Model, best: float) -> None:
        self.network, self.best = network, best

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Return metrics like `Validation.evaluate`."""
        return {"val/mcc": 1 - abs(float(self.network.get_weights()[0][0, 0]) - self.best)}


def cook(values: list[float], best: float, patience: int = 99) -> tuple[Soup, keras.Model]:
    """Build a soup from a network whose only weight has these values at the ends of the epochs."""
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    network.stop_training = False
    judge = Judge(network, best)
    soup = Soup("val/mcc", "max", patience, judge, epochs=len(values))  # type: ignore[arg-type]
    soup.set_model(network)
    for epoch, value in enumerate(values):
        network.set_weights([np.array([[value]], np.float32)])
        soup.on_epoch_end(epoch, {"train/loss": 0.0, **judge.evaluate(epoch)})
        if network.stop_training:
            break
    return soup, network


@pytest.mark.parametrize(
    "values, best, epochs, mean",
    [
        ([1.0, 3.0], 2.5, [0, 1], 2.0),  # 3.0 first; with 1.0 the mean is as close to 2.5, so not worse
        ([1.0, 2.0, 9.0], 2.1, [1], 2.0),  # no other epoch helps
        ([0.0, 4.0, 3.0], 1.95, [0, 1, 2], 7 / 3),  # 3.0, then 0.0 (mean 1.5, better), then 4.0
        ([5.0, 5.0], 5.0, [0, 1], 5.0),
    ],
)
def test_soup_adds_epochs_that_do_not_lower_the_metric(
    values: list[float], best: float, epochs: list[int], mean: float
) -> None:
    soup, network = cook(values, best)
    assert soup.soup is not None and soup.soup["epochs"] == epochs
    np.testing.assert_allclose(soup.saved_weights()[0], [[mean]], rtol=1e-6)
    assert soup.soup["metrics"]["val/mcc"] == pytest.approx(1 - abs(mean - best), abs=1e-6)
    assert network.get_weights()[0] == values[-1], "the training would go on with it"


def test_soup_is_built_when_training_stops_early() -> None:
    soup, _ = cook([1.0, 0.0, -1.0, 7.0], 1.0, patience=2)
    assert soup.soup is not None and soup.soup["epochs"] == [0]
    assert not soup.ingredients


def test_soup_keeps_only_a_limited_number_of_best_epochs() -> None:
    values = [float(value) for value in range(INGREDIENTS + 2)]
    soup, network = cook(values, 99.0)
    assert soup.soup is not None and soup.soup["epochs"] == [len(values) - 1]
    judge = Judge(network, 99.0)
    soup = Soup("val/mcc", "max", 9, judge, epochs=99)  # type: ignore[arg-type]
    soup.set_model(network)
    for epoch, value in enumerate(values):
        network.set_weights([np.array([[value]], np.float32)])
        soup.on_epoch_end(epoch, judge.evaluate(epoch))
    assert [each.epoch for each in soup.ingredients] == list(range(len(values)))[:1:-1]
    assert len(soup.saved_weights()) == INGREDIENTS
    np.testing.assert_array_equal(soup.best_weights[0], soup.ingredients[0].weights[0])


def test_mean_of_one_set_of_weights_is_bit_identical() -> None:
    arrays = list(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32))
    for one, other in zip(mean_weights([arrays]), arrays, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32


@pytest.fixture(scope="module")
def plain(train_toy: Train) -> Any:
    """The same training without averaging."""
    return train_toy(*FAST, PATIENT)


def validate(network: keras.Model, rows: Any) -> dict[str, float]:
    encoded, labels = rows
    outputs = CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded))
    return {f"val/{name}": value for name, value in CLASSIFICATION.compute_metrics(labels, outputs).items()}


@pytest.mark.slow
@pytest.mark.parametrize("averaging", ["ema", "soup"])
def test_training_with_averaging_keeps_the_averaged_weights(
    train_toy: Train, plain: Any, toy_rows: Callable[..., Any], averaging: str
) -> None:
    """The steps are the same as without averaging; only the kept weights differ."""
    network, result, _ = train_toy(*FAST, PATIENT, f"training.averaging={averaging}")
    assert result.history["train/loss"].equals(plain[1].history["train/loss"])
    assert (averaging == "soup") == result.history["val/loss"].equals(plain[1].history["val/loss"])
    validated = validate(network, toy_rows(80, seed=1))
    assert validated == pytest.approx({name: result.kept_metrics[name] for name in validated})
    differences = [
        np.abs(one - other).max() for one, other in zip(network.get_weights(), plain[0].get_weights(), strict=True)
    ]
    assert all(difference > 0 for difference in differences)
    assert result.kept_metrics["val/mcc"] >= result.history["val/mcc"].max()
    assert (len(result.kept_steps) > 1) == (averaging == "soup") == has_facts(result.kept, "mean", "epochs", 1)


@pytest.mark.slow
def test_weights_without_averaging_are_those_of_the_best_epoch(plain: Any) -> None:
    _, result, _ = plain
    assert result.kept_steps == (result.best_epoch,)
    kept = result.history.set_index("epoch").loc[result.best_epoch]
    assert result.kept_metrics == {name: kept[name] for name in kept.index if name.startswith("val/")}


def test_optimizer_has_averages_only_with_ema(tiny_folder: Path, compose_config: Callable[..., TrainConfig]) -> None:
    network = build_network(tiny_folder, "regression")
    counts = []
    for averaging in ("off", "soup", "ema"):
        optimizer = make_optimizer(compose_config("model=tiny", f"training.averaging={averaging}").training, 10)
        optimizer.build(network.trainable_variables)
        counts.append(len(optimizer.variables))
    assert counts[0] == counts[1] == counts[2] - len(network.trainable_variables)
