"""Scheme ``a16w8``: 16-bit activations and int8 weights, what neural processors multiply natively.

A CPU has no kernel for it and multiplies in fp32: there the scheme is for testing what an NPU will compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgelr.quantize.static import Feeds, Method, calibrated_qdq
from edgelr.quantize.whole import is_plain, quantize_whole


def quantize_wide(
    source: Path, target: Path, nodes: Sequence[str], feeds: Sequence[Feeds], method: Method
) -> None:
    """Quantize products with a constant matrix, what they read and what they give, by ONNX Runtime itself.

    Outputs are quantized too: an NPU takes a product only whole, and 16 bits are enough for what follows. A
    graph of ONNX's own operators, all of whose products are in ``nodes``, is quantized from input to output.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        nodes: Names of those to quantize, at least one.
        feeds: Calibration data, at least one call.
        method: How a range is found.
    """
    import onnx
    from onnxruntime.quantization import QuantType

    if is_plain(onnx.load(source, load_external_data=False), nodes):
        quantize_whole(source, target, feeds, method)
        return
    calibrated_qdq(
        source,
        target,
        nodes,
        feeds,
        method,
        activation_type=QuantType.QUInt16,
        reduce_range=False,
        extra_options={},
    )
