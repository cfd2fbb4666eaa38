"""A student's loss and targets, and the effect of the teacher's predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from distilspark.config import DistillationConfig, TrainConfig
from distilspark.errors import UserError
from distilspark.model.losses import DistillationLoss, make_loss, soft_cross_entropy
from distilspark.training.batches import Examples, join
from distilspark.training.checkpoint.store import training_fingerprint
from distilspark.training.distributed.strategy import make_targets
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.pretraining import _describe_inputs, _pretraining_config
from distilspark.training.targets import LabelScale, TargetTransform, make_target_transform

Composer = Callable[..., TrainConfig]
TEACHER = "training.teacher=models:/a-teacher/1"
FAST = ("model=tiny", "training.batch_size=16", "training.learning_rate=5e-3", TEACHER)
LOGITS = np.array([[0.5, -1.0, 2.0], [0.0, 0.3, -0.2], [1.0, 1.0, -4.0]])
PROBABILITIES = np.array([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0], [1 / 3, 1 / 3, 1 / 3]])


def settings(temperature: float = 2.0, alpha: float = 0.5) -> DistillationConfig:
    return DistillationConfig(temperature=temperature, alpha=alpha, max_overlap=0)


def test_distillation_loss_equals_the_formula_of_hinton() -> None:
    """For each row: the weighted cross-entropy of the labels plus T² KL of the softened probabilities."""
    labels, weights, temperature, alpha = [2, 0, 1], [1.0, 3.0, 0.0], 4.0, 0.3
    targets = np.column_stack([labels, weights, PROBABILITIES]).astype(np.float32)
    hard = -np.array(weights) * log_softmax(LOGITS, axis=1)[range(3), labels]
    teacher = softmax(np.log(np.maximum(PROBABILITIES, 1e-38)) / temperature, axis=1)
    divergence = (teacher * (np.log(teacher) - log_softmax(LOGITS / temperature, axis=1))).sum(axis=1)
    expected = (1 - alpha) * hard + alpha * temperature**2 * divergence
    loss = DistillationLoss("cross_entropy", settings(temperature, alpha))
    np.testing.assert_allclose(loss.call(targets, LOGITS.astype(np.float32)), expected, rtol=1e-4)
    assert float(loss(targets, LOGITS.astype(np.float32))) == pytest.approx(expected.mean(), rel=1e-4)


def test_soft_cross_entropy_depends_on_the_temperature() -> None:
    """It is 0 for the teacher's own logits at any temperature."""
    own = np.log(np.maximum(PROBABILITIES, 1e-38)).astype(np.float32)
    teacher, logits = PROBABILITIES.astype(np.float32), LOGITS.astype(np.float32)
    for temperature in (1.0, 2.0, 8.0):
        np.testing.assert_allclose(soft_cross_entropy(teacher, own, temperature), 0, atol=1e-4)
    cold, warm = (soft_cross_entropy(teacher, logits, temperature).numpy() for temperature in (1.0, 8.0))
    assert (np.abs(cold - warm) > 0.05).all()


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_regression_loss_adds_the_squared_error_from_the_teacher(name: str) -> None:
    targets = np.array([[1.0, 1.0, 2.0], [0.0, 0.0, -1.0]], np.float32)
    values = np.array([[4.0], [3.0]], np.float32)
    hard = float(make_loss(name)(targets[:1, :1], values[:1]))
    expected = [0.75 * hard + 0.25 * 4, 0.25 * 16]
    np.testing.assert_allclose(DistillationLoss(name, settings(alpha=0.25)).call(targets, values), expected, rtol=1e-6)


def encoded(toy_rows: Any, n: int) -> Any:
    return toy_rows(n)[0]


def test_targets_hold_label_weight_and_teacher_predictions(toy_rows: Any) -> None:
    labelled = Examples(encoded(toy_rows, 2), np.array([1.0, 0.0]), np.array([[0.2, 0.8], [0.6, 0.4]]))
    unlabelled = Examples(encoded(toy_rows, 1), np.array([np.nan]), np.array([[0.5, 0.5]]))
    both = join(labelled, unlabelled)
    target = TargetTransform(LabelScale(), {0: 0.5, 1: 3.0})
    expected = [[1, 3, 0.2, 0.8], [0, 0.5, 0.6, 0.4], [0, 0, 0.5, 0.5]]
    np.testing.assert_allclose(make_targets(both, target), expected, rtol=1e-6)
    values = Examples(encoded(toy_rows, 2), np.array([1.0, 5.0]), np.array([[2.0], [3.0]]))
    scaled = TargetTransform(LabelScale(3.0, 2.0), None)
    np.testing.assert_allclose(make_targets(values, scaled), [[-1, 1, -0.5], [1, 1, 0]])
    np.testing.assert_array_equal(make_targets(replace(labelled, soft=None), target), [1, 0])


def test_unlabelled_rows_do_not_affect_label_scale_and_class_weights(compose_config: Composer) -> None:
    known = np.array([1.0, 0.0, 1.0, 1.0])
    for task in ("cola", "stsb"):
        config = compose_config("model=tiny", f"task={task}", "training.standardize_labels=true")
        with_more = make_target_transform(np.append(known, np.nan), config.task, config.training)
        assert with_more == make_target_transform(known, config.task, config.training)


@pytest.fixture(scope="module")
def student(tiny_folder: Path, toy_rows: Any, compose_config: Composer) -> Any:
    """`student(teacher, *overrides, unlabelled=)` returns the history; `teacher` maps labels to probabilities."""

    def run(
        teacher: Callable[[NDArray[Any]], NDArray[Any]],
        *overrides: str,
        unlabelled: int = 0,
    ) -> pd.DataFrame:
        config = compose_config(*FAST, *overrides)
        network = build_initial_network(config, tiny_folder)
        rows, labels = toy_rows(200)
        train = Examples(rows, np.where(np.arange(200) < unlabelled, np.nan, labels), teacher(labels))
        target = make_target_transform(train.labels, config.task, config.training)
        data = TrainingData(train, Examples(*toy_rows(80, seed=1)), target)
        return fit(network, data, config, lambda epoch, metrics: None).history

    return run


def right(labels: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.eye(2)[labels.astype(int)] == 1, 0.95, 0.05)


def inverted(labels: NDArray[Any]) -> NDArray[Any]:
    return right(1 - labels)


@pytest.mark.slow
def test_student_learns_inverted_labels_from_an_inverting_teacher_if_alpha_is_1(student: Any) -> None:
    for alpha, mcc in ((1.0, -1), (0.0, 1)):
        history = student(inverted, "training.epochs=4", f"training.distillation.alpha={alpha}")
        assert history["val/mcc"].iloc[-1] == pytest.approx(mcc, abs=0.1)


@pytest.mark.slow
def test_student_learns_unlabelled_rows_from_the_teacher(student: Any) -> None:
    """180 of 200 rows have no label."""
    history = student(right, "training.epochs=4", "training.distillation.alpha=0.9", unlabelled=180)
    assert history["val/mcc"].max() > 0.9


def test_fingerprint_of_a_student_depends_on_its_distillation_settings(compose_config: Composer) -> None:
    without = training_fingerprint(compose_config("model=tiny"))
    assert training_fingerprint(compose_config("model=tiny", "training.distillation.alpha=0.1")) == without
    trust = training_fingerprint(compose_config("model=tiny", "registry.require_digest=true", "gate.margin=0.5"))
    assert trust == without
    changes = ("alpha=0.1", "temperature=3", "alpha=0.5")
    found = {training_fingerprint(compose_config(*FAST, f"training.distillation.{change}")) for change in changes}
    assert len(found) == 3 and without not in found
    corpus = compose_config(*FAST, "data.unlabelled=corpus")
    assert training_fingerprint(corpus) not in found
    assert corpus.data.unlabelled == "corpus"


def test_pretraining_does_not_depend_on_teacher_settings(compose_config: Composer, tiny_folder: Path) -> None:
    made = [
        _describe_inputs(_pretraining_config(compose_config("model=tiny", *more)), 10, tiny_folder)
        for more in ((), (TEACHER, "training.distillation.temperature=5"))
    ]
    assert made[0] == made[1]
    assert not [key for key in made[0] if "teacher" in key or "distillation" in key]


@pytest.mark.parametrize(
    "overrides, reason",
    [
        (("training.teacher=a-model",), r"^training\.teacher=a-model: "),
        ((TEACHER, "training.workers=2"), r"^training\.teacher=models:/a-teacher/1 .*training\.workers=2"),
        (("data.unlabelled=corpus",), r"^data\.unlabelled=corpus: .*teacher"),
        ((TEACHER, "training.distillation.alpha=1.1"), r"^training\.distillation\.alpha=1\.1: "),
        ((TEACHER, "training.distillation.temperature=0"), r"^training\.distillation\.temperature=0: "),
    ],
)
def test_distillation_settings_that_do_not_fit_are_refused(
    compose_config: Composer, overrides: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        compose_config("model=tiny", *overrides)
