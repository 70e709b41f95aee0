"""What a layer is in an ONNX graph: a node that multiplies by a constant matrix, or looks rows of one up.

=======  ======================  ===================================================
node     its constant            the matrix
=======  ======================  ===================================================
MatMul   [in, out]               its transpose
Gemm     [in, out], or turned    its transpose, or itself
Conv     [out, in, *kernel]      [out, in·kh·kw] (channel) or [out·kw, in·kh] (spatial)
Gather   [rows, dim]             its transpose
=======  ======================  ===================================================
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgelr.lowrank.conv_cost import Form
from edgelr.lowrank.svd import Matrix
from edgelr.lowrank.weight import Weight
from edgelr.runtime.layer_names import SCOPES, name_of_node
from edgelr.runtime.subgraphs import read_inside, subgraphs
from edgelr.structure import LeftDense

Kind = Literal["linear", "transposed-linear", "conv", "embedding"]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_PLACES = {"MatMul": 1, "Gemm": 1, "Conv": 1, "Gather": 0}


@dataclass(frozen=True, kw_only=True)
class GraphLayer:
    """One node with a constant matrix.

    Attributes:
        name: As a person knows it; the node has it too.
        kind: ``transposed-linear`` stores ``[in, out]``.
        constant: Name of the initializer.
        input: The value that is multiplied; of a table, the rows' numbers.
        output: What the node gives.
        bias: Name of the constant or value that it adds; "" for none.
        stride: Of a convolution.
    """

    name: str
    kind: Kind
    constant: str
    input: str
    output: str
    bias: str = ""
    stride: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphLayers:
    """The layers of a graph, and the matrices that are left as they are.

    Attributes:
        layers: By constant, in the order of the nodes: those of one constant can be factored alike.
        skipped: All others.
    """

    layers: dict[str, tuple[GraphLayer, ...]]
    skipped: tuple[LeftDense, ...]


def find_layers(proto: onnx.ModelProto) -> GraphLayers:
    """List the layers of a graph, and name their nodes as a person knows them, in place.

    Args:
        proto: As ``graph_file.read_graph`` gives it.
    """
    graph = proto.graph
    matrices = {tensor.name: tensor for tensor in graph.initializer if _is_matrix(tensor)}
    inside, outputs = read_inside(graph), {value.name for value in graph.output}
    _name_nodes(graph, matrices)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name in matrices:
                readers[name].append(node)
    layers, skipped = {}, []
    for constant, nodes in readers.items():
        reasons = {node.name: _reason_against(node, matrices) for node in nodes}
        if not any(reasons.values()):
            found = [_layer(node, node.name) for node in nodes]
            reason = _reason_together(found)
            if constant in inside | outputs:
                reason = "a branch, a loop or an output of the graph has it too"
            if reason is None:
                layers[constant] = tuple(found)
                continue
            reasons = dict.fromkeys(reasons, reason)
        for name, why in reasons.items():
            skipped.append(LeftDense(name=name, reason=why or "shares its weight with one that is left"))
    return GraphLayers(layers=layers, skipped=(*skipped, *_left_inside(graph, matrices)))


def weight_of(layer: GraphLayer, tensor: onnx.TensorProto) -> Weight:
    """The weight of a layer."""
    array = numpy_helper.to_array(tensor)
    match layer.kind:
        case "linear":
            return Weight(kind="linear", values=array)
        case "transposed-linear":
            return Weight(kind="linear", values=array.T)
        case "conv" | "embedding":
            return Weight(kind=layer.kind, values=array)
        case _:
            assert_never(layer.kind)


def stored(layer: GraphLayer, matrix: Matrix, like: onnx.TensorProto, form: Form = "channel") -> NDArray[Any]:
    """The matrix that ``Weight.matrix`` gives, as the layer's node reads it.

    Args:
        layer: Whose.
        matrix: ``[out, in]``, or of a convolution's form.
        like: The constant that it takes the place of.
        form: Of convolutions.
    """
    shape = tuple(like.dims)
    turned = matrix if layer.kind in ("linear", "conv") else matrix.T
    if form == "spatial":
        out, in_, height, width = shape
        turned = matrix.reshape(out, width, in_, height).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(turned.reshape(shape), dtype_of(like))


def dtype_of(tensor: onnx.TensorProto) -> np.dtype[Any]:
    """NumPy's type of a constant."""
    dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401 - of any kind
    """The value of a node's attribute, or its default."""
    found = next((each for each in node.attribute if each.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    """Whether a constant has numbers along at least two axes."""
    floats = (*_FLOATS, onnx.TensorProto.BFLOAT16)
    return tensor.data_type in floats and sum(size > 1 for size in tensor.dims) > 1


def _name_nodes(graph: onnx.GraphProto, matrices: dict[str, onnx.TensorProto]) -> None:
    """Give every node a name of its own; those that read a matrix, the best there is."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        constant = next((name for name in node.input if name in matrices), None)
        name = node.name or f"node_{number}"
        if constant is not None:
            scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
            name = name_of_node(node.name.removesuffix("_MatMul"), scopes, constant)
        count = 1
        while (own := name if count == 1 else f"{name}:{count}") in taken:
            count += 1
        taken.add(own)
        node.name = own


def _reason_against(node: onnx.NodeProto, matrices: dict[str, onnx.TensorProto]) -> str | None:
    """Why a node with a constant matrix is no layer; None when it is one."""
    place = _PLACES.get(node.op_type)
    if place is None or node.domain not in ("", "ai.onnx"):
        return f"{node.op_type} is no product with a matrix"
    if node.input[place] not in matrices:
        return f"{node.op_type} has its constant on the left"
    tensor = matrices[node.input[place]]
    if node.input[1 - place] in matrices:
        return f"both sides of its {node.op_type} are constant"
    if tensor.data_type not in _FLOATS:
        return "its numbers are bfloat16"
    return _reason_against_shape(node, len(tensor.dims))


def _reason_against_shape(node: onnx.NodeProto, axes: int) -> str | None:
    match node.op_type:
        case "Conv":
            return _reason_against_conv(node, axes - 2)
        case "Gather":
            whole = axes == 2 and attribute(node, "axis", 0) == 0
            return None if whole else "it looks up no rows of a matrix"
        case "Gemm" if attribute(node, "transA", 0):
            return "its Gemm turns what it reads"
        case _:
            return None if axes == 2 else f"a stack of matrices, {axes} axes"


def _reason_against_conv(node: onnx.NodeProto, axes: int) -> str | None:
    if axes not in (1, 2):
        return f"a convolution along {axes} axes"
    groups = attribute(node, "group", 1)
    return None if groups == 1 else f"its {groups} groups of channels are not one matrix"


def _layer(node: onnx.NodeProto, name: str) -> GraphLayer:
    place = _PLACES[node.op_type]
    kind: Kind = "transposed-linear"
    if node.op_type == "Gather":
        kind = "embedding"
    elif node.op_type == "Conv":
        kind = "conv"
    elif attribute(node, "transB", 0):
        kind = "linear"
    return GraphLayer(
        name=name,
        kind=kind,
        constant=node.input[place],
        input=node.input[1 - place],
        output=node.output[0],
        bias=node.input[2] if len(node.input) > 2 else "",
        stride=tuple(attribute(node, "strides", ())),
    )


def _reason_together(layers: Sequence[GraphLayer]) -> str | None:
    """Why layers with one constant cannot be factored alike; None when they can."""
    alike = len({layer.kind for layer in layers}) == 1 and (layers[0].kind != "conv" or len(layers) == 1)
    return None if alike else "layers of several kinds share its weight"


def _left_inside(graph: onnx.GraphProto, matrices: dict[str, onnx.TensorProto]) -> Iterator[LeftDense]:
    """Matrices of branches and loops."""
    for node, inner in subgraphs(graph):
        where = f"inside {node.op_type} '{node.name}': branches and loops stay as they are"
        held = [tensor.name for tensor in inner.initializer if _is_matrix(tensor)]
        for each in inner.node:
            value = next((entry.t for entry in each.attribute if entry.name == "value"), None)
            if each.op_type == "Constant" and value is not None and _is_matrix(value):
                held.append(each.output[0])
        held += [name for name in matrices if any(name in each.input for each in inner.node)]
        for name in dict.fromkeys(held):
            yield LeftDense(name=name, reason=where)


def parameters(proto: onnx.ModelProto) -> int:
    """Numbers that a graph stores: all of floating type, in branches and loops too."""
    floats = (*_FLOATS, onnx.TensorProto.BFLOAT16)
    graphs = [proto.graph, *(inner for _, inner in subgraphs(proto.graph))]
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    constants = [node for graph in graphs for node in graph.node if node.op_type == "Constant"]
    tensors += [each.t for node in constants for each in node.attribute if each.name == "value"]
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floats)
