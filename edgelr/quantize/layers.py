"""The layers of a graph: products with a constant matrix, and tables that rows are looked up in.

They are what a scheme is chosen for, by names that a person knows (``runtime/layer_names.py``). A graph is
prepared once: every node gets a name of its own, which is how ONNX Runtime's quantizers are told what to
leave alone.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from edgelr.errors import QuantizeError
from edgelr.runtime.layer_names import SCOPES, name_of_node
from edgelr.runtime.subgraphs import drop_unread, read_inside, subgraphs

PRODUCTS = frozenset({"MatMul", "Gemm"})
# Fused operators with matrices of their own, that no scheme takes.
_FUSED = frozenset(
    {"Attention", "DecoderAttention", "LongformerAttention", "PackedAttention", "EmbedLayerNormalization"}
    | {"FusedMatMul", "FusedGemm", "GemmFastGelu", "GemmFloat8", "FusedConv"}
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node with a constant fp32 matrix.

    Attributes:
        name: As a person knows it; the node has it too.
        kind: A product, or a table.
        value: What the node gives.
        input: What a product multiplies; of a table, the ids.
        matrix: Name of the constant, ``[in, out]`` of a product, ``[rows, dim]`` of a table.
        numbers: Of the constant.
    """

    name: str
    kind: Literal["product", "table"]
    value: str
    input: str
    matrix: str
    numbers: int


def prepare_layers(proto: Any, file: str) -> tuple[Layer, ...]:  # noqa: ANN401 - onnx is not typed
    """Name every node of a graph, in place, and list its layers in the order of the nodes.

    Products by Gemm become MatMul and Add, which every scheme takes. What a branch or a loop reads is no
    layer: it stays as it is.

    Args:
        proto: An fp32 ``onnx.ModelProto``.
        file: What an error names.

    Raises:
        QuantizeError: Operators were fused that hold matrices of their own.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel

    ONNXModel(proto).replace_gemm_with_matmul()
    drop_unread(proto.graph)
    constants = float_constants(proto.graph)
    fused = [node for node in proto.graph.node if node.op_type in _FUSED and set(node.input) & set(constants)]
    if fused:
        kinds = ", ".join(sorted({node.op_type for node in fused}))
        raise QuantizeError(
            f"{file} is fused already: {len(fused)} nodes ({kinds}) hold matrices that no scheme takes",
            "quantize the graph as it was before ONNX Runtime or an optimizer fused it",
        )
    inside = read_inside(proto.graph)
    turned = _turned(proto.graph, constants)
    count: Counter[str] = Counter()
    layers = []
    for number, node in enumerate(proto.graph.node):
        layer = _layer(node, constants, turned)
        if layer is None or layer.matrix in inside:
            node.name = node.name or f"node_{number}"
        else:
            layers.append(layer)
            node.name = layer.name
        count[node.name] += 1
        if count[node.name] > 1:
            node.name = f"{node.name}:{count[node.name]}"
    for number, (_, inner) in enumerate(subgraphs(proto.graph)):
        for place, node in enumerate(inner.node):
            node.name = f"inside_{number}_{place}"
    named = {node.output[0]: node.name for node in proto.graph.node if node.output}
    return tuple(Layer(**{**vars(layer), "name": named[layer.value]}) for layer in layers)


def float_constants(graph: Any) -> dict[str, int]:  # noqa: ANN401 - onnx is not typed
    """Name of every fp32 matrix of a graph -> how many numbers it has."""
    from onnx import TensorProto

    return {
        tensor.name: math.prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }


def _turned(graph: Any, constants: dict[str, int]) -> dict[str, str]:  # noqa: ANN401 - onnx is not typed
    """Transposes of constants -> these: a head that is embedding too is looked up so."""
    return {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in constants
    }


def _layer(node: Any, constants: dict[str, int], turned: dict[str, str]) -> Layer | None:  # noqa: ANN401
    scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    if node.op_type == "MatMul" and node.input[1] in constants and node.input[0] not in constants:
        kind: Literal["product", "table"] = "product"
        value, matrix = node.input[0], node.input[1]
    elif node.op_type == "Gather" and _looks_up_rows(node) and node.input[0] in {*constants, *turned}:
        kind, value, matrix = "table", node.input[1], turned.get(node.input[0], node.input[0])
    else:
        return None
    return Layer(
        name=name_of_node(node.name.removesuffix("_MatMul"), scopes, matrix),
        kind=kind,
        value=node.output[0],
        input=value,
        matrix=matrix,
        numbers=constants[matrix],
    )


def _looks_up_rows(node: Any) -> bool:  # noqa: ANN401 - onnx is not typed
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0) == 0
