"""A student with fewer layers is trained from a registered teacher and unlabelled text, then compared with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from distilspark.package.build import size_of
from helpers.texts import lines_with
from helpers.trained import Trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def student(cola_training: Trained) -> Trained:
    """A one-layer student with frozen embeddings, refitted on train, validation and the unlabelled text."""
    place, output = cola_training.place, cola_training.place.folder / "out" / "student"
    settings = ("model.layers=[1]", "model.freeze=[embeddings]", "training.refit=true", "registry.name=student")
    more = ("data.unlabelled=corpus", "data.unlabelled_rows=50", f"training.teacher={cola_training.model_uri}")
    ended = place.train("task=cola", f"hydra.run.dir={output}", *settings, *more)
    assert ended.returncode == 0, ended.stderr
    run_id = ended.stdout.partition("\nrun ")[2].split()[0]
    return Trained(place, place.client.get_run(run_id), ended, output)


def test_teacher_is_recorded_in_the_run_the_version_and_the_card(cola_training: Trained, student: Trained) -> None:
    run = student.run
    assert run.data.tags["model.teacher"] == run.data.params["training.teacher"] == cola_training.model_uri
    (version,) = student.place.client.search_model_versions("name='student'")
    assert version.tags["model.teacher"] == cola_training.model_uri
    card = student.artifact("model_card.md").read_text()
    assert len(lines_with(card, "teacher", cola_training.model_uri, "temperature 2", "alpha 0.5")) == 1
    assert len(lines_with(card, "layers", 1)) == len(lines_with(card, "embeddings")) == 1
    assert {"teacher/mcc", "time/teacher"} <= set(run.data.metrics)


def test_student_is_trained_on_unlabelled_text(cola_training: Trained, student: Trained) -> None:
    added = student.run.data.metrics["data/unlabelled"]
    assert 0 < added <= 50
    texts, before = (
        len(pd.read_parquet(each.artifact("data/training_texts.parquet"))) for each in (student, cola_training)
    )
    assert texts == before + added
    rows = int(sum(student.run.data.metrics[f"data/{split}"] for split in ("train", "validation", "unlabelled")))
    assert len(lines_with(student.ended.stdout, "refit", "rows", 1, rows)) == 1


def test_comparison_shows_quality_against_speed_and_size(
    cola_training: Trained, student: Trained, tmp_path: Path
) -> None:
    runs = f"runs=[{cola_training.run.info.run_id},{student.run.info.run_id}]"
    command = (sys.executable, "-m", "distilspark", "compare", runs, f"output={tmp_path}", "gate.timing.rounds=5")
    ended = student.place.run(*command)
    assert ended.returncode == 0, ended.stderr
    costs = pd.read_csv(tmp_path / "costs.csv")
    assert costs["megabytes"].tolist() == [size_of(each.package / "data") / 1e6 for each in (cola_training, student)]
    assert costs["megabytes"].is_monotonic_decreasing and (costs["rows_a_second"] > 0).all()
    assert costs["gate"].iloc[1] in ("promoted", "not promoted") and costs["precision"].tolist() == ["float32"] * 2
    assert lines_with(ended.stdout, "float32", round(costs["megabytes"].iloc[1], 1))
    assert "(costs.png)" in (tmp_path / "comparison.md").read_text() and (tmp_path / "costs.png").is_file()
