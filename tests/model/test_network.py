"""The Keras network against a NumPy forward pass written from DistilBERT's paper and config."""

from __future__ import annotations

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distilspark.errors import UserError
from distilspark.features.buckets import pad
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.losses import make_loss
from distilspark.model.network import build_network, export_arrays

Array = NDArray[np.float64]
SENTENCES = [
    "The cat sat on the mat.",
    "It is not.",
    "Café 42% (naïve)… she asked who the dog was, and he said: it is!",
]


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x: Array, weights: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x: Array, weights: dict[str, Array], name: str, heads: int) -> Array:
    """Return the attention output for one unpadded row x (L, dim)."""
    split = [
        linear(x, weights, f"{name}.{part}").reshape(len(x), heads, -1).swapaxes(0, 1)
        for part in ("q_lin", "k_lin", "v_lin")
    ]
    query, key, value = split
    scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    context = (shares / shares.sum(-1, keepdims=True)) @ value
    return linear(context.swapaxes(0, 1).reshape(len(x), -1), weights, f"{name}.out_lin")


def forward(weights: dict[str, Array], ids: NDArray[np.int32], layers: int, heads: int) -> Array:
    """Return the last hidden states (L, dim) of one row, from Hugging Face's tensors."""
    x = weights["distilbert.embeddings.word_embeddings.weight"][ids]
    x = x + weights["distilbert.embeddings.position_embeddings.weight"][: len(ids)]
    x = layer_norm(x, weights, "distilbert.embeddings.LayerNorm")
    for index in range(layers):
        layer = f"distilbert.transformer.layer.{index}"
        x = layer_norm(x + attention(x, weights, f"{layer}.attention", heads), weights, f"{layer}.sa_layer_norm")
        hidden = gelu(linear(x, weights, f"{layer}.ffn.lin1"))
        x = layer_norm(x + linear(hidden, weights, f"{layer}.ffn.lin2"), weights, f"{layer}.output_layer_norm")
    return x


def head(weights: dict[str, Array], pooled: Array) -> Array:
    return linear(np.maximum(linear(pooled, weights, "pre_classifier"), 0), weights, "classifier")


POOLED = {"cls": lambda hidden: hidden[0], "mean": lambda hidden: hidden.mean(0), "max": lambda hidden: hidden.max(0)}


@pytest.mark.parametrize("pooling", list(POOLED))
@pytest.mark.parametrize("kind, units", [("classification", 3), ("regression", 1)])
def test_network_equals_the_numpy_forward_pass(tiny_folder: Path, pooling: str, kind: str, units: int) -> None:
    config = json.loads((tiny_folder / "config.json").read_text())
    keras.utils.set_random_seed(1)
    network = build_network(tiny_folder, kind, units, pooling=pooling, dropout=0.3)
    for name in ("pre_classifier", "classifier"):  # a new head's weights are too small for errors to show
        network.get_layer(name).kernel.assign(network.get_layer(name).kernel * 20)
        network.get_layer(name).bias.assign(np.linspace(-1, 1, network.get_layer(name).bias.shape[0]))
    rows = encode(load_tokenizer(tiny_folder), SENTENCES, None, 512).token_ids
    weights = {name: array.astype(np.float64) for name, array in load_file(tiny_folder / "model.safetensors").items()}
    weights |= {name: array for name, array in export_arrays(network).items() if not name.startswith("distilbert.")}
    hidden = [forward(weights, ids, config["n_layers"], config["n_heads"]) for ids in rows]
    expected = np.stack([head(weights, POOLED[pooling](row)) for row in hidden])
    assert expected.shape == (len(SENTENCES), units)
    np.testing.assert_allclose(network(pad(rows, 8)).numpy(), expected, atol=2e-5)
    embedded = network.get_layer("distilbert")(pad(rows, 8)).numpy()
    for row, values in zip(hidden, embedded, strict=True):
        np.testing.assert_allclose(values[: len(row)], row, atol=2e-5)
    assert np.ptp(expected[:, 0]) > 0.1


@pytest.mark.parametrize("pooling", list(POOLED))
def test_padding_never_changes_outputs(tiny_folder: Path, pooling: str) -> None:
    network = build_network(tiny_folder, "classification", 2, pooling=pooling)
    rows = encode(load_tokenizer(tiny_folder), SENTENCES, None, 128).token_ids
    narrow = np.concatenate([network(pad([row], 1)).numpy() for row in rows])
    wide = pad(rows, 128)
    np.testing.assert_allclose(network(wide).numpy(), narrow, atol=1e-5)
    wide["token_ids"] = np.where(wide["padding_mask"] == 1, wide["token_ids"], 7)
    np.testing.assert_allclose(network(wide).numpy(), narrow, atol=1e-5)


def test_exported_arrays_equal_the_safetensors_file_plus_the_head(tiny_folder: Path) -> None:
    exported = export_arrays(build_network(tiny_folder, "classification", 3))
    loaded = load_file(tiny_folder / "model.safetensors")
    shapes = {name: array.shape for name, array in exported.items() if name not in loaded}
    assert shapes == {
        "pre_classifier.weight": (32, 32),
        "pre_classifier.bias": (32,),
        "classifier.weight": (3, 32),
        "classifier.bias": (3,),
    }
    for name, array in loaded.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)


def test_every_weight_is_exported_and_trainable(tiny_folder: Path) -> None:
    network = build_network(tiny_folder, "regression")
    assert len(export_arrays(network)) == len(network.weights) == len(network.trainable_weights)


def test_head_depends_on_the_seed_and_dropout_is_active_only_in_training(tiny_folder: Path) -> None:
    rows = pad(encode(load_tokenizer(tiny_folder), SENTENCES, None, 64).token_ids, 8)
    outputs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        network = build_network(tiny_folder, "classification", 2, dropout=0.5)
        outputs.append(network(rows).numpy())
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[0], outputs[2])
    assert not np.allclose(network(rows, training=True), network(rows, training=True))


def test_reinitialized_top_layers_depend_on_the_seed(tiny_folder: Path) -> None:
    """The other layers keep the checkpoint's weights; the head is the same as without reinitialization."""
    drawn = []
    for seed, count in ((1, 0), (1, 1), (1, 1), (2, 1), (1, 2)):
        keras.utils.set_random_seed(seed)
        drawn.append(export_arrays(build_network(tiny_folder, "classification", 2, reinitialize_layers=count)))
    plain, first, same, other_seed, both = drawn
    changed = [
        {name for name, array in arrays.items() if not np.array_equal(array, plain[name])}
        for arrays in (first, same, other_seed, both)
    ]
    top, bottom = ({name for name in plain if f".layer.{layer}." in name} for layer in (1, 0))
    assert len(top) == len(bottom) == 16
    assert changed[0] == changed[1] == top
    assert changed[2] == top | {"pre_classifier.weight", "classifier.weight"}
    assert changed[3] == top | bottom
    for name in top:
        np.testing.assert_array_equal(first[name], same[name])
    matrices = [first[name] for name in top if first[name].ndim == 2]
    assert len(matrices) == 6
    for number, matrix in enumerate(matrices):
        assert 0.015 < matrix.std() < 0.02 and np.abs(matrix).max() <= 0.04 + 1e-6
        assert not np.array_equal(matrix, other_seed[[name for name in top if first[name].ndim == 2][number]])
    attention = [first[f"distilbert.transformer.layer.1.attention.{part}_lin.weight"] for part in "qk"]
    assert not np.array_equal(*attention), "each has its own draw"
    for name in top:
        if first[name].ndim == 1:
            assert set(first[name]) == {1.0 if name.endswith("norm.weight") else 0.0}, name


def test_reinitializing_more_layers_than_exist_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(UserError, match=r"^model\.reinitialize_layers=3: .*\b2 layers"):
        build_network(tiny_folder, "regression", reinitialize_layers=3)


def test_losses_equal_values_computed_by_hand() -> None:
    logits = np.array([[0.0, 2.0], [1.0, -1.0]], dtype=np.float32)
    log_shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(log_shares[0, 1] + log_shares[1, 1]) / 2
    assert float(make_loss("cross_entropy")(np.array([1, 1]), logits)) == pytest.approx(expected, rel=1e-6)
    labels, scores = np.array([1.0, 5.0], dtype=np.float32), np.array([[1.5], [2.0]], dtype=np.float32)
    assert float(make_loss("mse")(labels, scores)) == pytest.approx((0.25 + 9) / 2)
    assert float(make_loss("huber")(labels, scores)) == pytest.approx((0.125 + 2.5) / 2)
