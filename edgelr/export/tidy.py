"""Clean an exported graph: the package's names, nothing of the exporter's own, the same bytes each time."""

from __future__ import annotations

from typing import Any

import onnx

from edgelr.errors import ExportError
from edgelr.export.convert import OUTPUT_PREFIX
from edgelr.export.names import name_layers
from edgelr.export.tables import flatten_biases, turn_heads
from edgelr.tasks.task import GraphSpec


def tidy(model: Any, spec: GraphSpec, expected_matrices: int) -> onnx.ModelProto:  # noqa: ANN401 - onnx_ir.Model
    """Name, strip and check a graph.

    Args:
        model: An ``onnx_ir.Model`` as traced, fused or not.
        spec: Names of outputs and axes.
        expected_matrices: Constant matrices that the module multiplies by.

    Raises:
        ExportError: The graph multiplies by another number of constant matrices: a factored layer was lost
            or merged back.
    """
    import onnx_ir
    import onnx_ir.passes.common as passes

    passes.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=1)(model)
    name_layers(model)  # by the metadata that goes next
    passes.ClearMetadataAndDocStringPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    proto = onnx_ir.to_proto(model)
    turn_heads(proto)
    flatten_biases(proto)
    _check_matrices(proto, expected_matrices, spec)
    _name_outputs(proto, spec)
    proto.producer_name, proto.producer_version = "edgelr", ""
    for entry in (proto.graph.value_info, proto.metadata_props):
        del entry[:]
    return proto


def constant_matrices(proto: onnx.ModelProto) -> int:
    """By how many constant matrices MatMul, Gemm and Conv nodes multiply; one that several read is one."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {node.output[0] for node in proto.graph.node if node.op_type == "Constant"}
    read = {
        name
        for node in proto.graph.node
        if node.op_type in {"MatMul", "Gemm", "Conv"}
        for name in node.input[:2]
    }
    return len(read & constants)


def _check_matrices(proto: onnx.ModelProto, expected: int, spec: GraphSpec) -> None:
    found = constant_matrices(proto)
    if found < expected or (spec.exact and found != expected):
        raise ExportError(
            f"{spec.role}: the graph multiplies by {found} constant matrices, the model by {expected}",
            "a factored layer was merged back or lost on the way to ONNX; please report the model",
        )


def _name_outputs(proto: onnx.ModelProto, spec: GraphSpec) -> None:
    rename = {f"{OUTPUT_PREFIX}{number}": name for number, name in enumerate(spec.outputs)}
    for name in spec.outputs:  # a value inside the graph may be called so already
        rename.setdefault(name, f"{OUTPUT_PREFIX}inner_{name}")
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = rename.get(name, name)
    for named in (*proto.graph.initializer, *proto.graph.output):
        named.name = rename.get(named.name, named.name)
    for value in proto.graph.output:
        axes = spec.output_axes.get(value.name, {})
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in axes:
                dim.dim_param = axes[axis]
