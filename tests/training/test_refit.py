"""The refit: a training for the chosen epochs without validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import WorkError
from distilspark.model.losses import make_loss
from distilspark.training.averaging import mean_weights
from distilspark.training.batches import Examples, join
from distilspark.training.checkpoint.state import CheckpointOptions, assign_variables, weights_digest
from distilspark.training.checkpoint.store import CheckpointFolder
from distilspark.training.distributed.strategy import SINGLE_PROCESS
from distilspark.training.loop import build_initial_network, compile_network, fit_steps
from distilspark.training.precision import computing_in
from distilspark.training.targets import TargetTransform, make_target_transform
from helpers.checkpoints import Interrupting

SETTINGS = ("training.batch_size=8", "training.learning_rate=5e-3", "training.epochs=4")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples(toy_rows: Callable[..., Any]) -> Examples:
    return join(Examples(*toy_rows(40)), Examples(*toy_rows(30, seed=1)))


@pytest.fixture(scope="module")
def refit(tiny_folder: Path, compose_config: Callable[..., TrainConfig], examples: Examples) -> Any:
    """`refit(epochs, *overrides, task=, checkpoints=, network=)` returns the network and what was logged."""

    def run(
        epochs: tuple[int, ...],
        *overrides: str,
        task: str = "cola",
        checkpoints: CheckpointOptions | None = None,
        network: keras.Model | None = None,
    ) -> tuple[keras.Model, list[tuple[int, dict[str, float]]]]:
        config = compose_config("model=tiny", f"task={task}", *SETTINGS, *overrides)
        network = network or build_initial_network(config, tiny_folder)
        logged: list[tuple[int, dict[str, float]]] = []
        target = make_target_transform(examples.labels, config.task, config.training)
        fit_steps(network, examples, target, config, lambda *epoch: logged.append(epoch), epochs, checkpoints)
        return network, logged

    return run


@pytest.fixture(scope="module")
def by_hand(
    tiny_folder: Path, compose_config: Callable[..., TrainConfig], examples: Examples
) -> tuple[list[list[Any]], TargetTransform]:
    """The weights after each of four epochs of a plain training, and its target transform."""
    config = compose_config("model=tiny", *SETTINGS)
    network = build_initial_network(config, tiny_folder)
    target = make_target_transform(examples.labels, config.task, config.training)
    batches = SINGLE_PROCESS.make_batches(examples, target, config.training)
    compile_network(network, config.training, len(batches), SINGLE_PROCESS)
    after = []
    with computing_in(network, config.training.precision):
        for _ in range(4):
            network.fit(batches.dataset(), class_weight=target.class_weights, verbose=0)
            after.append(network.get_weights())
    return after, target


def test_refit_ends_within_an_epoch(refit: Any, by_hand: Any) -> None:
    half = "training.validate_every=0.5"
    network, logged = refit((2,), half)
    for one, other in zip(network.get_weights(), by_hand[0][0], strict=True):
        np.testing.assert_array_equal(one, other)
    within, logged = refit((3,), half)
    assert weights_digest(within) not in {weights_digest(network), weights_digest(refit((4,), half)[0])}
    assert [number for number, _ in logged] == [1, 2, 3]


def test_joined_examples_are_the_rows_of_both(examples: Examples, toy_rows: Callable[..., Any]) -> None:
    (encoded, labels), (more, other_labels) = toy_rows(40), toy_rows(30, seed=1)
    assert len(examples.encoded.token_ids) == len(examples.encoded.lengths) == 70
    for ids, expected in zip(examples.encoded.token_ids, [*encoded.token_ids, *more.token_ids], strict=True):
        np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(examples.labels, [*labels, *other_labels])


@pytest.mark.parametrize("epochs", [(2,), (4,), (1, 3)])
def test_refit_has_the_weights_of_the_chosen_epochs(refit: Any, by_hand: Any, epochs: tuple[int, ...]) -> None:
    """The schedule spans all epochs, although the refit ends after the last chosen one."""
    network, logged = refit(epochs)
    expected = mean_weights([by_hand[0][epoch - 1] for epoch in epochs])
    for one, other in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [epoch for epoch, _ in logged] == list(range(1, max(epochs) + 1))
    assert all(set(metrics) == {"train/loss", "time/epoch"} for _, metrics in logged)


def test_refit_of_a_trained_network_equals_a_plain_training(
    refit: Any, by_hand: Any, tiny_folder: Path, compose_config: Callable[..., TrainConfig]
) -> None:
    """As in the workflow: the network was trained before, so its dropout states have advanced."""
    network = build_initial_network(compose_config("model=tiny", *SETTINGS), tiny_folder)
    initial = [variable.numpy().copy() for variable in network.variables]
    refit((4,), network=network)
    assign_variables(network.variables, initial)
    refit((2,), network=network)
    for one, other in zip(network.get_weights(), by_hand[0][1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("averaging", ["off", "ema"])
def test_interrupted_refit_ends_with_the_same_weights(refit: Any, tmp_path: Path, averaging: str) -> None:
    """Interrupted in the first epoch, at its end, and in the third, when the first one's weights are kept."""
    changed = ("training.standardize_labels=true", f"training.averaging={averaging}")
    whole, logged = refit((1, 3), *changed, task="stsb")
    for left in (1, 2, 4):  # an epoch has 9 steps; checkpoints after 4, 8 and the last
        folder = Interrupting(tmp_path / "training" / "refit")
        folder.left = left
        with pytest.raises(KeyboardInterrupt):
            refit((1, 3), *changed, task="stsb", checkpoints=CheckpointOptions(folder, "4 steps", "run", "rows"))
    folder = CheckpointFolder(tmp_path / "training").part("refit")
    assert folder.latest is not None and folder.latest.state["position"] == {"epoch": 2, "step": 4}
    options = CheckpointOptions(folder, "4 steps", "run", "rows")
    resumed, logged_again = refit((1, 3), *changed, task="stsb", checkpoints=options)
    assert weights_digest(resumed) == weights_digest(whole)
    losses = [[metrics["train/loss"] for _, metrics in each] for each in (logged, logged_again)]
    assert losses[0] == losses[1]
    CheckpointFolder(tmp_path / "training").clear()
    assert not folder.path.exists()


def test_refit_with_nan_fails(refit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Callable[..., Any]:
        loss = make_loss(name)
        return lambda labels, outputs: loss(labels, outputs) * float("nan")

    monkeypatch.setattr("distilspark.training.loop.make_loss", broken)
    with pytest.raises(WorkError, match=r"refit.* NaN .*training\.learning_rate"):
        refit((1,))
