"""A student's teacher is loaded and verified, runs once, and is refused if it has seen dev or does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from pyspark.sql import SparkSession

from distilspark.config import TrainConfig
from distilspark.data.fingerprints import text_hashes
from distilspark.data.loading import UNLABELLED, load_datasets, load_unlabelled
from distilspark.errors import UserError
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.network import export_arrays
from distilspark.package.build import log_package, outputs_of, write_package
from distilspark.tracking.datasets import log_training_texts
from distilspark.tracking.registry import register
from distilspark.training.targets import make_target_transform
from distilspark.workflows import distillation
from distilspark.workflows.distillation import OUTPUTS, add_teacher_outputs, loaded_teacher
from distilspark.workflows.preparation import PreparedData, Split
from helpers.checkpoints import flip_a_byte
from helpers.packages import make_network
from helpers.stores import tracking_in

pytestmark = pytest.mark.slow
Composer = Callable[..., TrainConfig]
NAME = "a-teacher"
SWEEP = {"sweep.id": "a-sweep", "sweep.variant": "model.pooling=cls"}


def rows(split: str, n: int) -> pd.DataFrame:
    """Return single-sentence rows; the same arguments give the same rows."""
    texts = [f"The {split} dog number {number} was it." for number in range(n)]
    labels = np.arange(n) % 2.0
    return pd.DataFrame({"id": texts, "sentence1": texts, "sentence2": None, "label": labels})


TRAIN, VALIDATION, DEV = rows("first", 40), rows("second", 10), rows("third", 20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, compose_config: Composer, tiny_folder: Path) -> Iterator[Path]:
    """Versions 1 and 2 are from one sweep; 3 was trained on dev rows; 4 is of another task; 5 has other labels."""
    folder = tmp_path_factory.mktemp("teachers")
    with tracking_in(folder):
        with mlflow.start_run(tags={"sweep.id": "a-sweep", "sweep.parent": "true"}) as parent:
            child = {**SWEEP, "mlflow.parentRunId": parent.info.run_id}
        _publish(compose_config("model=tiny"), tiny_folder, "cls", [TRAIN], child | {"sweep.job": "1"})
        _publish(compose_config("model=tiny"), tiny_folder, "mean", [TRAIN, DEV.head(1)], child | {"sweep.job": "2"})
        _publish(compose_config("model=tiny"), tiny_folder, "cls", [TRAIN, DEV.head(2)], {})
        _publish(compose_config("model=tiny", "task=stsb"), tiny_folder, "cls", [TRAIN], {})
        _publish(compose_config("model=tiny", "task.labels=[good,bad]"), tiny_folder, "cls", [TRAIN], {})
        yield folder


def _publish(config: TrainConfig, tiny: Path, pooling: str, learnt: list[pd.DataFrame], tags: dict[str, str]) -> None:
    """Log and register a package like a training."""
    with mlflow.start_run(tags=tags) as run:
        log_training_texts(np.concatenate([text_hashes(each) for each in learnt]))
        network = make_network(tiny, config.task.head, config.task.head_kind.units(config.task), pooling)
        package = Path("package") / run.info.run_id
        write_package(package, export_arrays(network), tiny, config.task, replace(config.model, pooling=pooling), ())
        logged = log_package(package, config.task, TRAIN.head(1).assign(sentence2="It is."), 1)
    register(logged.model_uri, NAME, {}, "# Its card", beats_baseline=False)


@pytest.fixture
def data(compose_config: Composer, tiny_folder: Path) -> PreparedData:
    config, tokenizer = compose_config("model=tiny"), load_tokenizer(tiny_folder)
    frames = {"train": TRAIN, "validation": VALIDATION, "dev": DEV}
    splits = {
        name: Split(frame, encode(tokenizer, frame["sentence1"].tolist(), None, 64)) for name, frame in frames.items()
    }
    target = make_target_transform(splits["train"].labels, config.task, config.training)
    unused: Any = None
    return PreparedData(splits, TRAIN, unused, [], "digests", target)


@pytest.fixture
def learn(store: Path, compose_config: Composer, data: PreparedData) -> Callable[..., tuple[PreparedData, Run]]:
    """`learn(teacher, *overrides)` returns the data with the teacher's predictions, and the run."""

    def run(teacher: str, *overrides: str) -> tuple[PreparedData, Run]:
        config = compose_config("model=tiny", f"training.teacher={teacher}", *overrides)
        with mlflow.start_run() as active, loaded_teacher(config) as loaded:
            assert loaded is not None
            taught = add_teacher_outputs(loaded, config, data)
        return taught, mlflow.get_run(active.info.run_id)

    return run


def probabilities(store: Path, version: int, frame: pd.DataFrame, config: TrainConfig) -> Any:
    run_id = mlflow.MlflowClient().get_model_version(NAME, str(version)).run_id
    return outputs_of(store / "package" / str(run_id), config.task, frame)


def test_teacher_predicts_train_and_validation_but_not_dev(
    store: Path, learn: Callable[..., Any], compose_config: Composer, data: PreparedData
) -> None:
    mlflow.MlflowClient().set_registered_model_alias(NAME, "best", "1")
    taught, run = learn(f"models:/{NAME}@best")
    assert run.data.tags["model.teacher"] == f"models:/{NAME}/1"
    for name, frame in (("train", TRAIN), ("validation", VALIDATION)):
        expected = probabilities(store, 1, frame, compose_config("model=tiny"))
        np.testing.assert_allclose(taught.splits[name].soft, expected, atol=1e-6)
        np.testing.assert_array_equal(taught.splits[name].examples.soft, taught.splits[name].soft)
        assert np.ptp(expected[:, 1]) > 0.001
    assert taught.splits["dev"].soft is None
    assert taught.digest.startswith("digests ") and data.digest == "digests"
    assert "teacher/mcc" in run.data.metrics
    assert len(run.inputs.model_inputs) == 1


def test_teacher_from_a_sweep_predicts_the_mean_of_its_models(
    store: Path, learn: Callable[..., Any], compose_config: Composer
) -> None:
    taught, run = learn("sweep:a-sweep")
    both = [probabilities(store, version, TRAIN, compose_config("model=tiny")) for version in (1, 2)]
    assert np.abs(both[0] - both[1]).max() > 0.01
    np.testing.assert_allclose(taught.splits["train"].soft, np.mean(both, axis=0), atol=1e-6)
    assert run.data.tags["model.teacher"] == "sweep:a-sweep (2 models)"


def test_teacher_predictions_are_cached_and_recomputed_only_if_damaged(
    store: Path, learn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISTILSPARK_CACHE", str(tmp_path))
    asked: list[int] = []

    def counted(folder: Path, task: Any, frame: pd.DataFrame) -> Any:
        asked.append(len(frame))
        return outputs_of(folder, task, frame)

    monkeypatch.setattr(distillation, "outputs_of", counted)
    first, _ = learn(f"models:/{NAME}/1")
    second, _ = learn(f"models:/{NAME}/1", "training.distillation.temperature=4", "training.seed=2")
    assert asked == [40, 10]
    np.testing.assert_array_equal(first.splits["train"].soft, second.splits["train"].soft)
    (kept,) = tmp_path.glob(f"teachers/cola-40rows-*/{OUTPUTS}")
    flip_a_byte(kept)
    third, _ = learn(f"models:/{NAME}/1")
    assert asked == [40, 10, 40]
    np.testing.assert_array_equal(first.splits["train"].soft, third.splits["train"].soft)
    learn(f"models:/{NAME}/2")
    assert asked == [40, 10, 40, 40, 10]


@pytest.mark.parametrize(
    "teacher, reason",
    [
        ("3", r"^training\.teacher=models:/a-teacher/3 .*\b2 of the 20 .*10\.0%"),
        ("4", r"^training\.teacher=models:/a-teacher/4 .*\bstsb\b"),
        ("5", r"^training\.teacher=models:/a-teacher/5 .*\['good', 'bad'\].* task=cola "),
        ("9", r"^training\.teacher=models:/a-teacher/9 .*\b5\b"),
        ("sweep:none", r"^training\.teacher=sweep:none "),
    ],
)
def test_teacher_that_does_not_fit_is_refused(learn: Callable[..., Any], teacher: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        learn(teacher if ":" in teacher else f"models:/{NAME}/{teacher}")
    assert "model_uri" not in str(refused.value) and "\n" not in str(refused.value)


def test_teacher_without_hashes_of_its_training_rows_is_refused(store: Path, learn: Callable[..., Any]) -> None:
    version = mlflow.MlflowClient().get_model_version(NAME, "1")
    texts = next((store / "mlruns").rglob(f"{version.run_id}/artifacts/data"))
    shutil.move(texts, store / "aside")
    try:
        with pytest.raises(UserError, match=r"^training\.teacher=models:/a-teacher/1: .*data/training_tex"):
            learn(f"models:/{NAME}/1")
    finally:
        shutil.move(store / "aside", texts)


def test_changed_teacher_is_refused(store: Path, learn: Callable[..., Any]) -> None:
    version = mlflow.MlflowClient().get_model_version(NAME, "2")
    (graph,) = [file for file in (store / "mlruns").rglob("model.onnx") if version.source.split("/")[-1] in str(file)]
    before = graph.read_bytes()
    flip_a_byte(graph)
    try:
        with pytest.raises(UserError, match=r"models:/a-teacher/2 .*model\.onnx "):
            learn(f"models:/{NAME}/2")
    finally:
        graph.write_bytes(before)


def test_unlabelled_text_excludes_all_splits_and_duplicates(
    spark: SparkSession, compose_config: Composer, tmp_path: Path
) -> None:
    settings = ("model=tiny", "data=sample", "data.sample_rows={train: 60, dev: 20}", "training.teacher=models:/a/1")
    config = compose_config(*settings)
    own = load_datasets(spark, config.task, config.data, tmp_path / "bad.csv")
    known = [row["sentence1"] for split in own.splits.values() for row in split.limit(2).collect()]
    assert len(known) == 6
    (tmp_path / "texts.txt").write_text("\n".join([*known, " One more.", "One more.", "Two more.", "Three more."]))
    where = f"data.unlabelled={tmp_path / 'texts.txt'}"
    found, taken = (
        load_unlabelled(spark, config.task, compose_config(*settings, where, more).data, own, tmp_path / "bad.csv")
        .select("sentence1", "label", "split")
        .toPandas()
        for more in ("data.unlabelled_rows=100", "data.unlabelled_rows=2")
    )
    assert sorted(found["sentence1"]) == ["One more.", "Three more.", "Two more."]
    assert found["label"].isna().all() and set(found["split"]) == {UNLABELLED}
    assert len(taken) == 2 and set(taken["sentence1"]) < set(found["sentence1"])
    (tmp_path / "known.txt").write_text("\n".join(known))
    with pytest.raises(UserError, match=r"^data\.unlabelled=.*known\.txt: .*\b6\b"):
        nothing = compose_config(*settings, f"data.unlabelled={tmp_path / 'known.txt'}")
        load_unlabelled(spark, config.task, nothing.data, own, tmp_path / "bad.csv")
