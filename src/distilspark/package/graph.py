"""DistilBERT with its head as an ONNX graph, built from the network's weights.

Keras's own ONNX export goes through tf2onnx, which has no counterpart for TensorFlow's exact GELU. The graph is that of
Sanh et al. (2019) in standard operators of opset 20; ONNX Runtime fuses them when it loads the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from distilspark.heads import Head

OPSET = 20
LAYER_NORM_EPSILON = 1e-12
MASKED = np.float32(-1e9)  # added to the attention scores of padding; the value of padding in max pooling

Arrays = Mapping[str, NDArray[np.float32]]


class Graph:
    """A builder of nodes and initializers; every method returns the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def dense(self, inputs: str, arrays: Arrays, name: str) -> str:
        """Add the layer with the weights `name.weight` (out, in) and `name.bias` (out,)."""
        product = self.node("MatMul", inputs, self.constant(arrays[f"{name}.weight"].T, f"{name}.weight"))
        return self.node("Add", product, self.constant(arrays[f"{name}.bias"], f"{name}.bias"))

    def layer_norm(self, inputs: str, arrays: Arrays, name: str) -> str:
        scale, bias = (self.constant(arrays[f"{name}.{part}"], f"{name}.{part}") for part in ("weight", "bias"))
        return self.node("LayerNormalization", inputs, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)


def build_graph(arrays: Arrays, head: Head, *, heads: int, pooling: str, graph: Graph | None = None) -> onnx.ModelProto:
    """Build the graph of a fine-tuned network.

    Args:
        arrays: weights under Hugging Face's names, (out, in) (`distilspark.model.network.export_arrays`).
        head: the network's.
        heads: attention heads a layer.
        pooling: `cls`, `mean` or `max`.
        graph: an empty one; its class determines how a layer is computed.

    Returns:
        inputs `token_ids` and `padding_mask`, (B, L) int64; output `outputs`, (B, units): after `head.onnx_activation`.

    """
    graph = graph or Graph()
    hidden = _embeddings(graph, arrays)
    visible = graph.node("Cast", "padding_mask", to=TensorProto.FLOAT)
    bias = _attention_bias(graph, visible)
    for layer in range(_layers(arrays)):
        hidden = _transformer_layer(graph, arrays, f"distilbert.transformer.layer.{layer}", hidden, bias, heads)
    pooled = POOLINGS[pooling](graph, hidden, visible)
    features = graph.node("Relu", graph.dense(pooled, arrays, "pre_classifier"))
    operator, attributes = head.onnx_activation
    graph.node(operator, graph.dense(features, arrays, "classifier"), output="outputs", **attributes)
    return _model(graph, head.name, arrays["classifier.bias"].shape[0])


def _embeddings(graph: Graph, arrays: Arrays) -> str:
    name = "distilbert.embeddings"
    words = graph.constant(arrays[f"{name}.word_embeddings.weight"], f"{name}.word_embeddings.weight")
    positions = graph.constant(arrays[f"{name}.position_embeddings.weight"], f"{name}.position_embeddings.weight")
    length = graph.node("Shape", "token_ids", start=1, end=2)
    seen = graph.node("Slice", positions, graph.constant(np.array([0])), length, graph.constant(np.array([0])))
    return graph.layer_norm(
        graph.node("Add", graph.node("Gather", words, "token_ids"), seen), arrays, f"{name}.LayerNorm"
    )


def _attention_bias(graph: Graph, visible: str) -> str:
    """Return (B, 1, 1, L): 0 for tokens, a large negative number for padding."""
    hidden = graph.node("Sub", graph.constant(np.float32(1)), visible)
    bias = graph.node("Mul", hidden, graph.constant(MASKED))
    return graph.node("Unsqueeze", bias, graph.constant(np.array([1, 2])))


def _transformer_layer(graph: Graph, arrays: Arrays, name: str, hidden: str, bias: str, heads: int) -> str:
    attended = graph.dense(
        _attention(graph, arrays, f"{name}.attention", hidden, bias, heads), arrays, f"{name}.attention.out_lin"
    )
    hidden = graph.layer_norm(graph.node("Add", attended, hidden), arrays, f"{name}.sa_layer_norm")
    wide = graph.node("Gelu", graph.dense(hidden, arrays, f"{name}.ffn.lin1"), approximate="none")
    narrow = graph.dense(wide, arrays, f"{name}.ffn.lin2")
    return graph.layer_norm(graph.node("Add", narrow, hidden), arrays, f"{name}.output_layer_norm")


def _attention(graph: Graph, arrays: Arrays, name: str, hidden: str, bias: str, heads: int) -> str:
    """Add multi-head attention (Vaswani et al. 2017), without its output layer: (B, L, dim)."""
    dim = arrays[f"{name}.q_lin.bias"].shape[0]
    split = graph.constant(np.array([0, 0, heads, dim // heads]))

    def projected(part: str, order: list[int]) -> str:
        return graph.node(
            "Transpose", graph.node("Reshape", graph.dense(hidden, arrays, f"{name}.{part}"), split), perm=order
        )

    scale = graph.constant(np.float32((dim // heads) ** -0.5))
    query = graph.node("Mul", projected("q_lin", [0, 2, 1, 3]), scale)
    scores = graph.node("MatMul", query, projected("k_lin", [0, 2, 3, 1]))
    weights = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
    context = graph.node(
        "Transpose", graph.node("MatMul", weights, projected("v_lin", [0, 2, 1, 3])), perm=[0, 2, 1, 3]
    )
    return graph.node("Reshape", context, graph.constant(np.array([0, 0, dim])))


def _first_token(graph: Graph, hidden: str, visible: str) -> str:
    return graph.node("Gather", hidden, graph.constant(np.int64(0)), axis=1)


def _masked_mean(graph: Graph, hidden: str, visible: str) -> str:
    axis = graph.constant(np.array([1]))
    weights = graph.node("Unsqueeze", visible, graph.constant(np.array([2])))
    total = graph.node("ReduceSum", graph.node("Mul", hidden, weights), axis, keepdims=0)
    return graph.node("Div", total, graph.node("ReduceSum", visible, axis, keepdims=1))


def _masked_max(graph: Graph, hidden: str, visible: str) -> str:
    tokens = graph.node("Unsqueeze", graph.node("Cast", visible, to=TensorProto.BOOL), graph.constant(np.array([2])))
    values = graph.node("Where", tokens, hidden, graph.constant(MASKED))
    return graph.node("ReduceMax", values, graph.constant(np.array([1])), keepdims=0)


POOLINGS = {"cls": _first_token, "mean": _masked_mean, "max": _masked_max}


def _layers(arrays: Arrays) -> int:
    return len({name.split(".")[3] for name in arrays if name.startswith("distilbert.transformer.layer.")})


def _model(graph: Graph, name: str, units: int) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(part, TensorProto.INT64, ["batch", "length"])
        for part in ("token_ids", "padding_mask")
    ]
    outputs = [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", units])]
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, graph.initializers)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model
