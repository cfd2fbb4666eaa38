"""Checkpoints in DistilBERT's Hugging Face layout: tensors, and conversion from BERT and ONNX graphs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from distilspark.errors import UserError
from distilspark.features.encoding import load_tokenizer

Arrays = dict[str, NDArray[Any]]
Config = dict[str, Any]
Patterns = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

WEIGHTS = "model.safetensors"
HEAD = ("pre_classifier", "classifier")  # the layers of a head, by their Hugging Face names
FILES = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.txt")
KEYS = {  # DistilBERT's config keys, and their names in each architecture
    "distilbert": {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings",
        "dim": "dim",
        "n_layers": "n_layers",
        "n_heads": "n_heads",
        "hidden_dim": "hidden_dim",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
    },
    "bert": {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings",
        "dim": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "hidden_dim": "intermediate_size",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
    },
}
SUPPORTED: dict[str, Config] = {  # fixed in DistilBERT's graph in KerasHub; a config may not differ
    "distilbert": {"activation": "gelu"},
    "bert": {"hidden_act": "gelu", "position_embedding_type": "absolute", "layer_norm_eps": 1e-12},
}
DEFAULTS = {  # those of transformers, for configs that leave them out
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
SPELLINGS: Patterns = (
    (r"^(distil)?bert\.", ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)
# BERT's tensor names to DistilBERT's; a layer's `output` comes after its attention's, whose name contains it.
FROM_BERT: Patterns = (
    (r"^encoder\.layer", "transformer.layer"),
    (r"attention\.self\.(query|key|value)", lambda match: f"attention.{match[1][0]}_lin"),
    (r"attention\.output\.dense", "attention.out_lin"),
    (r"attention\.output\.LayerNorm", "sa_layer_norm"),
    (r"intermediate\.dense", "ffn.lin1"),
    (r"output\.dense", "ffn.lin2"),
    (r"\d\.output\.LayerNorm", lambda match: f"{match[0][0]}.output_layer_norm"),
)


@dataclass(frozen=True)
class CheckpointFormat:
    """A published form of checkpoints: the files besides the weights, and the reader."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Path], tuple[Config, Arrays]]  # the weights' file -> DistilBERT's config and tensors


def format_of(weights: str) -> CheckpointFormat:
    """Return the layout of a checkpoint whose weights are in a file of that name."""
    return FORMATS[Path(weights).suffix]


def convert(source: Path, target: Path, weights: str = WEIGHTS) -> None:
    """Write the checkpoint in `source` to the folder `target` in DistilBERT's layout, float32.

    Hugging Face's layout: BERT or DistilBERT; heads, poolers and prefixes of tensor names (`bert.`, `distilbert.`,
    none) are ignored; a missing `tokenizer.json` or `vocab.txt` is made from the other. ONNX: the graph of a
    DistilBERT, quantised or not, and a `tokenizer.json`. The same files give the same bytes.

    Args:
        source: the folder.
        target: an empty folder.
        weights: the file of `source` that holds the weights.

    Raises:
        UserError: a file is missing or unreadable, the architecture is unsupported, or a tensor is missing or has a
            wrong shape.

    """
    config, arrays = format_of(weights).read(source / weights)
    write_checkpoint(target, config, arrays, str(source / weights))
    _write_tokenizer(source, target, config["vocab_size"])


def read_config(folder: Path) -> Config:
    """Read the folder's `config.json`.

    Raises:
        UserError: missing, unreadable, or neither BERT nor DistilBERT.

    """
    file = folder / "config.json"
    try:
        config: Config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}); a checkpoint is a folder with {', '.join(FILES)}") from error
    if config.get("model_type") not in KEYS:
        raise UserError(f"{file}: model_type is {config.get('model_type')}; choose a BERT or DistilBERT checkpoint")
    return config


def distilbert_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a DistilBERT, by its Hugging Face name; matrices are (out, in)."""
    dim, hidden = config["dim"], config["hidden_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "distilbert.embeddings.word_embeddings.weight": (config["vocab_size"], dim),
        "distilbert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], dim),
        **_with_bias("distilbert.embeddings.LayerNorm", dim),
    }
    for index in range(config["n_layers"]):
        layer = f"distilbert.transformer.layer.{index}"
        for projection in ("q_lin", "k_lin", "v_lin", "out_lin"):
            shapes |= _with_bias(f"{layer}.attention.{projection}", dim, dim)
        shapes |= _with_bias(f"{layer}.sa_layer_norm", dim)
        shapes |= _with_bias(f"{layer}.ffn.lin1", hidden, dim) | _with_bias(f"{layer}.ffn.lin2", dim, hidden)
        shapes |= _with_bias(f"{layer}.output_layer_norm", dim)
    return shapes


def _with_bias(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def write_checkpoint(
    target: Path, config: Config, arrays: Mapping[str, NDArray[Any]], origin: str, with_head: bool = False
) -> None:
    """Write `config.json` and `model.safetensors` with exactly DistilBERT's tensors; errors name `origin`.

    `with_head`: also write the head's tensors.

    Raises:
        UserError: a tensor is missing, or its shape does not fit the config.
        OSError: it cannot be written.

    """
    shapes = distilbert_shapes(config)
    for name, shape in shapes.items():
        if name not in arrays:
            raise UserError(f"{origin}: no tensor for {name}; the file does not fit its config.json")
        if arrays[name].shape != shape:
            raise UserError(f"{origin}: {name} has the shape {arrays[name].shape}, by config.json {shape}")
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    names = [*shapes, *(name for name in arrays if with_head and name.startswith(HEAD))]
    kept = {name: np.ascontiguousarray(arrays[name], dtype=np.float32) for name in names}
    try:
        save_file(kept, target / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:  # raised for a full disk, for example
        raise OSError(f"model.safetensors: {error}") from error


def _read_arrays(file: Path) -> Arrays:
    try:
        return {_rename(name, SPELLINGS): array for name, array in load_file(file).items()}
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise UserError(f"{file} is missing, damaged or no safetensors file ({error}); fetch it again") from error


def distilbert_config(dimensions: Mapping[str, Any]) -> Config:
    """Return a DistilBERT config with these dimensions (the keys of `KEYS`)."""
    return {
        "model_type": "distilbert",
        "architectures": ["DistilBertModel"],
        **{key: dimensions[key] for key in KEYS["distilbert"]},
        "activation": "gelu",
        "initializer_range": 0.02,
        "pad_token_id": 0,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
    }


def _to_distilbert_config(config: Config, origin: Path) -> Config:
    architecture = config["model_type"]
    for key, supported in SUPPORTED[architecture].items():
        if config.get(key, supported) != supported:
            raise UserError(f"{origin}: {key}={config[key]} is not supported; DistilBERT's graph has {supported}")
    try:
        return distilbert_config({key: (DEFAULTS | config)[theirs] for key, theirs in KEYS[architecture].items()})
    except KeyError as error:
        raise UserError(f"{origin}: no key {error}; fetch the checkpoint again") from error


def _read_safetensors(file: Path) -> tuple[Config, Arrays]:
    config = read_config(file.parent)
    arrays = _ARRAYS[config["model_type"]](_read_arrays(file))
    return _to_distilbert_config(config, file.parent / "config.json"), arrays


def _read_onnx(file: Path) -> tuple[Config, Arrays]:
    """Read a graph, whose config follows from its tensors' shapes, a reshape (heads) and defaults (dropout)."""
    from distilspark.model.onnx_weights import OnnxGraph  # onnx takes a while to import

    graph = OnnxGraph(file)
    try:
        arrays = graph.weights()
        words = arrays["distilbert.embeddings.word_embeddings.weight"]
        positions = arrays["distilbert.embeddings.position_embeddings.weight"]
        first = "distilbert.transformer.layer.0"
        dimensions = {
            "vocab_size": words.shape[0],
            "max_position_embeddings": positions.shape[0],
            "dim": words.shape[1],
            "n_layers": len({name.split(".")[3] for name in arrays if ".transformer.layer." in name}),
            "n_heads": words.shape[1] // graph.last_dimension(f"{first}.attention.q_lin.bias"),
            "hidden_dim": arrays[f"{first}.ffn.lin1.bias"].shape[0],
        }
    except KeyError as error:
        raise UserError(f"{file}: no tensor {error}; choose the graph of a DistilBERT") from error
    return distilbert_config(DEFAULTS | dimensions), arrays


def keep_layers(source: Path, target: Path, layers: Sequence[int]) -> None:
    """Write the checkpoint in `source`, in DistilBERT's layout, to `target` with these layers only, renumbered.

    Raises:
        UserError: `source` cannot be read.

    """
    arrays, prefix = load_file(source / WEIGHTS), "distilbert.transformer.layer"
    kept = {name: array for name, array in arrays.items() if not name.startswith(prefix)}
    for new, old in enumerate(layers):
        here = f"{prefix}.{old}."
        kept |= {name.replace(here, f"{prefix}.{new}."): array for name, array in arrays.items() if here in name}
    write_checkpoint(target, read_config(source) | {"n_layers": len(layers)}, kept, str(source))
    copy_tokenizer(source, target)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files of a checkpoint."""
    for name in FILES:
        if name not in ("config.json", WEIGHTS) and (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _distilbert_arrays(arrays: Arrays) -> Arrays:
    return {f"distilbert.{name}": array for name, array in arrays.items()}


def _bert_arrays(arrays: Arrays) -> Arrays:
    """Convert BERT's tensors to DistilBERT's.

    DistilBERT has no token types: with one segment, BERT adds the same `token_type_embeddings[0]` to every token, which
    is added to the position embeddings here. The pooler comes after the last layer and is dropped.
    """
    renamed = _distilbert_arrays({_rename(name, FROM_BERT): array for name, array in arrays.items()})
    positions = "distilbert.embeddings.position_embeddings.weight"
    segments = "distilbert.embeddings.token_type_embeddings.weight"
    if positions in renamed and segments in renamed:
        renamed[positions] = renamed[positions].astype(np.float32) + renamed[segments][0].astype(np.float32)
    return renamed


def _rename(name: str, patterns: Patterns) -> str:
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def _write_tokenizer(source: Path, target: Path, vocab_size: int) -> None:
    tokenizer = load_tokenizer(source)
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if (highest := tokens[-1][1]) >= vocab_size:
        raise UserError(f"{source}: the tokenizer has the id {highest}, but vocab_size is {vocab_size} in config.json")
    (target / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (target / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens), encoding="utf-8")
    settings = source / "tokenizer_config.json"
    if settings.is_file():
        shutil.copyfile(settings, target / settings.name)
    else:
        (target / settings.name).write_text(json.dumps(_tokenizer_settings(tokenizer), indent=2) + "\n")


def _tokenizer_settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the settings that transformers reads besides the vocabulary; its default is lower case."""
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    known = {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    }
    settings = {key: normalizer[theirs] for key, theirs in known.items() if theirs in normalizer}
    return {"tokenizer_class": "DistilBertTokenizer", **settings}


_ARRAYS = {"distilbert": _distilbert_arrays, "bert": _bert_arrays}
FORMATS = {
    ".safetensors": CheckpointFormat(
        ("config.json",), ("tokenizer.json", "tokenizer_config.json", "vocab.txt"), _read_safetensors
    ),
    ".onnx": CheckpointFormat(("tokenizer.json",), (), _read_onnx),
}
