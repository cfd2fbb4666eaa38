"""The weights in an ONNX graph that PyTorch exported, quantised or not, by their Hugging Face names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from distilspark.errors import UserError

Arrays = dict[str, NDArray[Any]]
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


class OnnxGraph:
    """The constants of a graph, and the nodes that produce its tensors.

    The exporter keeps the names of biases, norms and embeddings. It names a matrix after its product (`onnx::MatMul_7`)
    and stores it as (in, out); it belongs to the linear layer whose bias is added to that product.

    Raises:
        UserError: the file is missing or no ONNX graph.

    """

    def __init__(self, file: Path) -> None:
        try:
            graph = onnx.load(file).graph
        except Exception as error:  # protobuf raises its own types
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise UserError(f"{file} is missing, damaged or no ONNX graph ({reason[0]}); fetch it again") from error
        self._file = file
        self._nodes = list(graph.node)
        self._producers = {output: node for node in self._nodes for output in node.output}
        self._constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        for node in self._nodes:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def weights(self) -> Arrays:
        """Return all weights in float32; matrices of linear layers are (out, in), as in Hugging Face."""
        arrays = {name: value for name, value in self._constants.items() if name.endswith((".weight", ".bias"))}
        for node in self._nodes:
            stored = node.input[0] if node.op_type == "DequantizeLinear" else ""
            if stored in self._constants and stored.endswith(".weight_quantized"):
                arrays[stored.removesuffix("_quantized")] = self._dequantized(node)
        for node in self._nodes:
            bias = next((name for name in node.input if name.endswith(".bias")), None)
            product = self._unquantized(next((name for name in node.input if name != bias), ""))
            if bias and node.op_type == "Add" and product.op_type == "MatMul":
                arrays[f"{bias.removesuffix('bias')}weight"] = self._matrix(product.input[1]).T
        return arrays

    def last_dimension(self, bias: str) -> int:
        """Return the size of the last axis to which the output of the layer with this bias is reshaped.

        Raises:
            UserError: there is no such layer, or nothing reshapes its output.

        """
        outputs = {output for node in self._nodes if bias in node.input for output in node.output}
        for node in self._nodes:
            if node.op_type == "Reshape" and node.input[0] in outputs:
                shape = node.input[1]
                if shape not in self._constants:  # concatenated from the batch's shape and constants
                    shape = self._producers[shape].input[-1]
                return int(self._constants[shape].ravel()[-1])
        raise UserError(f"{self._file}: nothing reshapes the layer of {bias}; choose the graph of a DistilBERT")

    def _unquantized(self, name: str) -> onnx.NodeProto:
        """Return the node that computes a tensor, before quantization; an empty one for inputs and constants."""
        node = self._producers.get(name, onnx.NodeProto())
        return self._unquantized(node.input[0]) if node.op_type in QUANTIZERS else node

    def _matrix(self, name: str) -> NDArray[Any]:
        return self._constants[name] if name in self._constants else self._dequantized(self._producers[name])

    def _dequantized(self, node: onnx.NodeProto) -> NDArray[np.float32]:
        """Return (number - zero point) x scale, with one scale for the whole tensor."""
        numbers, scale, zero = (self._constants[name] for name in node.input)
        if scale.size != 1:
            raise UserError(f"{self._file}: {node.input[0]} has {scale.size} scales; one a tensor is supported")
        return (numbers.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
