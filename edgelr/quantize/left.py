"""What of a quantized graph is still fp32, and why: counted in the file, not by what was meant to happen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelr.quantize.choice import Choices
from edgelr.quantize.layers import Layer, float_constants
from edgelr.quantize.vocabulary import SMALLEST_TABLE
from edgelr.runtime.subgraphs import read_inside, subgraphs

MOST_SHARE = 0.05  # of the weights' bytes, without a reason that someone gave
VECTORS = "biases, norms and other vectors"


@dataclass(frozen=True, kw_only=True)
class Left:
    """Weights that stayed fp32.

    Attributes:
        name: The layer; or what they are, for those of none.
        bytes: As many.
        reason: Why.
        stated: Whether the recipe or accuracy control wanted it so.
    """

    name: str
    bytes: int
    reason: str
    stated: bool


def fp32_left(
    before: Path, after: Path, layers: Sequence[Layer], choices: Choices, islands: Sequence[str]
) -> tuple[Left, ...]:
    """List what is fp32 in both graphs, most bytes first.

    Args:
        before: The fp32 graph.
        after: The quantized one. What only it has are scales.
        layers: Of the fp32 graph.
        choices: What each layer was to become.
        islands: Layers that stayed fp32 because fp16 overflows.
    """
    import onnx

    graph = onnx.load(after, load_external_data=False).graph
    old, new = (_floats(onnx.load(path, load_external_data=False).graph) for path in (before, after))
    both = {name: size for name, size in new.items() if name in old}
    owners = {layer.matrix: layer for layer in layers}
    found = []
    vectors = 0
    matrices = float_constants(graph)
    inside = {tensor.name for _, inner in subgraphs(graph) for tensor in inner.initializer}
    inside |= read_inside(graph)
    for name, size in both.items():
        if name in owners:
            reason, stated = _reason(owners[name], choices, islands)
            found.append(Left(name=owners[name].name, bytes=size, reason=reason, stated=stated))
        elif name in inside:
            found.append(Left(name=name, bytes=size, reason="read by a branch or a loop", stated=False))
        elif name in matrices:
            found.append(Left(name=name, bytes=size, reason="no product or table", stated=False))
        else:
            vectors += size
    if vectors:
        found.append(Left(name=VECTORS, bytes=vectors, reason="no scheme takes them", stated=False))
    return tuple(sorted(found, key=lambda left: (-left.bytes, left.name)))


def weight_bytes(path: Path) -> int:
    """Bytes of all fp32 constants of a graph."""
    import onnx

    return sum(_floats(onnx.load(path, load_external_data=False).graph).values())


def _floats(graph: Any) -> dict[str, int]:  # noqa: ANN401 - onnx is not typed
    from onnx import TensorProto

    tensors = [*graph.initializer, *(tensor for _, inner in subgraphs(graph) for tensor in inner.initializer)]
    return {
        tensor.name: 4 * math.prod(tensor.dims) for tensor in tensors if tensor.data_type == TensorProto.FLOAT
    }


def _reason(layer: Layer, choices: Choices, islands: Sequence[str]) -> tuple[str, bool]:
    choice = choices[layer.name]
    if choice.scheme == "fp32":
        return choice.reason, True
    if layer.name in islands:
        return "fp16 overflows", False
    if layer.kind == "table" and layer.numbers < SMALLEST_TABLE:
        return f"a table of fewer than {SMALLEST_TABLE} numbers", False
    return "another layer reads the same matrix", False
