"""Schemes ``weight-int8`` and ``weight-int4``: blocks of weights with a scale each, activations as they come.

What decodes one token at a time is bound by the bytes of its weights, and these are the fewest. For many
tokens at once dynamic int8 is faster: measure it. The kernel multiplies blocks in int8 (accuracy level 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edgelr.quantize.quiet import quiet
from edgelr.runtime.block_size import block_of
from edgelr.runtime.subgraphs import subgraphs

_ACCURACY_LEVEL = 4  # of MatMulNBits: activations are rounded to int8, block by block


def quantize_weights(
    source: Path,
    target: Path,
    nodes: Sequence[str] | None = None,
    *,
    bits: Literal[4, 8],
    block_size: int,
) -> None:
    """Quantize every MatMul with a constant matrix, by ONNX Runtime's own quantizer.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        nodes: Names of those to quantize; all when None.
        bits: Of a weight.
        block_size: Weights of a column that share a scale and a zero point, at most; see ``block_of``.
    """
    import onnx

    from edgelr.lowrank.graph_file import write_graph

    proto = onnx.load(source)
    graphs = [proto.graph, *(inner for _, inner in subgraphs(proto.graph))]
    rows = {tensor.name: tensor.dims[0] for graph in graphs for tensor in graph.initializer if tensor.dims}
    every = [node for graph in graphs for node in graph.node]
    sizes = {
        node.name: block_of(rows[node.input[1]], block_size)
        for node in every
        if node.op_type == "MatMul" and node.input[1] in rows and (nodes is None or node.name in nodes)
    }
    for size in sorted(set(sizes.values())):
        others = [node.name for node in every if sizes.get(node.name) != size]
        proto = _in_blocks(proto, others, bits, size)
    _store_once(proto.graph)
    write_graph(proto, target)


def _in_blocks(proto: Any, others: Sequence[str], bits: Literal[4, 8], block_size: int) -> Any:  # noqa: ANN401
    with quiet():
        from onnxruntime.quantization import matmul_nbits_quantizer as nbits

        config = nbits.DefaultWeightOnlyQuantConfig(
            block_size=block_size,
            is_symmetric=False,
            accuracy_level=_ACCURACY_LEVEL,
            op_types_to_quantize=("MatMul",),
            bits=bits,
        )
        quantizer = nbits.MatMulNBitsQuantizer(proto, bits=bits, nodes_to_exclude=others, algo_config=config)
        quantizer.process()
    return quantizer.model.model


def _store_once(graph: Any) -> None:  # noqa: ANN401 - onnx is not typed
    """Of a matrix that several nodes multiply by, the quantizer adds the same blocks for each of them."""
    first = {tensor.name: tensor for tensor in reversed(graph.initializer)}
    if len(first) < len(graph.initializer):
        kept = list(reversed(first.values()))
        del graph.initializer[:]
        graph.initializer.extend(kept)
