"""A foreign or broken model is refused with one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from distilspark.errors import UserError
from distilspark.package.load import TaskModel, load_task_model
from helpers.scorings import compose_predict

Change = Callable[[Path], object]


@pytest.fixture
def model(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of CoLA's model in a folder."""
    return Path(shutil.copytree(saved("cola"), tmp_path / "model"))


def load(model: Path) -> TaskModel:
    config = compose_predict("input=x", "output=y", f"model_uri='{model}'")
    scratch = model.with_name("fetched")
    scratch.mkdir()
    return load_task_model(config.model_uri, config.task, scratch, config.registry)


def data(model: Path) -> Path:
    """Return the folder that the model's loader receives."""
    (file,) = model.glob("data/*/scorer.json")
    return file.parent


def settings(**changed: Any) -> Change:
    """Change `scorer.json`; None removes a key."""

    def change(folder: Path) -> None:
        known = json.loads((folder / "scorer.json").read_text()) | changed
        (folder / "scorer.json").write_text(json.dumps({key: known[key] for key in known if known[key] is not None}))

    return change


def text(name: str, content: str) -> Change:
    return lambda folder: (folder / name).write_text(content)


def store_outside(folder: Path) -> None:
    """Move a tensor of the graph to an external file."""
    graph = onnx.load(folder / "model.onnx")
    onnx.external_data_helper.set_external_data(graph.graph.initializer[0], "../../../secret")
    graph.graph.initializer[0].ClearField("raw_data")
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    assert numpy_helper and onnx.load(folder / "model.onnx", load_external_data=False)


def test_intact_model_is_loaded(model: Path) -> None:
    loaded = load(model)
    assert (loaded.max_length, loaded.threshold, loaded.profile) == (16, 0.5, None)


@pytest.mark.parametrize(
    "change, named",
    [
        (text("scorer.json", ""), "scorer.json"),
        (text("scorer.json", "{"), "scorer.json"),
        (text("scorer.json", "[]"), "scorer.json"),
        (settings(labels=None), "scorer.json .*labels"),
        (settings(columns="sentence1"), "scorer.json .*columns"),
        (settings(max_length="many"), "scorer.json .*max_length"),
        (text("tokenizer.json", ""), "tokenizer.json"),
        (text("tokenizer.json", "{}"), "tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx"),
        (store_outside, "model.onnx .*other files"),
        (text("profile.json", "{"), "profile.json"),
        (text("profile.json", "3"), "profile.json"),
    ],
)
def test_broken_file_is_named_in_the_error(model: Path, change: Change, named: str) -> None:
    change(data(model))
    with pytest.raises(UserError, match=f"^model_uri={model}: {named}") as refused:
        load(model)
    assert "\n" not in str(refused.value)


def test_model_that_distilspark_did_not_package_is_refused(model: Path) -> None:
    file = model / "MLmodel"
    known = file.read_text()
    file.write_text(known.replace("distilspark.package.pyfunc", "mlflow.sklearn"))
    with pytest.raises(UserError, match=r"distilspark: .*mlflow\.sklearn"):
        load(model)
    file.write_text(known)
    (data(model) / "scorer.json").unlink()
    shutil.rmtree(model.with_name("fetched"))
    with pytest.raises(UserError, match=r"packaged .*distilspark"):
        load(model)
