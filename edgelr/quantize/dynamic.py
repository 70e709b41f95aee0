"""Scheme ``int8-dynamic``: int8 weights with a scale per channel, activations quantized while running."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelr.quantize.pairs import use_pairs
from edgelr.quantize.quiet import quiet


def quantize_matrices(source: Path, target: Path, nodes: Sequence[str] | None = None) -> None:
    """Quantize every MatMul and Gemm with a constant matrix, by ONNX Runtime's own quantizer.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        nodes: Names of those to quantize, at least one; all when None.
    """
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from edgelr.lowrank.graph_file import is_large

    with quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_quantize=None if nodes is None else list(nodes),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Full-range weights saturate on x86 processors without VNNI; of a factored model nothing is left.
            # ``pairs`` then uses what fits.
            reduce_range=True,
            use_external_data_format=is_large(source),
            # Shape inference stops at fused operators; everything that is multiplied here is fp32.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )
    use_pairs(source, target)


def unquantized_matrices(proto: Any) -> list[str]:  # noqa: ANN401 - onnx is not typed
    """Names of the constant fp32 matrices that MatMul and Gemm nodes still multiply by."""
    import onnx

    floats = {
        tensor.name
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2
    }
    nodes = (node for node in proto.graph.node if node.op_type in {"MatMul", "Gemm"})
    return [name for node in nodes for name in node.input[:2] if name in floats]
