"""DistilBERT (Sanh et al. 2019) with a head: one graph for classification and regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray
from safetensors import safe_open

from distilspark.errors import UserError
from distilspark.model.conversion import HEAD, WEIGHTS, read_config

Layout = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _first_token(hidden: Any, padding_mask: Any) -> Any:
    return hidden[:, 0, :]


def _masked_mean(hidden: Any, padding_mask: Any) -> Any:
    weights = ops.expand_dims(ops.cast(padding_mask, hidden.dtype), -1)
    return ops.sum(hidden * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)


def _masked_max(hidden: Any, padding_mask: Any) -> Any:
    visible = ops.expand_dims(ops.cast(padding_mask, "bool"), -1)
    return ops.max(ops.where(visible, hidden, LOWEST), axis=1)


LOWEST = -1e9  # the value of padding in max pooling
# Hidden states (B, L, dim), padding mask (B, L) -> (B, dim).
POOLINGS = {"cls": _first_token, "mean": _masked_mean, "max": _masked_max}


def gelu(x: Any) -> Any:
    """Return x · Φ(x), the exact GELU (Hendrycks and Gimpel 2016), by float32's erf.

    Keras computes it by `erfc`, which takes TensorFlow several times as long, and longer still in bfloat16.
    """
    wide = ops.cast(x, "float32")
    return ops.cast(0.5 * wide * (1.0 + ops.erf(wide * np.float32(np.sqrt(0.5)))), x.dtype)


def build_network(
    folder: Path,
    head: str,
    units: int = 1,
    *,
    pooling: str = "cls",
    dropout: float = 0.1,
    reinitialize_layers: int = 0,
) -> keras.Model:
    """Build DistilBERT from `folder` with a new head, as in Hugging Face's `DistilBertForSequenceClassification`.

    Args:
        folder: a checkpoint in DistilBERT's Hugging Face layout (`checkpoints.fetch`).
        head: the network's name.
        units: neurons of the last layer (`Head.units`).
        pooling: `cls` (the first token), `mean` or `max` (of each dimension, over all tokens that are not padding).
        dropout: rate before the last layer, during training.
        reinitialize_layers: number of top transformer layers with random weights instead of the checkpoint's.

    Returns:
        a functional model of `{"token_ids": (B, L) int32, "padding_mask": (B, L) int32}`, both with any L up to the
        checkpoint's positions; outputs are logits or values, (B, units). Random weights come from Keras's global seed
        (`keras.utils.set_random_seed`); the head's are the same for every `reinitialize_layers`.

    Raises:
        UserError: `reinitialize_layers` exceeds the checkpoint's layers.

    """
    check_layers(folder, reinitialize_layers)
    backbone = keras_hub.models.DistilBertBackbone.from_preset(str(folder), name="distilbert")
    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = gelu
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="int32", name="padding_mask"),
    }
    pooled = POOLINGS[pooling](backbone(inputs), inputs["padding_mask"])
    features = _dense(backbone.hidden_dim, "pre_classifier", activation="relu")(pooled)
    features = layers.Dropout(dropout, name="head_dropout")(features)
    outputs = _dense(units, "classifier")(features)
    _reinitialize(backbone.transformer_layers[backbone.num_layers - reinitialize_layers :])
    return keras.Model(inputs, outputs, name=head)


def load_head(network: keras.Model, folder: Path) -> None:
    """Load the weights of the head in `folder`, a checkpoint from pretraining, into the network's head."""
    with safe_open(folder / WEIGHTS, "numpy") as stored:
        for name in HEAD:
            weights = stored.get_tensor(f"{name}.weight").T, stored.get_tensor(f"{name}.bias")
            network.get_layer(name).set_weights(weights)


def check_layers(folder: Path, reinitialize_layers: int, freeze: Sequence[str | int] = ()) -> None:
    """Raise `UserError` if the checkpoint in `folder` has fewer layers than are to be reinitialized or frozen.

    A reinitialized layer must not be frozen.
    """
    if reinitialize_layers > (layers_there := read_config(folder)["n_layers"]):
        raise UserError(f"model.reinitialize_layers={reinitialize_layers}: the checkpoint has {layers_there} layers")
    for layer in freeze:
        if isinstance(layer, int) and layer >= layers_there:
            raise UserError(
                f"model.freeze={list(freeze)}: the network has no layer {layer}, only {layers_there} layers"
            )
        if isinstance(layer, int) and layer >= layers_there - reinitialize_layers:
            raise UserError(
                f"model.freeze={list(freeze)}: layer {layer} starts from random weights "
                f"(model.reinitialize_layers={reinitialize_layers}), which have to be trained"
            )


def freeze_layers(network: keras.Model, freeze: Sequence[str | int]) -> None:
    """Freeze the `embeddings` and layers in `freeze`; layers count from 0 at the bottom."""
    backbone = network.get_layer("distilbert")
    embeddings = [backbone.embeddings, backbone.embeddings_layer_norm]
    for name in freeze:
        for part in [backbone.transformer_layers[name]] if isinstance(name, int) else embeddings:
            part.trainable = False


def _reinitialize(transformer_layers: Sequence[Any]) -> None:
    """Initialize weights as BERT's before its pretraining (Zhang et al. 2021, arXiv 2006.05987).

    Matrices are normal with standard deviation .02, truncated at two deviations. Biases are 0, norms' scales 1.
    """
    for layer in transformer_layers:
        for name, variable, _ in _transformer_layer("layer", layer):
            variable.assign(_initializer(name)(variable.shape))


def _initializer(name: str) -> keras.initializers.Initializer:
    if name.endswith("bias"):
        return keras.initializers.Zeros()
    return keras.initializers.Ones() if "norm" in name else keras.initializers.TruncatedNormal(stddev=0.02)


def _dense(units: int, name: str, activation: str | None = None) -> layers.Dense:
    initializer = keras.initializers.RandomNormal(stddev=0.02)
    return layers.Dense(units, activation=activation, kernel_initializer=initializer, name=name)


def export_arrays(network: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return all weights by their Hugging Face names; matrices are (out, in) as there.

    `distilbert.*` are the backbone's, `pre_classifier.*` and `classifier.*` the head's.
    """
    return {
        name: np.ascontiguousarray(to_layout(variable.numpy()), dtype=np.float32)
        for name, variable, to_layout in _named_variables(network)
    }


def layer_depths(network: keras.Model) -> list[int]:
    """Return each trainable variable's distance from the head, in layers: 0 in the head, highest in the embeddings."""
    layers = len(network.get_layer("distilbert").transformer_layers)
    depths = {id(variable): _depth(name, layers) for name, variable, _ in _named_variables(network)}
    return [depths[id(variable)] for variable in network.trainable_variables]


def _depth(name: str, layers: int) -> int:
    """Return the distance from the head of a variable with that Hugging Face name.

    >>> [_depth(f"distilbert.{name}", 6) for name in ("transformer.layer.5.ffn.lin1.bias", "embeddings.LayerNorm.bias")]
    [1, 7]
    """
    if not name.startswith("distilbert."):
        return 0
    _, part, *rest = name.split(".")
    return layers + 1 if part == "embeddings" else layers - int(rest[1])


def _named_variables(network: keras.Model) -> Iterator[tuple[str, keras.Variable, Layout]]:
    backbone = network.get_layer("distilbert")
    embeddings = backbone.embeddings
    yield "distilbert.embeddings.word_embeddings.weight", embeddings.token_embedding.embeddings, _as_is
    positions = embeddings.position_embedding.position_embeddings
    yield "distilbert.embeddings.position_embeddings.weight", positions, _as_is
    yield from _norm("distilbert.embeddings.LayerNorm", backbone.embeddings_layer_norm)
    for index, layer in enumerate(backbone.transformer_layers):
        yield from _transformer_layer(f"distilbert.transformer.layer.{index}", layer)
    for name in HEAD:
        yield from _linear(name, network.get_layer(name))


def _transformer_layer(prefix: str, layer: Any) -> Iterator[tuple[str, keras.Variable, Layout]]:
    attention = layer._self_attention_layer
    yield from _linear(f"{prefix}.attention.q_lin", attention.query_dense, inputs=1)
    yield from _linear(f"{prefix}.attention.k_lin", attention.key_dense, inputs=1)
    yield from _linear(f"{prefix}.attention.v_lin", attention.value_dense, inputs=1)
    yield from _linear(f"{prefix}.attention.out_lin", attention.output_dense, inputs=2)
    yield from _norm(f"{prefix}.sa_layer_norm", layer._self_attention_layer_norm)
    yield from _linear(f"{prefix}.ffn.lin1", layer._feedforward_intermediate_dense)
    yield from _linear(f"{prefix}.ffn.lin2", layer._feedforward_output_dense)
    yield from _norm(f"{prefix}.output_layer_norm", layer._feedforward_layer_norm)


def _linear(name: str, layer: Any, inputs: int = 1) -> Iterator[tuple[str, keras.Variable, Layout]]:
    """Yield a dense layer's weights; the kernel's first `inputs` axes are inputs, the others (heads, width) outputs."""
    fan_in = int(np.prod(layer.kernel.shape[:inputs]))
    yield f"{name}.weight", layer.kernel, lambda kernel: kernel.reshape(fan_in, -1).T
    yield f"{name}.bias", layer.bias, np.ravel


def _norm(name: str, layer: Any) -> Iterator[tuple[str, keras.Variable, Layout]]:
    yield f"{name}.weight", layer.gamma, _as_is
    yield f"{name}.bias", layer.beta, _as_is


def _as_is(array: NDArray[np.float32]) -> NDArray[np.float32]:
    return array
