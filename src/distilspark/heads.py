"""The heads that a task can have, and everything that differs between them.

Other modules do not check which head a task has: they call `TaskConfig.head_kind`. A third head is a subclass of
`Head`, an entry of `HEADS` and a file `conf/task/_NAME.yaml`. This module is packaged with models and therefore imports
NumPy alone; methods that need Spark, SciPy or scikit-learn import them when they are called.

In all methods `outputs` are as in `distilspark.evaluation.predictions.Predictions`, and `labels` are (n,): the ids of
classes, or values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from distilspark.metrics import Array, classification_metrics, regression_metrics

if TYPE_CHECKING:
    from pyspark.sql import Column

STRATA = 10  # of values, when rows are split


class Task(Protocol):
    """The part of `TaskConfig` that heads read."""

    @property
    def labels(self) -> Sequence[str]:
        """The names of the classes, in the order of their ids; empty if labels are values."""

    @property
    def label_values(self) -> Mapping[float, int]:
        """The ids of the classes whose names are numbers, by their values."""

    @property
    def label_range(self) -> Sequence[float]:
        """The lowest and the highest value; empty if labels are classes."""


@dataclass(frozen=True)
class Answer:
    """An output column of a model."""

    name: str
    type: str  # of `mlflow.types.DataType`
    missing: float | str  # in rows that cannot be scored


@dataclass(frozen=True)
class Bins:
    """The answer that a profile counts in bins from `low` to `high`, and the name of its distribution."""

    answer: str
    low: float
    high: float
    distribution: str


class Head(ABC):
    """A kind of last layer: its labels, losses, answers, metrics and plots."""

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]  # names in `METRICS`, in the order in which they are shown
    losses: ClassVar[tuple[str, ...]]  # names in `distilspark.model.losses`
    has_classes: ClassVar[bool]  # labels are ids of classes, which can be weighted; else values, which can be scaled
    dimensions: ClassVar[int]  # of outputs: 2 if each unit has its own column
    onnx_activation: ClassVar[tuple[str, Mapping[str, int]]]  # the graph's last operator and its attributes
    answers: ClassVar[tuple[Answer, ...]]
    baseline: ClassVar[str]  # the name of the best constant prediction
    agreement: ClassVar[str]  # the name of the measure in `agree`
    plots: ClassVar[tuple[str, ...]]  # names in `distilspark.evaluation.plots`

    @property
    def answer_names(self) -> list[str]:
        """The names of `answers`."""
        return [answer.name for answer in self.answers]

    # Labels, in Spark

    @abstractmethod
    def allowed_labels(self, task: Task) -> str:
        """Describe the labels that the task takes, for a message."""

    @abstractmethod
    def is_allowed(self, task: Task, label: Column) -> Column:
        """Return whether a label's number is one that the task takes; null stays null."""

    @abstractmethod
    def stratum(self, task: Task, label: Column) -> Column:
        """Return the stratum of a label, as a double, within which rows are split."""

    @abstractmethod
    def label_name(self, task: Task, label: Column) -> Column:
        """Return the name of a class, or of the range of whole numbers in which a value lies."""

    # The network

    @abstractmethod
    def units(self, task: Task) -> int:
        """Count the neurons of the last layer."""

    @abstractmethod
    def activate(self, raw: Array) -> Array:
        """Convert the values of the last layer, (n, units), to outputs."""

    def shape(self, values: Array) -> Array:
        """Reshape activated values, (n, units), to outputs."""
        return values if self.dimensions == 2 else values[:, 0]

    # Metrics

    def check_outputs(self, labels: Array, outputs: Array) -> None:
        """Raise ValueError if metrics would be meaningless: no rows, wrong shapes, values that are not finite."""
        if outputs.ndim != self.dimensions or labels.shape != outputs.shape[:1]:
            raise ValueError(
                f"{self.name} takes outputs of {self.dimensions} dimensions: {labels.shape=}, {outputs.shape=}"
            )
        if len(labels) == 0:
            raise ValueError("no rows to evaluate")
        bad = ~np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1) | ~np.isfinite(labels)
        if bad.any():
            raise ValueError(
                f"{bad.sum()} of {len(bad)} rows have NaN or infinite outputs or labels, first: {bad.argmax()}"
            )

    def compute_metrics(self, labels: Array, outputs: Array, rows: Array | None = None) -> dict[str, float]:
        """Compute all metrics of the head; label i counts for `rows[i]` rows, by default one. Undefined metrics are 0.

        Undefined are precision without predictions of the class, MCC with a single label or prediction, correlations
        with constant values, and R² with constant labels.

        Raises:
            ValueError: as `check_outputs`; label ids that are not classes.

        """
        self.check_outputs(labels, outputs)
        weights = np.ones(len(labels)) if rows is None else rows
        scores = self.weighted_metrics(labels, [outputs], weights[None, :])
        return {name: float(values.item()) for name, values in scores.items()}

    @abstractmethod
    def weighted_metrics(self, labels: Array, models: Sequence[Array], weights: Array) -> dict[str, Array]:
        """Compute all metrics of several models' outputs, (models, resamples), with (resamples, n) weights of rows.

        Outputs and labels must have passed `check_outputs`.
        """

    @abstractmethod
    def predicted(self, outputs: Array) -> Array:
        """Return the predictions that metrics are computed from: (n,) class ids or values."""

    @abstractmethod
    def baseline_outputs(self, training_labels: Array, n: int, classes: int) -> Array:
        """Return the outputs for n rows of a baseline that uses the training labels and does not read the text.

        Classes: the labels' frequencies in training, so that argmax is the majority class; values: their mean.
        """

    # Examples and reports

    @abstractmethod
    def order_examples(self, labels: Array, outputs: Array) -> tuple[Array, Array]:
        """Return the positions of the best and of the worst predicted rows, the most extreme first.

        Classes: the most confident right rows, alternating between the classes, and the most confident wrong ones.
        Values: by the absolute error, half of the rows each.
        """

    @abstractmethod
    def describe_rows(self, task: Task, labels: Array, outputs: Array) -> dict[str, Array]:
        """Return the columns `label` and `prediction` of a table of rows, and the error of each prediction."""

    @abstractmethod
    def text_report(self, task: Task, labels: Array, outputs: Array) -> str | None:
        """Return a report on each class as text; None if there are no classes."""

    # Comparisons

    @abstractmethod
    def agree(self, first: Array, second: Array) -> float:
        """Measure the agreement of two models' outputs for the same rows; 1 if they are equal."""

    @abstractmethod
    def mean_errors(self, labels: Array, models: Sequence[Array]) -> Array:
        """Return the error of several trainings of one setting for each row: (n,)."""

    @abstractmethod
    def is_right_alone(self, errors: Array, other_errors: Array) -> Array:
        """Return which rows a setting gets right and another one wrong, from their `mean_errors`."""

    @abstractmethod
    def describe_predictions(self, task: Task, models: Sequence[Array]) -> Array:
        """Return the predictions of several trainings of one setting for each row, for a table."""

    @abstractmethod
    def changed(self, before: Array, after: Array) -> float:
        """Return the share of predictions that differ, or 1 - Spearman's correlation of values."""

    # Scoring

    @abstractmethod
    def answer(self, labels: Sequence[str], outputs: Array) -> dict[str, Array]:
        """Return the columns `answers` for rows, given the names of the classes."""

    @abstractmethod
    def outputs_of(self, task: Task, predictions: Array) -> Array:
        """Return outputs that have the same metrics as the answers `prediction`."""

    @abstractmethod
    def bins(self, task: Task) -> Bins:
        """Return the answer that a profile counts in bins."""


class Classification(Head):
    """One neuron for each class; outputs are their probabilities, (n, classes)."""

    name = "classification"
    metrics = ("accuracy", "precision", "recall", "f1", "mcc")
    losses = ("cross_entropy",)
    has_classes = True
    dimensions = 2
    onnx_activation = ("Softmax", {"axis": -1})
    answers = (Answer("prediction", "long", -1), Answer("label", "string", ""), Answer("score", "double", np.nan))
    baseline = "majority class"
    agreement = "share of equal predictions"
    plots = ("confusion_matrix", "metrics", "precision_recall", "calibration")

    def allowed_labels(self, task: Task) -> str:
        if task.label_values:  # then a number is a name and no id
            return " or ".join(task.labels)
        return " or ".join(f"{place} ({name})" for place, name in enumerate(task.labels))

    def is_allowed(self, task: Task, label: Column) -> Column:
        return label.isin([float(place) for place in range(len(task.labels))])

    def stratum(self, task: Task, label: Column) -> Column:
        return label

    def label_name(self, task: Task, label: Column) -> Column:
        from pyspark.sql import functions as F

        return F.array(*map(F.lit, task.labels))[label.cast("int")]

    def units(self, task: Task) -> int:
        return len(task.labels)

    def activate(self, raw: Array) -> Array:
        from scipy.special import softmax

        return softmax(raw.astype(np.float64), axis=1)

    def check_outputs(self, labels: Array, outputs: Array) -> None:
        super().check_outputs(labels, outputs)
        if not np.isin(labels, np.arange(outputs.shape[1])).all():
            raise ValueError(f"labels are not ids from 0 to {outputs.shape[1] - 1}: {np.unique(labels)}")

    def weighted_metrics(self, labels: Array, models: Sequence[Array], weights: Array) -> dict[str, Array]:
        classes = models[0].shape[1]
        cells = [labels.astype(int) * classes + self.predicted(outputs) for outputs in models]
        counts = [weights @ np.eye(classes**2)[cell] for cell in cells]
        return classification_metrics(np.reshape(counts, (len(models), len(weights), classes, classes)))

    def predicted(self, outputs: Array) -> Array:
        return outputs.argmax(axis=1)

    def baseline_outputs(self, training_labels: Array, n: int, classes: int) -> Array:
        counts = np.bincount(np.asarray(training_labels).astype(int), minlength=classes)
        return np.tile(counts / counts.sum(), (n, 1))

    def order_examples(self, labels: Array, outputs: Array) -> tuple[Array, Array]:
        confident = np.argsort(-outputs.max(axis=1), kind="stable")
        right = (self.predicted(outputs) == labels)[confident]
        good = confident[right]
        turn = np.empty(len(good), dtype=int)
        for label in np.unique(labels[good]):
            same = labels[good] == label
            turn[same] = np.arange(same.sum())
        return good[np.argsort(turn, kind="stable")], confident[~right]

    def describe_rows(self, task: Task, labels: Array, outputs: Array) -> dict[str, Array]:
        """Add `confidence`, the prediction's probability, and `loss`, -log probability of the true label."""
        names, truth = np.array(task.labels, dtype=object), labels.astype(int)
        likelihood = outputs[np.arange(len(truth)), truth].astype(float)
        return {
            "label": names[truth],
            "prediction": names[self.predicted(outputs)],
            "confidence": outputs.max(axis=1).astype(float),
            "loss": -np.log(np.maximum(likelihood, 1e-12)),
        }

    def text_report(self, task: Task, labels: Array, outputs: Array) -> str | None:
        from sklearn.metrics import classification_report

        ids, truth = range(len(task.labels)), labels.astype(int)
        return classification_report(
            truth, self.predicted(outputs), labels=ids, target_names=task.labels, digits=4, zero_division=0
        )

    def agree(self, first: Array, second: Array) -> float:
        return float((self.predicted(first) == self.predicted(second)).mean())

    def mean_errors(self, labels: Array, models: Sequence[Array]) -> Array:
        """Return the share of trainings that are wrong."""
        return np.mean([self.predicted(outputs) != labels for outputs in models], axis=0)

    def is_right_alone(self, errors: Array, other_errors: Array) -> Array:
        """Return the rows for which most trainings of the one are right and most of the other wrong."""
        return (errors < 0.5) & (other_errors > 0.5)

    def describe_predictions(self, task: Task, models: Sequence[Array]) -> Array:
        """Return the label that most trainings predict, with their number if there are several trainings."""
        predicted = np.stack([self.predicted(outputs) for outputs in models])
        votes = (predicted[:, :, None] == np.arange(len(task.labels))).sum(axis=0)
        names = np.array(task.labels, dtype=object)[votes.argmax(axis=1)]
        if len(models) == 1:
            return names
        counts = votes.max(axis=1)
        shown = [f"{name} ({count} of {len(models)})" for name, count in zip(names, counts, strict=True)]
        return np.array(shown, dtype=object)

    def changed(self, before: Array, after: Array) -> float:
        return float((self.predicted(before) != self.predicted(after)).mean())

    def answer(self, labels: Sequence[str], outputs: Array) -> dict[str, Array]:
        predicted = self.predicted(outputs)
        names = np.array(labels, dtype=object)
        return {"prediction": predicted, "label": names[predicted], "score": outputs.max(axis=1)}

    def outputs_of(self, task: Task, predictions: Array) -> Array:
        return np.eye(len(task.labels))[predictions.astype(int)]

    def bins(self, task: Task) -> Bins:
        return Bins("score", 0.0, 1.0, "scores")


class Regression(Head):
    """One neuron; outputs are its values, (n,)."""

    name = "regression"
    metrics = ("pearson", "spearman", "mse", "mae", "r2")
    losses = ("mse", "huber")
    has_classes = False
    dimensions = 1
    onnx_activation = ("Identity", {})
    answers = (Answer("prediction", "double", np.nan),)
    baseline = "mean training label"
    agreement = "Pearson's correlation"
    plots = ("predicted_against_true", "error_distribution", "error_by_score_band", "metrics")

    def allowed_labels(self, task: Task) -> str:
        return "from {} to {}".format(*task.label_range)

    def is_allowed(self, task: Task, label: Column) -> Column:
        return label.between(*task.label_range)

    def stratum(self, task: Task, label: Column) -> Column:
        from pyspark.sql import functions as F

        low, high = task.label_range
        return F.least(F.floor((label - low) * (STRATA / (high - low))), F.lit(STRATA - 1)).cast("double")

    def label_name(self, task: Task, label: Column) -> Column:
        """Return `2-3` for 2.5; the highest value has the name of those below it."""
        from pyspark.sql import functions as F

        floor = F.least(F.floor(label), F.lit(int(task.label_range[1]) - 1)).cast("int")
        return F.concat_ws("-", floor.cast("string"), (floor + 1).cast("string"))

    def units(self, task: Task) -> int:
        return 1

    def activate(self, raw: Array) -> Array:
        return self.shape(raw)

    def weighted_metrics(self, labels: Array, models: Sequence[Array], weights: Array) -> dict[str, Array]:
        truth = labels.astype(float)
        scores = [regression_metrics(weights, truth, self.predicted(outputs).astype(float)) for outputs in models]
        return {name: np.stack([each[name] for each in scores]) for name in scores[0]}

    def predicted(self, outputs: Array) -> Array:
        return outputs

    def baseline_outputs(self, training_labels: Array, n: int, classes: int) -> Array:
        return np.full(n, np.mean(training_labels, dtype=float))

    def order_examples(self, labels: Array, outputs: Array) -> tuple[Array, Array]:
        order = np.argsort(np.abs(outputs - labels), kind="stable")
        half = len(order) // 2
        return order[: len(order) - half], order[::-1][:half]

    def describe_rows(self, task: Task, labels: Array, outputs: Array) -> dict[str, Array]:
        """Add `error`, prediction - label."""
        truth, predicted = labels.astype(float), outputs.astype(float)
        return {"label": truth, "prediction": predicted, "error": predicted - truth}

    def text_report(self, task: Task, labels: Array, outputs: Array) -> str | None:
        return None

    def agree(self, first: Array, second: Array) -> float:
        return self.compute_metrics(first, second)["pearson"]

    def mean_errors(self, labels: Array, models: Sequence[Array]) -> Array:
        """Return the absolute error of the mean prediction."""
        return np.abs(np.mean(models, axis=0) - labels)

    def is_right_alone(self, errors: Array, other_errors: Array) -> Array:
        """Return the rows for which the one is nearer to the label than the other."""
        return errors < other_errors

    def describe_predictions(self, task: Task, models: Sequence[Array]) -> Array:
        return np.mean(models, axis=0).astype(float)

    def changed(self, before: Array, after: Array) -> float:
        return 1 - self.compute_metrics(before, after)["spearman"]

    def answer(self, labels: Sequence[str], outputs: Array) -> dict[str, Array]:
        return {"prediction": outputs}

    def outputs_of(self, task: Task, predictions: Array) -> Array:
        return predictions.astype(float)

    def bins(self, task: Task) -> Bins:
        low, high = task.label_range
        return Bins("prediction", low, high, "predictions")


CLASSIFICATION, REGRESSION = Classification(), Regression()
HEADS: dict[str, Head] = {head.name: head for head in (CLASSIFICATION, REGRESSION)}
