"""A training logs status, params, metrics, tags, datasets, artifacts and a registered version to MLflow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from distilspark.config import TrainConfig, flatten, from_hydra
from distilspark.data.fingerprints import overlap
from distilspark.evaluation.predictions import Predictions
from distilspark.paths import CONF
from distilspark.tracking.runs import run_git
from helpers.processes import TINY, Place
from helpers.texts import lines_with
from helpers.trained import Trained

pytestmark = pytest.mark.slow


@pytest.fixture(params=["cola", "stsb"])
def trained(request: pytest.FixtureRequest) -> Trained:
    """Each of the two trainings."""
    return request.getfixturevalue(f"{request.param}_training")


def task_of(trained: Trained) -> str:
    return str(trained.run.data.tags["task"])


def config_of(trained: Trained) -> TrainConfig:
    return from_hydra(TrainConfig, OmegaConf.create(trained.artifact("config/config.yaml").read_text()))


def table(trained: Trained, path: str) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(trained.artifact(path).read_text()))


def test_training_finishes_with_short_output_and_no_warnings(trained: Trained) -> None:
    assert trained.run.info.status == "FINISHED"
    assert trained.run.info.end_time > trained.run.info.start_time
    assert trained.ended.stderr == ""
    lines = trained.ended.stdout.splitlines()
    assert len(lines) < 25
    assert not re.search(r"warn|error|deprecat|traceback", trained.ended.stdout, re.IGNORECASE)
    rows = [int(trained.run.data.metrics[f"data/{split}"]) for split in ("train", "validation", "dev")]
    assert len(lines_with(trained.ended.stdout, "data", "sample", *rows)) == 1 and 240 <= rows[0] < 250
    assert any(line.startswith(f"epoch 1/{config_of(trained).training.epochs}  train/loss ") for line in lines)
    assert f"run {trained.run.info.run_id} in experiment distilspark-{task_of(trained)}" in lines
    assert f"make ui STORE={trained.place.store}" in lines[-1]


def test_printed_lines_are_in_the_log(trained: Trained) -> None:
    log = (trained.output / "train.log").read_text()
    beginnings = ("data:", "epoch", "kept", "registered")
    printed = [line for line in trained.ended.stdout.splitlines() if line.startswith(beginnings)]
    assert {line.split()[0] for line in printed} == set(beginnings)
    assert [line for line in printed if line not in log] == []


def test_every_config_value_is_a_param(trained: Trained) -> None:
    leaves = flatten(config_of(trained))
    assert len(leaves) > 60
    assert trained.run.data.params == {key: str(value) for key, value in leaves.items()}
    assert trained.run.data.params["data.sample_rows.train"] == "300"


def test_config_can_be_recomposed_from_the_logged_overrides(trained: Trained) -> None:
    overrides = yaml.safe_load(trained.artifact("config/overrides.yaml").read_text())
    assert {each.replace("'", "") for each in overrides} >= {*TINY, f"task={task_of(trained)}"}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        again = from_hydra(TrainConfig, compose("train", overrides))
    assert again == config_of(trained)


def test_packages_and_log_are_artifacts(trained: Trained) -> None:
    packages = trained.artifact("config/packages.txt").read_text().splitlines()
    names = {line.partition("==")[0].lower() for line in packages}
    assert {"python", "tensorflow", "keras", "pyspark", "mlflow"} <= names
    assert all("==" in line for line in packages)
    assert "kept epoch" in trained.artifact("train.log").read_text()


def test_tags_name_data_checkpoint_and_git_commit(trained: Trained) -> None:
    tags = trained.run.data.tags
    assert tags["mlflow.runName"] == f"{task_of(trained)} tiny seed 1"
    assert (tags["data.source"], tags["model.checkpoint"]) == ("sample", "tiny")
    assert tags.get("mlflow.source.git.commit") == run_git("rev-parse", "HEAD")  # None: the project is no clone
    assert ("git.dirty" in tags) == ("mlflow.source.git.commit" in tags)
    assert "error" not in tags


def test_datasets_have_their_digests_and_contexts(trained: Trained) -> None:
    inputs = {each.dataset.name: each for each in trained.run.inputs.dataset_inputs}
    expected = {"train": "training", "validation": "validation", "dev": "evaluation"}
    assert len(inputs) == 3
    counts = {name: trained.run.data.metrics[f"data/{name}"] for name in expected}
    assert counts["train"] + counts["validation"] == 300 and abs(counts["validation"] - 60) < 5
    for split, context in expected.items():
        logged = inputs[f"{task_of(trained)}-sample-{split}"]
        assert re.fullmatch(r"[0-9a-f]{36}", logged.dataset.digest)
        assert trained.run.data.tags[f"data.digest.{split}"] == logged.dataset.digest
        assert [tag.value for tag in logged.tags] == [context]
        assert json.loads(logged.dataset.profile)["num_rows"] == counts[split]
    assert len({each.dataset.digest for each in inputs.values()}) == 3


def test_metrics_are_logged_for_every_epoch(trained: Trained) -> None:
    config = config_of(trained)
    for name in (
        "train/loss",
        "val/loss",
        "time/epoch",
        *(f"val/{metric}" for metric in config.task.head_kind.metrics),
    ):
        history = trained.place.client.get_metric_history(trained.run.info.run_id, name)
        assert [point.step for point in history] == list(range(1, config.training.epochs + 1)), name
        assert all(np.isfinite(point.value) for point in history)


def test_dev_metrics_are_logged_once_at_the_best_epoch(trained: Trained) -> None:
    config, metrics = config_of(trained), trained.run.data.metrics
    client, run_id = trained.place.client, trained.run.info.run_id
    kept = int(metrics["train/best_epoch"])
    headline = config.task.metric
    dev = {name for name in metrics if name.startswith("dev/")}
    assert dev == {f"dev/{name}" for name in (*config.task.head_kind.metrics, f"{headline}_low", f"{headline}_high")}
    for name in dev:
        assert [point.step for point in client.get_metric_history(run_id, name)] == [kept]
    assert metrics[f"dev/{headline}_low"] <= metrics[f"dev/{headline}"] <= metrics[f"dev/{headline}_high"]
    history = [point.value for point in client.get_metric_history(run_id, f"val/{headline}")]
    assert kept == int(np.argmax(history)) + 1
    assert metrics[f"val/kept_{headline}"] == max(history)


def test_dev_predictions_reproduce_the_logged_metrics(trained: Trained) -> None:
    config, metrics = config_of(trained), trained.run.data.metrics
    predictions = Predictions.from_frame(pd.read_parquet(trained.artifact("evaluation/predictions.parquet")))
    assert len(predictions.labels) == 100
    found = config.task.head_kind.compute_metrics(predictions.labels, predictions.outputs)
    assert found == pytest.approx({name: metrics[f"dev/{name}"] for name in config.task.head_kind.metrics})


def test_times_and_speeds_are_logged(trained: Trained) -> None:
    metrics = trained.run.data.metrics
    for name in ("checkpoint", "data", "train", "predict", "evaluate", "package"):
        assert metrics[f"time/{name}"] > 0
    history = trained.place.client.get_metric_history(trained.run.info.run_id, "time/epoch")
    assert sum(point.value for point in history) < metrics["time/train"]
    assert metrics["speed/train"] == pytest.approx(
        metrics["data/train"] * len(history) / sum(point.value for point in history)
    )
    assert metrics["speed/predict"] == pytest.approx(100 / metrics["time/predict"])


def test_system_metrics_are_monitored(trained: Trained) -> None:
    assert "Started monitoring system metrics" in (trained.output / "train.log").read_text()


def test_class_weights_are_an_artifact(cola_training: Trained, stsb_training: Trained) -> None:
    weights = json.loads(cola_training.artifact("config/class_weights.json").read_text())
    assert set(weights) == {"0", "1"} and weights["0"] > 1 > weights["1"] > 0
    assert json.loads(stsb_training.artifact("config/class_weights.json").read_text()) is None


def test_plots_are_images_of_200_dpi_and_comparable(trained: Trained) -> None:
    paths = trained.place.artifacts(trained.run)
    plots = [path for path in paths if path.endswith(".png") and not path.startswith("images/")]
    assert {path.split("/")[0] for path in plots} == {"profile", "training", "evaluation"}
    assert len(plots) >= 5
    for path in plots:
        with Image.open(trained.artifact(path)) as image:
            image.load()
            assert min(image.size) >= 600, path  # 3 inches at 200 dpi
            assert image.getextrema() != ((255, 255),) * len(image.getbands()), path
        key = path.removesuffix(".png").replace("/", "~")  # MLflow's own naming
        assert any(each.startswith(f"images/{key}+step+0") for each in paths), path


def test_every_table_has_rows_and_is_listed_by_mlflow(trained: Trained) -> None:
    paths = trained.place.artifacts(trained.run)
    tables = [path for path in paths if path.endswith(".json") and not path.startswith(("config/", "package/"))]
    assert {"evaluation/examples.json", "evaluation/slices.json"} <= set(tables)
    for path in tables:
        assert len(table(trained, path)), path
    logged = {each["path"] for each in json.loads(trained.run.data.tags["mlflow.loggedArtifacts"])}
    assert logged == set(tables)


def test_the_description_starts_with_the_result(trained: Trained) -> None:
    config, metrics = config_of(trained), trained.run.data.metrics
    note = trained.run.data.tags["mlflow.note.content"]
    headline = config.task.metric
    assert note.startswith(f"{config.task.title}: **dev {headline} {metrics[f'dev/{headline}']:.4f}**")
    for name in config.task.head_kind.metrics:
        assert f"| {name} | {metrics[f'dev/{name}']:.4f} |" in note
    assert "- checkpoint: tiny" in note


def test_model_is_registered_as_challenger(trained: Trained) -> None:
    client, name = trained.place.client, f"distilspark-{task_of(trained)}"
    version = client.get_model_version(name, "1")
    assert version.run_id == trained.run.info.run_id
    aliases = set(client.get_registered_model(name).aliases)
    metrics, headline = trained.run.data.metrics, config_of(trained).task.metric
    beats = metrics[f"dev/{headline}_low"] > metrics[f"baseline/{headline}"]
    assert ("champion" in aliases) == beats
    assert "challenger" in aliases
    assert version.tags[f"dev.{headline}"] == f"{metrics[f'dev/{headline}']:.4f}"
    assert version.tags["model.checkpoint"] == "tiny"
    for split in ("train", "validation", "dev"):
        assert version.tags[f"data.digest.{split}"] == trained.run.data.tags[f"data.digest.{split}"]


def test_model_card_is_an_artifact_and_the_versions_description(trained: Trained) -> None:
    card = trained.artifact("model_card.md").read_text()
    task, metrics = config_of(trained).task, trained.run.data.metrics
    described = trained.place.client.get_model_version(f"distilspark-{task.name}", "1").description
    assert described.partition("\n## Gate")[0] == card
    assert card.startswith(f"# {task.title}\n\n**dev {task.metric} {metrics[f'dev/{task.metric}']:.4f}**")
    assert f"| dev | 100 | `{trained.run.data.tags['data.digest.dev']}` |" in card
    assert f'load_model("{trained.model_uri}")' in card
    assert metrics["package/bytes"] > 10_000
    assert lines_with(card, "MB", round(metrics["package/bytes"] / 1e6, 1))


def test_hashes_of_the_training_texts_are_an_artifact(trained: Trained) -> None:
    known = pd.read_parquet(trained.artifact("data/training_texts.parquet"))["hash"]
    metrics = trained.run.data.metrics
    assert known.is_unique and known.is_monotonic_increasing
    assert 0.9 * 300 < len(known) <= metrics["data/train"] + metrics["data/validation"]
    dev = pd.read_parquet(trained.artifact("evaluation/predictions.parquet"))
    assert overlap(dev, known.to_numpy()) == metrics["data/duplicates_train_dev"]


def test_training_leaves_only_outputs_in_the_folder(place: Place, cola_training: Trained) -> None:
    assert {each.name for each in place.folder.iterdir()} <= {"cache", "keys", "mlflow.db", "mlruns", "out", "outputs"}
    assert [each.name for each in cola_training.output.iterdir()] == ["train.log"]
    assert not list(Path(place.folder / "cache").rglob("*partial*"))
