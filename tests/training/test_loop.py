"""Fine-tuning on a toy task: it learns, keeps the best epoch, and is reproducible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import UserError, WorkError
from distilspark.heads import CLASSIFICATION, REGRESSION
from distilspark.model.losses import make_loss
from distilspark.training.checkpoint.state import weights_digest
from distilspark.training.loop import build_initial_network
from distilspark.training.prediction import Predictor

Train = Callable[..., Any]
pytestmark = pytest.mark.slow
FAST = ("training.batch_size=16", "training.learning_rate=5e-3")


def weights(network: Any) -> list[Any]:
    return [variable.numpy() for variable in network.weights]


@pytest.fixture(scope="module")
def learned(train_toy: Train) -> Any:
    return train_toy(*FAST, "training.epochs=6", "training.early_stopping.patience=6")


def test_training_learns_the_toy_task(learned: Any) -> None:
    _, result, _ = learned
    history = result.history
    assert history["val/mcc"].max() > 0.9
    assert history["train/loss"].iloc[-1] < 0.5 * history["train/loss"].iloc[0]


def test_history_and_reports_are_complete_and_equal(learned: Any) -> None:
    _, result, reported = learned
    assert [epoch for epoch, _ in reported] == result.history["epoch"].tolist() == list(range(1, len(reported) + 1))
    metrics = {"val/loss", *(f"val/{name}" for name in ("accuracy", "precision", "recall", "f1", "mcc"))}
    for epoch, values in reported:
        assert set(values) == {"train/loss", "time/epoch", *metrics}
        assert result.history.set_index("epoch").loc[epoch, "val/mcc"] == values["val/mcc"]
        assert values["time/epoch"] > 0


def test_network_has_the_weights_of_the_best_epoch(learned: Any, toy_rows: Callable[..., Any]) -> None:
    network, result, _ = learned
    encoded, labels = toy_rows(80, seed=1)
    now = CLASSIFICATION.compute_metrics(
        labels, CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded))
    )
    kept = result.history.set_index("epoch").loc[result.best_epoch]
    assert now["mcc"] == pytest.approx(kept["val/mcc"]) == pytest.approx(result.history["val/mcc"].max())


@pytest.mark.parametrize("monitor, mode", [("metric", np.argmax), ("loss", np.argmin)])
def test_early_stopping_keeps_the_best_epoch(
    train_toy: Train, toy_rows: Callable[..., Any], monitor: str, mode: Any
) -> None:
    """Validation labels are inverted, so that each epoch is worse than the one before."""
    encoded, labels = toy_rows(80, seed=1)
    turned = (encoded, 1 - labels)
    stopping = [f"training.early_stopping.monitor={monitor}", "training.early_stopping.patience=2"]
    network, result, _ = train_toy(*FAST, "training.epochs=12", *stopping, validation=turned)
    watched = result.history[{"metric": "val/mcc", "loss": "val/loss"}[monitor]].to_numpy()
    assert result.best_epoch == int(mode(watched)) + 1
    assert len(watched) == result.best_epoch + 2 < 12
    raw = Predictor(network, 999, 8).raw_outputs(encoded)
    log_shares = np.log(CLASSIFICATION.activate(raw))
    loss = -log_shares[np.arange(80), turned[1].astype(int)].mean()
    assert loss == pytest.approx(result.history["val/loss"][result.best_epoch - 1], rel=1e-4)
    assert abs(loss - result.history["val/loss"].iloc[-1]) > 1e-3


def test_early_stopping_on_an_error_keeps_the_lowest(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    """Validation labels are inverted, so that errors increase while the network learns."""
    (encoded, labels), rows = toy_rows(80, seed=1), toy_rows(200)
    patient = ["task.metric=mse", "training.epochs=6", "training.early_stopping.patience=2"]
    _, result, _ = train_toy(*FAST, *patient, task="stsb", train=rows, validation=(encoded, 1 - labels))
    errors = result.history["val/mse"].to_numpy()
    assert result.best_epoch == int(errors.argmin()) + 1
    assert len(errors) == result.best_epoch + 2 < 6


def test_best_epoch_is_kept_without_early_stopping(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    encoded, labels = toy_rows(80, seed=1)
    patient = ["training.epochs=4", "training.early_stopping.patience=50", "training.early_stopping.monitor=loss"]
    network, result, _ = train_toy(*FAST, *patient, validation=(encoded, 1 - labels))
    assert len(result.history) == 4 and result.best_epoch < 4
    log_shares = np.log(CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded)))
    loss = -log_shares[np.arange(80), (1 - labels).astype(int)].mean()
    assert loss == pytest.approx(result.history["val/loss"].min(), rel=1e-4)


def test_validations_within_epochs_do_not_change_the_training(train_toy: Train) -> None:
    settings = (*FAST, "training.epochs=2", "training.early_stopping.patience=9")
    _, plain, _ = train_toy(*settings)
    _, result, reported = train_toy(*settings, "training.validate_every=0.3")
    history = result.history.set_index("epoch")
    assert list(history.index) == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert [number for number, _ in reported] == [1, 2, 3, 4, 5, 6]
    for epoch, row in plain.history.set_index("epoch").iterrows():
        assert history.loc[epoch, "val/loss"] == row["val/loss"], epoch
    assert history["val/loss"].nunique() == 6


@pytest.mark.parametrize("patience, validations", [(0, 2), (1, 5)])
def test_best_weights_from_within_an_epoch_are_kept(
    train_toy: Train, toy_rows: Callable[..., Any], patience: int, validations: int
) -> None:
    """Validation labels are inverted: the first validation is the best. Patience counts whole epochs."""
    encoded, labels = toy_rows(80, seed=1)
    stopping = [f"training.early_stopping.patience={patience}", "training.early_stopping.monitor=loss"]
    settings = (*FAST, "training.epochs=6", "training.validate_every=0.25", *stopping)
    network, result, _ = train_toy(*settings, validation=(encoded, 1 - labels))
    assert (result.best_epoch, result.best_step, result.kept) == (0.25, 1, "epoch 0.25")
    assert len(result.history) == validations
    log_shares = np.log(CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded)))
    loss = -log_shares[np.arange(80), (1 - labels).astype(int)].mean()
    assert loss == pytest.approx(result.history["val/loss"][0], rel=1e-4)


def test_validating_more_often_than_every_step_is_refused(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^training\.validate_every=0\.2: .*\b4 steps"):
        train_toy("training.batch_size=8", "training.validate_every=0.2", train=toy_rows(32))


def scores(toy_rows: Callable[..., Any], n: int, seed: int) -> Any:
    """Return rows with labels of 100 or 140, far from zero."""
    encoded, labels = toy_rows(n, seed)
    return encoded, 100 + 40 * labels


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_outputs_are_on_the_original_scale_after_training_on_standardized_labels(
    train_toy: Train, toy_rows: Callable[..., Any], loss: str
) -> None:
    train, validation = scores(toy_rows, 200, 0), scores(toy_rows, 80, 1)
    changed = ["training.epochs=5", "training.standardize_labels=true", f"training.loss={loss}"]
    network, result, _ = train_toy(*FAST, *changed, task="stsb", train=train, validation=validation)
    outputs = REGRESSION.activate(Predictor(network, 999, 8).raw_outputs(validation[0]))
    now = REGRESSION.compute_metrics(validation[1], outputs)
    kept = result.history.set_index("epoch").loc[result.best_epoch]
    for name in ("pearson", "mse", "mae", "r2"):
        assert now[name] == pytest.approx(kept[f"val/{name}"], rel=1e-3, abs=1e-3), name
    assert now["pearson"] > 0.8
    assert now["r2"] > 0.5
    assert result.class_weights is None
    assert result.history["train/loss"].iloc[0] < 2  # on the standardized scale; thousands on the original scale


def test_reinitialize_layers_changes_the_initial_network(
    tiny_folder: Path, compose_config: Callable[..., TrainConfig]
) -> None:
    """The random weights depend only on `training.seed`."""
    networks = [
        build_initial_network(compose_config("model=tiny", "task=stsb", *overrides), tiny_folder)
        for overrides in ([], ["model.reinitialize_layers=1"], ["model.reinitialize_layers=1"])
    ]
    plain, drawn, same = (weights_digest(network) for network in networks)
    assert plain != drawn == same


def test_first_validation_losses_of_mse_and_huber_have_the_expected_size(
    train_toy: Train, toy_rows: Callable[..., Any]
) -> None:
    train, validation = scores(toy_rows, 64, 0), scores(toy_rows, 32, 1)
    first = {
        loss: train_toy("training.epochs=1", f"training.loss={loss}", task="stsb", train=train, validation=validation)[
            1
        ]
        for loss in ("mse", "huber")
    }
    assert first["mse"].history["val/loss"][0] > 5000  # about 113 squared
    assert 80 < first["huber"].history["val/loss"][0] < 150


def test_constant_labels_do_not_divide_by_zero(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    encoded, labels = toy_rows(32)
    same = (encoded, np.full(len(labels), 3.0))
    changed = ["training.epochs=1", "training.standardize_labels=true"]
    network, _, _ = train_toy(*changed, task="stsb", train=same, validation=same)
    assert abs(REGRESSION.activate(Predictor(network, 999, 8).raw_outputs(encoded)) - 3).max() < 1


def test_class_weights_change_the_training_loss_and_the_weights(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    rows = toy_rows(64)
    ended = {
        choice: train_toy("training.epochs=1", f"training.class_weights={choice}", train=rows, validation=rows)
        for choice in ("balanced", "off")
    }
    balanced, off = ended["balanced"][1], ended["off"][1]
    assert off.class_weights is None
    assert balanced.class_weights[1] > 1 > balanced.class_weights[0]
    assert balanced.history["train/loss"][0] != pytest.approx(off.history["train/loss"][0], rel=1e-4)
    assert not np.array_equal(
        ended["balanced"][0].get_layer("classifier").bias, ended["off"][0].get_layer("classifier").bias
    )


def test_nan_loss_ends_the_training_with_an_error(train_toy: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Callable[..., Any]:
        loss = make_loss(name)
        return lambda labels, outputs: loss(labels, outputs) * float("nan")

    monkeypatch.setattr("distilspark.training.loop.make_loss", broken)
    with pytest.raises(WorkError, match=r"NaN .*\b1\b.*training\.learning_rate"):
        train_toy("training.epochs=3")


def test_same_seed_gives_bit_identical_weights(train_toy: Train, toy_rows: Callable[..., Any]) -> None:
    rows = {"train": toy_rows(64), "validation": toy_rows(32, seed=1)}
    runs = [train_toy("training.epochs=2", f"training.seed={seed}", **rows) for seed in (3, 3, 4)]
    first, second, other = (weights(network) for network, _, _ in runs)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    columns = [name for name in runs[0][1].history if name != "time/epoch"]
    assert runs[0][1].history[columns].equals(runs[1][1].history[columns])
