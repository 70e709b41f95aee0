"""Large constants that no scheme takes, such as the weights of convolutions and positions: stored as int8.

They are multiplied out again when a runtime loads the graph, by operators that it folds: only what has to be
shipped gets smaller. A kernel, a position or whatever else is one entry of the first long axis has a scale of
its own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelr.quantize.vocabulary import quantize_rows

SMALLEST = 2**13  # numbers; below this scales and nodes are not worth it


def store_as_int8(proto: Any, kept: Collection[str] = ()) -> int:  # noqa: ANN401 - onnx is not typed
    """Store every large fp32 constant as int8 with scales, in place.

    Args:
        proto: An ``onnx.ModelProto`` with its weights inside, after the quantizer of matrices.
        kept: Names of constants that stay as they are.

    Returns:
        How many constants were replaced.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, large = proto.graph, large_constants(proto, kept)
    made = []
    for tensor in large:
        values = numpy_helper.to_array(tensor)
        whole, scales = _rounded(values)
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(whole, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
        made += [
            helper.make_node(
                "Cast", [f"{name}.int8"], [f"{name}.float"], to=TensorProto.FLOAT, name=f"{name}.cast"
            ),
            helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [name], name=f"{name}.dequantize"),
        ]
    for at, node in enumerate(made):
        graph.node.insert(at, node)
    return len(large)


def large_constants(proto: Any, kept: Collection[str] = ()) -> list[Any]:  # noqa: ANN401 - onnx is not typed
    """The fp32 constants that are large enough to be stored as int8.

    Args:
        proto: An ``onnx.ModelProto``.
        kept: Names of constants that stay as they are.
    """
    from onnx import TensorProto

    outputs = {value.name for value in proto.graph.output}
    return [
        tensor
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
        and int(np.prod(tensor.dims)) >= SMALLEST
        and sum(size > 1 for size in tensor.dims) >= 2
        and tensor.name not in outputs
        and tensor.name not in kept
    ]


def _rounded(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers of the same shape, and scales that fit them.

    Args:
        values: ``[..., entries, ...]``: ones, then the axis whose entries have a scale each, then all else.
    """
    lead = next(axis for axis, size in enumerate(values.shape) if size > 1)
    rows, scales = quantize_rows(values.reshape(values.shape[lead], -1))
    shape = [1] * values.ndim
    shape[lead] = values.shape[lead]
    return rows.reshape(values.shape), scales.reshape(shape)
