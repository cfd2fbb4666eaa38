"""A logged model scores without TensorFlow and without pickle, and reproduces the network's predictions."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from helpers.processes import Place, end_group
from helpers.texts import lines_with
from helpers.trained import Trained

pytestmark = pytest.mark.slow

# Scores a table without the project on the path; the imports that only training needs are blocked.
SCORE = """
import json, sys
BLOCKED = {"tensorflow", "keras", "keras_hub", "transformers", "torch", "pyspark", "sklearn", "hydra"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = [model.predict(pd.DataFrame(rows)).to_dict("list") for rows in json.loads(sys.argv[2])]
assert not BLOCKED & set(sys.modules)
print(json.dumps(answers))
"""
COUNTS = ["error", "tokens", "unknown_tokens"]
SAFE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": ""}


def score(trained: Trained, *tables: dict[str, list[Any]]) -> list[pd.DataFrame]:
    ended = trained.place.python(SCORE, trained.model_uri, json.dumps(tables), **SAFE)
    assert ended.returncode == 0, ended.stderr
    return [pd.DataFrame(answer) for answer in json.loads(ended.stdout.splitlines()[-1])]


def examples(trained: Trained) -> pd.DataFrame:
    return pd.DataFrame(**json.loads(trained.artifact("evaluation/examples.json").read_text()))


def test_classification_package_reproduces_the_training_predictions(cola_training: Trained) -> None:
    said = examples(cola_training)
    texts = said["sentence1"].tolist()
    assert len(texts) >= 20
    long = {"sentence1": [*texts, "one word " * 300, "", texts[0]]}
    whole, backwards, single = score(cola_training, long, {"sentence1": texts[::-1]}, {"sentence1": texts[3:4]})
    assert whole["label"].tolist()[: len(said)] == said["prediction"].tolist()
    np.testing.assert_allclose(whole["score"][: len(said)], said["confidence"], atol=1e-5)
    assert whole["prediction"].tolist() == whole["label"].map({"unacceptable": 0, "acceptable": 1, "": -1}).tolist()
    assert whole["error"].tolist() == [""] * (len(said) + 1) + ["sentence1 is empty", ""]
    assert whole["score"][whole["error"] == ""].between(0.5, 1).all()
    assert len(whole) == len(said) + 3
    assert list(whole.columns) == ["prediction", "label", "score", *COUNTS]
    np.testing.assert_allclose(backwards["score"][::-1], said["confidence"], atol=1e-5)
    assert np.ptp(said["confidence"]) > 1e-4, "rows that all say the same would hide a wrong order"
    assert len(single) == 1
    assert single["score"][0] == pytest.approx(said["confidence"][3], abs=1e-5)


def test_regression_package_reproduces_the_training_predictions(stsb_training: Trained) -> None:
    said = examples(stsb_training)
    pairs = said[["sentence1", "sentence2"]].to_dict("list")
    backwards = said[["sentence2", "sentence1"]][::-1].to_dict("list")  # columns are matched by name
    whole, other = score(stsb_training, pairs, backwards)
    assert list(whole.columns) == ["prediction", *COUNTS]
    np.testing.assert_allclose(whole["prediction"], said["prediction"], atol=1e-4)
    np.testing.assert_allclose(other["prediction"][::-1], said["prediction"], atol=1e-4)
    assert 0 < whole["prediction"].mean() < 5
    assert np.ptp(said["prediction"]) > 1e-3


def test_package_holds_only_what_scoring_needs_and_no_pickle(cola_training: Trained) -> None:
    root = cola_training.package
    files = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    assert {"MLmodel", "requirements.txt"} <= files
    scorer = {file for file in files if file.startswith("data/")}
    assert scorer == {f"data/scorer/{name}" for name in ("model.onnx", "profile.json", "scorer.json", "tokenizer.json")}
    code = {file for file in files if file.startswith("code/")}
    assert "code/distilspark/package/pyfunc.py" in code and len(code) < 20, code
    assert not [file for file in files if file.endswith((".pkl", ".pickle", ".h5", ".keras", ".pyc"))]
    requirements = set((root / "requirements.txt").read_text().split())
    assert requirements == {
        f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnxruntime", "pandas", "psutil", "tokenizers")
    }
    described = yaml.safe_load((root / "MLmodel").read_text())
    assert described["flavors"]["python_function"]["loader_module"] == "distilspark.package.pyfunc"
    assert [each["name"] for each in json.loads(described["signature"]["inputs"])] == ["sentence1"]
    outputs = {each["name"]: each["type"] for each in json.loads(described["signature"]["outputs"])}
    counts = {"error": "string", "tokens": "long", "unknown_tokens": "long"}
    assert outputs == {"prediction": "long", "label": "string", "score": "double", **counts}
    params = {each["name"]: each["default"] for each in json.loads(described["signature"]["params"])}
    assert params == {"max_characters": 1_000_000, "batch_tokens": 0}


def test_package_holds_the_profile_of_the_validation_rows(cola_training: Trained, stsb_training: Trained) -> None:
    for trained in (cola_training, stsb_training):
        profile = json.loads((trained.package / "data/scorer/profile.json").read_text())
        assert profile["rows"] == trained.run.data.metrics["data/validation"]
        assert json.loads(trained.artifact("package/profile.json").read_text()) == profile


def test_signature_of_a_regression_model_lists_inputs_outputs_and_params(stsb_training: Trained) -> None:
    code = "import sys, mlflow; print(mlflow.models.get_model_info(sys.argv[1]).signature.to_dict())"
    ended = stsb_training.place.python(code, stsb_training.model_uri)
    named = re.findall(r'"name": "(\w+)"', ended.stdout)
    assert named == ["sentence1", "sentence2", "prediction", *COUNTS, "max_characters", "batch_tokens"]


def test_difference_between_package_and_network_is_logged(cola_training: Trained, stsb_training: Trained) -> None:
    assert 0 <= cola_training.run.data.metrics["package/max_difference"] < 1e-5
    assert 0 <= stsb_training.run.data.metrics["package/max_difference"] < 1e-4


def test_int8_predictions_stay_within_the_logged_difference(int8_training: Trained) -> None:
    metrics, tags = int8_training.run.data.metrics, int8_training.run.data.tags
    assert tags["model.precision"] == "int8"
    said = examples(int8_training)
    (answer,) = score(int8_training, {"sentence1": said["sentence1"].tolist()})
    probability = np.where(answer["label"] == said["prediction"], answer["score"], 1 - answer["score"])
    assert abs(probability - said["confidence"]).max() <= metrics["parity/dev_max_difference"] + 1e-6
    assert 0 < metrics["parity/dev_max_difference"] < 0.1
    assert metrics["package/max_difference"] < 1e-5
    assert 0 < metrics["parity/mean_difference"] < metrics["parity/max_difference"] < 0.1
    assert metrics["parity/metric_drop"] == pytest.approx(metrics["parity/float32"] - metrics["parity/int8"])
    assert 0 <= metrics["parity/flips"] < 1
    settings = json.loads((int8_training.package / "data/scorer/scorer.json").read_text())
    assert settings["precision"] == "int8"
    shown = [round(metrics[f"parity/{name}"], 4) for name in ("int8", "float32", "flips")]
    assert len(lines_with(int8_training.ended.stdout, "packaged", "int8", "mcc", *shown)) == 1


def test_tuned_threshold_is_stored_in_the_package(int8_training: Trained, cola_training: Trained) -> None:
    metrics = int8_training.run.data.metrics
    settings = json.loads((int8_training.package / "data/scorer/scorer.json").read_text())
    assert settings["threshold"] == pytest.approx(metrics["train/threshold"]) and settings["threshold"] != 0.5
    assert int8_training.run.data.params["training.threshold"] == "tuned"
    assert metrics["val/threshold_mcc"] > metrics["val/kept_mcc"]
    assert metrics["parity/float32"] == pytest.approx(metrics["val/threshold_mcc"])
    shown = [round(each, 4) for each in (settings["threshold"], metrics["val/threshold_mcc"])]
    assert len(lines_with(int8_training.ended.stdout, "acceptable", "mcc", *shown)) == 1
    assert "train/threshold" not in cola_training.run.data.metrics


def test_float32_is_packaged_on_request(cola_training: Trained) -> None:
    assert cola_training.run.data.tags["model.precision"] == "float32"
    assert {"parity/int8", "parity/flips"} <= cola_training.run.data.metrics.keys()
    assert "parity/dev_max_difference" not in cola_training.run.data.metrics
    settings = json.loads((cola_training.package / "data/scorer/scorer.json").read_text())
    assert settings["precision"] == "float32"


# A table with invalid rows, passed through MLflow.
FAULTS = """
import sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
texts = ["It is.", None, "", "\\ufffd", "It\\0is", "x" * 90]
rows = pd.DataFrame({"sentence1": texts})
answer = model.predict(rows, params={"max_characters": 80, "batch_tokens": 64})
print(*answer["error"], sep="|")
"""


def test_row_errors_and_params_pass_through_mlflow(cola_training: Trained) -> None:
    ended = cola_training.place.python(FAULTS, cola_training.model_uri, **SAFE)
    assert ended.stdout.splitlines()[-1:] == [
        "|sentence1 is missing|sentence1 is empty|sentence1 is not valid UTF-8||"
        "sentence1 has 90 characters, more than 80"
    ], ended.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, body: dict[str, Any], process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, Any]:
    """POST until the server answers; return the status and the answer, which must be valid JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read(), parse_constant=pytest.fail)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError:
            assert process.poll() is None and time.monotonic() < end, "the server does not answer"
            time.sleep(0.5)


def test_served_model_returns_the_same_predictions(place: Place, cola_training: Trained) -> None:
    said = examples(cola_training)
    rows = {"sentence1": said["sentence1"].tolist()}
    port = free_port()
    mlflow = str(Path(sys.executable).with_name("mlflow"))
    command = [mlflow, "models", "serve", "-m", cola_training.model_uri, "--env-manager", "local"]
    process = place.start(*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1", **SAFE)
    table = {"columns": list(rows), "data": [[text] for text in rows["sentence1"]]}
    faults = [None, 7, "", "None"]
    try:
        _, answer = ask(port, {"dataframe_split": table}, process)
        forms = [
            ask(port, body, process)
            for body in (
                {"dataframe_records": [{"sentence1": value} for value in faults]},
                {"inputs": {"sentence1": faults}},
                {"instances": [{"sentence1": value} for value in faults]},
            )
        ]
        refused, why = ask(port, {"inputs": rows, "params": {"max_characters": 10**7}}, process)
    finally:
        end_group(process)
    served = pd.DataFrame(answer["predictions"])
    (loaded,) = score(cola_training, rows)
    assert forms == [(200, forms[0][1])] * 3
    errors = ["sentence1 is missing", "sentence1 is not text", "sentence1 is empty", ""]
    assert [row["error"] for row in forms[0][1]["predictions"]] == errors
    assert [row["score"] is None for row in forms[0][1]["predictions"]] == [True, True, True, False]
    assert (refused, "max_characters=10000000" in why["message"], "stack_trace" in why) == (400, True, False)
    assert served["label"].tolist() == loaded["label"].tolist()
    np.testing.assert_allclose(served["score"], loaded["score"], atol=1e-6)
