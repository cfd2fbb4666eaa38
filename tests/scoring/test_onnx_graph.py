"""The ONNX graph says what the network says, for every head, pooling and length."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from scipy.special import softmax

from distilspark.config import TrainConfig
from distilspark.errors import WorkError
from distilspark.features.buckets import pad
from distilspark.model.network import build_network, export_arrays
from distilspark.model.tiny import write_tiny
from distilspark.scoring.onnx_graph import build_graph
from distilspark.scoring.package import check_parity, signature, write_package
from distilspark.scoring.pyfunc import Scorer

Composer = Callable[..., TrainConfig]
HEADS = {"classification": 3, "regression": 1}


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random DistilBERT of `model=tiny`."""
    folder = tmp_path_factory.mktemp("tiny-scoring")
    write_tiny(folder, seed=0)
    return folder


def make_network(checkpoint: Path, head: str, units: int, pooling: str) -> keras.Model:
    """A network whose head is not nearly zero, so that errors show in its outputs."""
    keras.utils.set_random_seed(5)
    network = build_network(checkpoint, head, units, pooling=pooling)
    for name in ("pre_classifier", "classifier"):
        layer = network.get_layer(name)
        layer.kernel.assign(layer.kernel * 20)
        layer.bias.assign(np.linspace(-1, 1, layer.bias.shape[0]))
    return network


def run_graph(network: keras.Model, head: str, pooling: str, inputs: dict[str, Any]) -> Any:
    graph = build_graph(export_arrays(network), head, heads=2, pooling=pooling)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.astype(np.int64) for name, value in inputs.items()})[0]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("head", list(HEADS))
@pytest.mark.parametrize("lengths", [[1], [3, 64, 7, 12], [512], [5, 512]])
def test_the_graph_is_the_network(tiny_checkpoint: Path, head: str, pooling: str, lengths: list[int]) -> None:
    network = make_network(tiny_checkpoint, head, HEADS[head], pooling)
    rng = np.random.default_rng(0)
    vocabulary = network.get_layer("distilbert").vocabulary_size
    rows = [rng.integers(1, vocabulary, length).astype(np.int32) for length in lengths]
    inputs = pad(rows, 8)
    expected = network(inputs).numpy()
    if head == "classification":
        expected = softmax(expected, axis=1)
    outputs = run_graph(network, head, pooling, inputs)
    assert outputs.shape == (len(lengths), HEADS[head])
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    if len(lengths) > 2:
        assert np.ptp(expected[:, 0]) > 0.01


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(tiny_checkpoint: Path, pooling: str) -> None:
    network = make_network(tiny_checkpoint, "regression", 1, pooling)
    row = np.arange(1, 12, dtype=np.int32)
    narrow = run_graph(network, "regression", pooling, pad([row], 1))
    wide = pad([row, np.arange(1, 200, dtype=np.int32)], 1)
    wide["token_ids"] = np.where(wide["padding_mask"] == 1, wide["token_ids"], 9)
    np.testing.assert_allclose(run_graph(network, "regression", pooling, wide)[:1], narrow, atol=1e-5)


@pytest.fixture
def package(tiny_checkpoint: Path, tmp_path: Path, compose_config: Composer) -> Callable[..., Path]:
    """`package(task, stop_words)`: the folder that `distilspark.scoring.pyfunc` loads."""

    def write(task: str, stop_words: Sequence[str] = ()) -> Path:
        config = compose_config(f"task={task}", "model=tiny", "model.max_length=16")
        folder = tmp_path / task
        folder.mkdir()
        network = make_network(tiny_checkpoint, config.task.head, len(config.task.labels) or 1, "cls")
        write_package(folder, export_arrays(network), tiny_checkpoint, config.task, config.model, stop_words)
        return folder

    return write


def test_rows_keep_their_order_whatever_their_length(package: Callable[..., Path]) -> None:
    scorer = Scorer(package("cola"))
    texts = ["it is " * count for count in (9, 1, 30, 0, 4, 2, 7)] + ["It is!", "ünïcode 日本", "\t \n"]
    whole = scorer.predict(pd.DataFrame({"sentence1": texts}))
    for number, text in enumerate(texts):
        alone = scorer.predict(pd.DataFrame({"sentence1": [text]}))
        assert alone["label"][0] == whole["label"][number]
        assert alone["score"][0] == pytest.approx(whole["score"][number], abs=1e-5)
    assert whole["score"].nunique() > 4
    assert (whole["label"] == np.array(["unacceptable", "acceptable"])[whole["prediction"]]).all()


def test_pairs_are_read_by_the_names_of_their_columns(package: Callable[..., Path]) -> None:
    scorer = Scorer(package("stsb"))
    rows = pd.DataFrame({"sentence1": ["the dog was it", "who"], "sentence2": ["not the dog", "she who was"]})
    first = scorer.predict(rows)["prediction"]
    shuffled = rows[["sentence2", "sentence1"]].assign(other=1).set_index(pd.Index([7, 3]))
    np.testing.assert_allclose(scorer.predict(shuffled)["prediction"], first, atol=1e-6)
    turned = scorer.predict(rows.rename(columns={"sentence1": "sentence2", "sentence2": "sentence1"}))
    assert abs(turned["prediction"] - first).max() > 1e-3


@pytest.mark.parametrize("task, columns", [("cola", ["prediction", "label", "score"]), ("stsb", ["prediction"])])
def test_no_rows_give_no_rows(package: Callable[..., Path], task: str, columns: list[str]) -> None:
    empty = pd.DataFrame({"sentence1": pd.Series([], dtype=str), "sentence2": pd.Series([], dtype=str)})
    answer = Scorer(package(task)).predict(empty)
    assert list(answer.columns) == columns and len(answer) == 0


def test_many_rows_are_one_answer_each(package: Callable[..., Path]) -> None:
    texts = [("the dog " * (number % 13)).strip() for number in range(2000)]
    answer = Scorer(package("cola")).predict(pd.DataFrame({"sentence1": texts}))
    assert len(answer) == 2000
    by_text = answer.assign(text=texts).groupby("text")["score"]
    assert (by_text.max() - by_text.min()).max() < 1e-5


def test_a_package_that_differs_is_refused(package: Callable[..., Path]) -> None:
    folder = package("cola")
    rows = pd.DataFrame({"sentence1": ["It is.", "the dog who"]})
    outputs = Scorer(folder).outputs(rows)
    assert check_parity(folder, rows, outputs) == 0
    assert check_parity(folder, rows, outputs + 5e-5) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(WorkError, match="differs from the network"):
        check_parity(folder, rows, outputs + 2e-4)
    with pytest.raises(WorkError, match="differs from the network by nan"):
        check_parity(folder, rows, np.full_like(outputs, np.nan))


def test_stop_words_are_removed_before_scoring(package: Callable[..., Path]) -> None:
    raw, filtered = Scorer(package("cola")), Scorer(package("stsb", ["the", "was"]))
    assert raw.predict(pd.DataFrame({"sentence1": ["the dog"]}))["score"][0] != pytest.approx(
        raw.predict(pd.DataFrame({"sentence1": ["dog"]}))["score"][0], abs=1e-4
    )
    pairs = pd.DataFrame({"sentence1": ["The dog WAS it", "dog it"], "sentence2": ["the was", "the was"]})
    one, two = filtered.predict(pairs)["prediction"]
    assert one == pytest.approx(two, abs=1e-6)


def test_signatures_and_settings(package: Callable[..., Path], compose_config: Composer) -> None:
    cola, stsb = (compose_config(f"task={task}", "model=tiny").task for task in ("cola", "stsb"))
    assert signature(cola).inputs.input_names() == ["sentence1"]
    assert signature(stsb).inputs.input_names() == ["sentence1", "sentence2"]
    assert signature(cola).outputs.input_names() == ["prediction", "label", "score"]
    assert signature(stsb).outputs.input_names() == ["prediction"]
    settings = json.loads((package("cola") / "scorer.json").read_text())
    assert settings == {
        "task": "cola",
        "columns": ["sentence1"],
        "labels": ["unacceptable", "acceptable"],
        "max_length": 16,
        "stop_words": [],
    }
