"""A random DistilBERT with two layers, for tests and for trying a pipeline."""

from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from distilspark.corpus.sample import vocabulary
from distilspark.model.conversion import distilbert_config, distilbert_shapes, write_checkpoint

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DIMENSIONS = {
    "max_position_embeddings": 512,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 64,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}
CHARACTERS = tuple(string.ascii_lowercase + string.digits + string.punctuation)


def tiny_vocabulary() -> list[str]:
    """Return special tokens, characters, continuations and the sample corpus's words; they encode all ASCII text."""
    continuations = [f"##{character}" for character in CHARACTERS]
    return list(dict.fromkeys([*SPECIALS, *CHARACTERS, *continuations, *vocabulary()]))


def tiny_identity(seed: int) -> str:
    """Return a sha256 of everything that `write_tiny` depends on."""
    return hashlib.sha256(json.dumps([seed, DIMENSIONS, tiny_vocabulary()]).encode()).hexdigest()


def write_tiny(folder: Path, seed: int) -> None:
    """Write the checkpoint, in DistilBERT's Hugging Face layout; the same seed gives the same bytes."""
    tokens = tiny_vocabulary()
    config = distilbert_config({"vocab_size": len(tokens), **DIMENSIONS})
    rng = np.random.default_rng(seed)
    arrays = {name: _random(name, shape, rng) for name, shape in distilbert_shapes(config).items()}
    write_checkpoint(folder, config, arrays, "tiny")
    _write_tokenizer(folder, tokens)


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a tensor: matrices preserve variance; norms are near one and biases near zero, but none without effect."""
    deviation = 1 / np.sqrt(shape[-1]) if len(shape) == 2 else 0.02
    mean = 1.0 if name.lower().endswith("norm.weight") else 0.0
    return rng.normal(mean, deviation, shape).astype(np.float32)


def _write_tokenizer(folder: Path, tokens: list[str]) -> None:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    settings = {"do_lower_case": True, "tokenizer_class": "DistilBertTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
