"""A third head needs only a subclass of `Head` and a task's YAML to be trained, evaluated, compared and packaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from distilspark.config import TrainConfig
from distilspark.drift.profile import profile_of_outputs
from distilspark.evaluation.findings import Variant, compare_variants
from distilspark.evaluation.predictions import Predictions
from distilspark.evaluation.report import evaluate
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.heads import HEADS, Regression
from distilspark.metrics import METRICS, Array
from distilspark.model.network import export_arrays
from distilspark.package.build import outputs_of, signature, write_package
from distilspark.package.pyfunc import Scorer
from distilspark.package.quantization import measure_quantization
from distilspark.training.batches import Examples
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.prediction import Predictor
from distilspark.training.targets import make_target_transform
from helpers.texts import has_facts

ROWS = 60


class Probability(Regression):
    """A regression head with an output between 0 and 1."""

    name = "probability"
    losses = ("mse",)
    onnx_activation = ("Sigmoid", {})

    def activate(self, raw: Array) -> Array:
        return 1 / (1 + np.exp(-self.shape(raw)))


@pytest.fixture
def config(compose_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """The config of a task with the new head, and hyperparameters, for which checkpoints have no recipe."""
    monkeypatch.setitem(HEADS, Probability.name, Probability())
    task = ["task.head=probability", "task.label_range=[0,1]", "task.metric=mse"]
    recipe = ["training.epochs=2", "training.batch_size=16", "training.learning_rate=1e-3"]
    return compose_config("task=stsb", "model=tiny", *task, *recipe, "training.class_weights=off")


def made_rows() -> pd.DataFrame:
    """Return sentence pairs; the label is high if both contain a dog."""
    random = np.random.default_rng(0)
    second = random.choice(["the dog", "she was"], ROWS)
    rows = pd.DataFrame({"id": [f"{place}" for place in range(ROWS)], "sentence1": "the dog", "sentence2": second})
    labels = (second == "the dog") * 0.8 + random.uniform(0, 0.2, ROWS)
    return rows.assign(source=None, tokens=random.integers(4, 9, ROWS), label=labels)


@pytest.mark.slow
def test_third_head_is_trained_evaluated_packaged_and_scored(
    config: TrainConfig, tiny_folder: Path, tmp_path: Path
) -> None:
    task, head, rows, network = (
        config.task,
        config.task.head_kind,
        made_rows(),
        build_initial_network(config, tiny_folder),
    )
    tokenizer, labels = load_tokenizer(tiny_folder), rows["label"].to_numpy()
    encoded = encode(tokenizer, rows["sentence1"].tolist(), rows["sentence2"].tolist(), 64)
    examples = Examples(encoded, labels)
    data = TrainingData(examples, examples, make_target_transform(labels, task, config.training))
    result = fit(network, data, config, lambda epoch, metrics: None)
    assert result.best_epoch == int(result.history["val/mse"].argmin()) + 1
    predictions = Predictions(rows, labels, head.activate(Predictor(network, 1024, 8).raw_outputs(encoded)))

    evaluation = evaluate(task, predictions, labels, (), config.evaluation)
    assert evaluation.metrics["mse"] == pytest.approx(((predictions.outputs - labels) ** 2).mean())
    assert set(evaluation.figures) == set(Regression.plots)
    variants = [Variant(label, {"1": predictions}) for label in ("a", "b")]
    assert has_facts(compare_variants(task, "", variants, config.evaluation).sentence, "a", "b", "MSE", 0)

    write_package(tmp_path, export_arrays(network), tiny_folder, task, config.model, ())
    np.testing.assert_allclose(outputs_of(tmp_path, task, rows), predictions.outputs, atol=1e-5)
    answers = Scorer(tmp_path).predict(pd.concat([rows, rows.head(1).assign(sentence1="")]))
    assert answers["prediction"].iloc[:-1].between(0, 1, inclusive="neither").all()
    assert np.isnan(answers["prediction"].iloc[-1]) and answers["error"].iloc[-1] != ""
    assert {column.name for column in signature(task).outputs} == set(answers)
    profile = profile_of_outputs(encoded, predictions.outputs, task)
    assert sum(profile["predictions"]["rows"]) == ROWS and profile["predictions"]["edges"][-1] == 1
    assert measure_quantization(task, labels, predictions.outputs, predictions.outputs + 0.1).metric_drop != 0


@pytest.mark.parametrize(
    "task, labels, allowed, strata, names",
    [
        ("cola", [0, 1, 2], [True, True, False], [0, 1], ["unacceptable", "acceptable"]),
        ("stsb", [0, 2.6, 5, 5.1], [True, True, True, False], [0, 5, 9], ["0-1", "2-3", "4-5"]),
    ],
)
def test_head_checks_bins_and_names_labels_in_spark(
    spark: SparkSession,
    compose_config: Callable[..., TrainConfig],
    task: str,
    labels: list[float],
    allowed: list[bool],
    strata: list[float],
    names: list[str],
) -> None:
    config = compose_config(f"task={task}", "model=tiny").task
    head, label = config.head_kind, F.col("label")
    frame = spark.createDataFrame([(float(value),) for value in labels], "label double").coalesce(1)
    is_allowed = head.is_allowed(config, label)
    assert [row[0] for row in frame.select(is_allowed).collect()] == allowed
    found = frame.where(is_allowed).select(head.stratum(config, label), head.label_name(config, label)).collect()
    assert [tuple(row) for row in found] == list(zip(strata, names, strict=True))


def test_metrics_rank_values_by_their_better_direction() -> None:
    mcc, mse = METRICS["mcc"], METRICS["mse"]
    assert mcc.better(0.2, 0.1) and not mcc.better(0.1, 0.2) and not mcc.better(0.1, 0.1)
    assert mse.better(0.1, 0.2) and not mse.better(0.2, 0.1) and not mse.better(0.1, 0.1)
    assert (mcc.best([1, 3, 2], float), mse.best([3, 1, 2], float)) == (3, 1)
    assert (mcc.mode, mse.mode) == ("max", "min")
    assert mse.surely_better((0.1, 0.2), 0.3) and not mse.surely_better((0.1, 0.3), 0.3)
    assert mcc.surely_better((0.1, 0.2), 0.0) and not mcc.surely_better((0.0, 0.2), 0.0)
    assert mse.axis([0.5, 2.0]) == pytest.approx((0, 2.1)) and mcc.axis([-7, 0.5]) == (-1, 1)
