"""`predict` as a user starts it, on registered models."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.predicting import done_chunks, last_run, predict, predict_command, wait_for
from helpers.processes import Place, end_group
from helpers.texts import has_name, lines_with, numbers_in
from helpers.trained import Trained

pytestmark = pytest.mark.slow


def write_dev(trained: Trained, folder: Path) -> tuple[Path, pd.DataFrame]:
    """Return a file with texts and labels of some dev rows, and the training's predictions for them."""
    said = pd.DataFrame(**json.loads(trained.artifact("evaluation/examples.json").read_text()))
    texts = [name for name in ("sentence1", "sentence2") if name in said]
    frame = said[[*texts, "label"]].rename(columns={"sentence1": "sentence"} if len(texts) == 1 else {})
    file = folder / "dev.csv"
    frame.to_csv(file, index=False)
    return file, said


def test_predict_reproduces_training_predictions_and_logs_metrics(cola_training: Trained, tmp_path: Path) -> None:
    place = cola_training.place
    source, said = write_dev(cola_training, tmp_path)
    ended = predict(place, source, tmp_path / "scored")
    assert ended.returncode == 0, ended.stderr
    assert len(lines_with(ended.stdout, "rows", len(said), 0)) == 1
    rows = pd.read_parquet(tmp_path / "scored")
    columns = ["sentence", "input_label", "prediction", "label", "score", "error", "model_version"]
    assert rows.columns.tolist() == columns
    assert rows["label"].tolist() == said["prediction"].tolist()
    np.testing.assert_allclose(rows["score"], said["confidence"], atol=1e-4)
    run = last_run(place, "cola")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["rows/in"] == run.data.metrics["rows/scored"] == len(said)
    accuracy = (said["prediction"] == said["label"]).mean()
    assert run.data.metrics["scored/accuracy"] == pytest.approx(accuracy)
    assert {"scored/mcc", "speed/scoring", "time/scoring", "time/job"} <= run.data.metrics.keys()
    tags = run.data.tags
    assert tags["model.run_id"] == cola_training.run.info.run_id
    assert tags["model.uri"] == f"models:/distilspark-cola/{tags['model.version']}"
    assert set(rows["model_version"]) == {tags["model.version"]}
    assert [each.model_id for each in run.inputs.model_inputs] == [cola_training.model_uri.rpartition("/")[2]]
    assert {"manifest.json", "profile/profile.json", "profile/tokens.png", "profile/predictions.png"} <= set(
        place.artifacts(run)
    )
    profile = json.loads(place.artifact(run, "profile/profile.json").read_text())
    assert sum(profile["tokens"].values()) == sum(profile["predictions"].values()) == len(said)
    assert sum(profile["scores"]["rows"]) == len(said)
    drift = pd.DataFrame(**json.loads(place.artifact(run, "drift/drift.json").read_text()))
    assert drift["distribution"].tolist() == ["tokens", "unknown_share", "predictions", "scores"]
    for row in drift.itertuples():
        assert run.data.metrics[f"drift/{row.distribution}"] == pytest.approx(row.psi)
    assert tags["drift"] in drift["verdict"].tolist()
    (line,) = lines_with(ended.stdout, "drift")
    shifted = drift[drift["verdict"] != "none"]
    assert has_name(line, "none") is shifted.empty and (tags["drift"] == "none") is shifted.empty
    assert sorted(numbers_in(line)) == sorted(round(psi, 3) for psi in shifted["psi"])
    assert all(has_name(line, name.replace("_", " ")) for name in shifted["distribution"])
    assert "drift/distributions.png" in place.artifacts(run)
    manifest = json.loads((tmp_path / "scored" / "_manifest.json").read_text())
    assert [each["verdict"] for each in manifest["drift"]] == drift["verdict"].tolist()


def test_predict_on_sentence_pairs_with_a_logged_model_uri(stsb_training: Trained, tmp_path: Path) -> None:
    place = stsb_training.place
    source, said = write_dev(stsb_training, tmp_path)
    uri = f"model_uri={stsb_training.model_uri}"
    ended = predict(place, source, tmp_path / "scored", "task=stsb", uri, "predict.format=csv")
    assert ended.returncode == 0, ended.stderr
    (file,) = (tmp_path / "scored").glob("*.csv")
    rows = pd.read_csv(file)
    assert rows.columns.tolist() == ["sentence1", "sentence2", "label", "prediction", "error", "model_version"]
    np.testing.assert_allclose(rows["prediction"], said["prediction"], atol=1e-3)
    run = last_run(place, "stsb")
    assert run.data.tags["model.version"] == stsb_training.model_uri.rpartition("/")[2]
    assert run.data.metrics["scored/mse"] == pytest.approx(((said["prediction"] - said["label"]) ** 2).mean(), rel=0.01)


def test_killed_predict_resumes_without_scoring_a_chunk_twice(cola_training: Trained, tmp_path: Path) -> None:
    place = cola_training.place
    source = tmp_path / "rows.txt"
    source.write_text("".join(f"The cat number {number} sleeps.\n" for number in range(4000)))
    staging = tmp_path / ".scored.staging"
    process = place.start(*predict_command(source, tmp_path / "scored", "predict.rows_per_chunk=400"))
    try:
        wait_for(lambda: len(done_chunks(staging)) >= 2, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        end_group(process)
    assert not (tmp_path / "scored").exists()
    done = done_chunks(staging)
    assert 2 <= len(done) < 10
    ended = predict(place, source, tmp_path / "scored", "predict.rows_per_chunk=400")
    assert ended.returncode == 0, ended.stderr
    rows = pd.read_parquet(tmp_path / "scored")
    assert rows["sentence1"].tolist() == source.read_text().splitlines()
    assert (rows["error"] == "").all()
    assert not staging.exists()
    assert lines_with((tmp_path / "hydra" / "predict.log").read_text(), "chunks", len(done), 10)
    again = predict(place, source, tmp_path / "scored")
    assert again.returncode == 2
    assert "predict.overwrite=true" in again.stderr


@pytest.mark.parametrize(
    "overrides, code, named",
    [
        (["model_uri=models:/distilspark-cola/999"], 2, ["models:/distilspark-cola/999", "@challenger is 1"]),
        (["model_uri=models:/distilspark-cola@nobody"], 2, ["@nobody", "@challenger is 1"]),
        (["model_uri=models:/nothing/1"], 2, ["models:/nothing/1"]),
        (
            ["model_uri=runs:/0123456789abcdef0123456789abcdef/model"],
            2,
            ["runs:/0123456789abcdef0123456789abcdef/model"],
        ),
        (["task=sst2", "model_uri=models:/distilspark-cola/1"], 2, ["models:/distilspark-cola/1", "cola", "sst2"]),
        (["input=/no/such/file"], 2, ["/no/such/file"]),
        (["predict.format=orc"], 2, ["predict.format=orc"]),
        (["predict.batch_tokens=0"], 2, ["predict.batch_tokens"]),
        (["output=null"], 2, ["output"]),
    ],
)
def test_user_error_is_named_on_one_line(
    cola_training: Trained, tmp_path: Path, overrides: list[str], code: int, named: list[str]
) -> None:
    source = tmp_path / "rows.txt"
    source.write_text("A row.\n")
    ended = predict(cola_training.place, source, tmp_path / "scored", *overrides)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("distilspark: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert all(name in ended.stderr for name in named), ended.stderr
    assert not list(tmp_path.glob("*scored*"))


def test_unreachable_tracking_server_fails_within_a_minute(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "rows.txt"
    source.write_text("A row.\n")
    started = time.monotonic()
    ended = predict(place, source, tmp_path / "scored", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert time.monotonic() - started < 60
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "http://127.0.0.1:9" in ended.stderr and "MLFLOW_TRACKING_URI" in ended.stderr
