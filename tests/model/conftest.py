"""Small checkpoints on disk: a random DistilBERT, and the same network as a BERT and as an ONNX graph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from distilspark.heads import REGRESSION
from distilspark.package.graph import Graph, build_graph

TO_BERT = (
    ("distilbert.", ""),
    ("transformer.layer", "encoder.layer"),
    ("attention.q_lin", "attention.self.query"),
    ("attention.k_lin", "attention.self.key"),
    ("attention.v_lin", "attention.self.value"),
    ("attention.out_lin", "attention.output.dense"),
    ("sa_layer_norm", "attention.output.LayerNorm"),
    ("ffn.lin1", "intermediate.dense"),
    ("ffn.lin2", "output.dense"),
    ("output_layer_norm", "output.LayerNorm"),
)
BERT_CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}


@pytest.fixture(scope="session")
def bert_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT with token types and a pooler. Read only."""
    folder = tmp_path_factory.mktemp("bert")
    arrays = {bert_name(name): array for name, array in load_file(tiny_folder / "model.safetensors").items()}
    rng = np.random.default_rng(4)
    for name, shape in (("embeddings.token_type_embeddings.weight", (2, 32)), ("pooler.dense.weight", (32, 32))):
        arrays[name] = rng.normal(size=shape).astype(np.float32)
    arrays["pooler.dense.bias"] = np.zeros(32, dtype=np.float32)
    save_file(arrays, folder / "model.safetensors")
    vocab_size = json.loads((tiny_folder / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps({**BERT_CONFIG, "vocab_size": vocab_size}))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tiny_folder / name, folder)
    return folder


def bert_name(name: str) -> str:
    """Return the BERT name of a DistilBERT tensor."""
    for distilbert, bert in TO_BERT:
        name = name.replace(distilbert, bert)
    return name


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a checkpoint, for tests that damage it."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / f"copy-of-{folder.name}"))


class QuantizedGraph(Graph):
    """A graph with int8 matrices, one scale each, under the names that PyTorch's exporter uses."""

    def constant(self, value: Any, name: str | None = None) -> str:
        """Like `Graph.constant`, but with a DequantizeLinear for each matrix."""
        if np.ndim(value) != 2:
            return super().constant(value, name)
        kept = name if name and "embeddings" in name else f"onnx::MatMul_{len(self.nodes)}"
        scale, zero = np.float32(np.abs(value).max() / 120), np.int8(5)
        numbers = (np.rint(value / scale) + zero).astype(np.int8)
        parts = {"quantized": numbers, "scale": scale, "zero_point": zero}
        stored = [super(QuantizedGraph, self).constant(part, f"{kept}_{ending}") for ending, part in parts.items()]
        return self.node("DequantizeLinear", *stored, output=f"{kept}_DequantizeLinear_Output")


@pytest.fixture(scope="session")
def onnx_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random DistilBERT with a head of three outputs as a quantised ONNX graph, and its tokenizer. Read only."""
    folder = tmp_path_factory.mktemp("onnx")
    arrays = load_file(tiny_folder / "model.safetensors")
    rng = np.random.default_rng(5)
    for name, shape in (("pre_classifier", (32, 32)), ("classifier", (3, 32))):
        arrays |= {f"{name}.weight": rng.normal(size=shape).astype(np.float32)}
        arrays |= {f"{name}.bias": rng.normal(size=shape[:1]).astype(np.float32)}
    graph = build_graph(arrays, REGRESSION, heads=2, pooling="mean", graph=QuantizedGraph())
    onnx.save(graph, folder / "tagger.onnx")
    shutil.copy(tiny_folder / "tokenizer.json", folder)
    return folder
