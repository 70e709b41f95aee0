"""Scheme ``int8-static``: int8 weights and activations, whose ranges are known before the graph runs.

Nothing is measured while running, so that it is the scheme of hardware that cannot, and saves the CPU a pass
over every activation. What calibration data did not show is cut off: int8-dynamic is the safer of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.pairs import use_pairs
from edgelr.quantize.quiet import quiet

Method = Literal["minmax", "entropy", "percentile"]
Feeds = Mapping[str, NDArray[np.generic]]
"""Input name -> array: one call of a graph."""

_RANGED = 64  # calls, evenly over the data: more hardly widen a range, and each keeps all values of the graph


def quantize_static_matrices(
    source: Path, target: Path, nodes: Sequence[str], feeds: Sequence[Feeds], method: Method
) -> None:
    """Quantize products with a constant matrix, what they read as well, by ONNX Runtime's own quantizer.

    Outputs stay fp32: what follows a product in a transformer (bias, softmax, normalization, residual sums)
    does not survive 8 bits a tensor, and ONNX Runtime fuses a product without a quantized output as well.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        nodes: Names of those to quantize, at least one.
        feeds: Calibration data, at least one call.
        method: How a range is found.
    """
    from onnxruntime.quantization import QuantType

    calibrated_qdq(
        source,
        target,
        nodes,
        feeds,
        method,
        activation_type=QuantType.QUInt8,
        # As for int8-dynamic: the products of 8 bits saturate in the same way.
        reduce_range=True,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
    )
    use_pairs(source, target)


def calibrated_qdq(  # noqa: PLR0913 - what the quantizer wants to know
    source: Path,
    target: Path,
    nodes: Sequence[str],
    feeds: Sequence[Feeds],
    method: Method,
    *,
    activation_type: Any,  # noqa: ANN401 - a QuantType
    reduce_range: bool,
    extra_options: Mapping[str, Any],
) -> None:
    """Put QuantizeLinear and DequantizeLinear around products; weights are int8, a scale a channel.

    Args:
        source: The fp32 graph.
        target: Where to write the quantized one.
        nodes: Names of those to quantize, at least one.
        feeds: Calibration data, at least one call.
        method: How a range is found.
        activation_type: Of what is multiplied.
        reduce_range: Whether weights use 7 bits.
        extra_options: As of ``quantize_static``.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    from edgelr.lowrank.graph_file import is_large

    proto = onnx.load(source)
    _say_types(proto, set(nodes))
    with quiet():
        quantize_static(
            proto,
            target,
            calibration_reader(feeds),
            quant_format=QuantFormat.QDQ,
            # All others lose more than they save in a transformer: cosine 0.4 to 0.8 with the default list.
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(nodes),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=activation_type,
            weight_type=QuantType.QInt8,
            calibrate_method=calibrators()[method],
            use_external_data_format=is_large(source),
            extra_options={
                **extra_options,
                "CalibTensorRangeSymmetric": False,
                "CalibStridedMinMax": 1,  # one call after the other: all outputs of all would fill the memory
            },
        )


def calibrators() -> dict[Method, Any]:
    """How ONNX Runtime calls the ways to find a range."""
    from onnxruntime.quantization import CalibrationMethod

    return {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }


def calibration_reader(feeds: Sequence[Feeds]) -> _Reader:
    """Calibration data as the quantizer asks for it: so many of the calls, evenly over all.

    Args:
        feeds: One entry a call.
    """
    taken = min(len(feeds), _RANGED)
    return _Reader([feeds[number * len(feeds) // taken] for number in range(taken)])


class _Reader:
    """Calibration data as the quantizer asks for it.

    Args:
        feeds: One entry a call.
    """

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._feeds = feeds
        self.set_range(0, len(feeds))

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give only these from now on."""
        self._left = list(self._feeds[start_index:end_index])

    def get_next(self) -> Feeds | None:
        """The next call; None when there is none."""
        return self._left.pop(0) if self._left else None


def _say_types(proto: Any, nodes: set[str]) -> None:  # noqa: ANN401 - onnx is not typed
    """Declare what is to be calibrated: shape inference ends at operators of ONNX Runtime's own."""
    from onnx import TensorProto, ValueInfoProto

    constants = {tensor.name for tensor in proto.graph.initializer}
    known = {value.name for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)}
    read = {
        name: None
        for node in proto.graph.node
        if node.name in nodes
        for name in (*node.input, *node.output)
        if name not in constants | known
    }
    for name in read:
        value = ValueInfoProto(name=name)
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        proto.graph.value_info.append(value)
